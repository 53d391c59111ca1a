"""Both clients behind one fixture."""

import asyncio
from contextlib import ExitStack

import pytest

from airflow_provider_clusterra.api import Access, AsyncClient, Client, Retry

QUICK = Retry(tries=3, first=0.001, cap=0.001)


class Driven:
    """An AsyncClient for a test that waits: each method runs to its end in a loop of its own."""

    def __init__(self, access, retry):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(access, retry=retry)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))

    def close(self):
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Makes a client, of either kind, to an address."""
    with ExitStack() as stack:

        def make(url, secret="s3cret-cookie", retry=QUICK, **fields):
            access = Access(url, secret, **fields)
            kind = Client if request.param == "sync" else Driven
            client = kind(access, retry=retry)
            stack.callback(client.close)
            return client

        yield make
