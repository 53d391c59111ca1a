"""What both clients give httpx."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from airflow_provider_clusterra.api.access import Access, is_loopback, tls_context

CONNECT_TIMEOUT = 10.0


def api_settings(access: Access) -> dict[str, Any]:
    """For the API's own origin. Redirects are not followed: a session stays with its origin.

    :param access: the address and the session, which each request brings itself.
    """
    return {
        **bare_settings(access),
        "base_url": access.origin,
        # another machine's proxy would be given the session as plain text, and cannot reach us
        "trust_env": not is_loopback(httpx.URL(access.origin).host),
        # whoever asks for much at once says how much; nobody waits for a connection
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=20),
    }


def bare_settings(access: Access) -> dict[str, Any]:
    """For another origin, such as the storage's: nothing of the session.

    :param access: how certificates are checked, and how long is waited.
    """
    return {
        "verify": tls_context(access.verify),
        "timeout": httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout)),
        "follow_redirects": False,
        # no answer's cookie goes out again
        "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    }


def patient(access: Access) -> httpx.Timeout:
    """For a stream, which may be silent for as long as a job is.

    :param access: how long is waited for its beginning.
    """
    return httpx.Timeout(access.timeout, connect=min(CONNECT_TIMEOUT, access.timeout), read=None)
