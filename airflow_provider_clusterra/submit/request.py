"""What one submit asks for, before it has its tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_clusterra.submit.record import Kept
from airflow_provider_clusterra.submit.tag import Tag, tagged_name


class Request(msgspec.Struct, frozen=True):
    """A submit as an operator makes it."""

    body: Mapping[str, Any]
    """The submit's JSON body, in any of its three forms."""
    identity: Any
    """What the author asks for, as plain values: the same at every try, whatever is uploaded, grown
    or chosen for one of them."""
    name: str = ""
    """The job's name as the author has it; ``""`` where the job cannot carry a name of ours."""
    array: str = ""
    """The indices asked for, e.g. ``"0-99%10"``; ``""`` where it is no array."""
    kept: Kept = Kept()
    """What the next try needs to know of it."""

    def tagged(self, tag: Tag) -> Request:
        """The request whose job carries the tag, where it can carry a name.

        :param tag: of this try.
        """
        if not self.name:
            return self
        name = tagged_name(self.name, tag)
        return msgspec.structs.replace(self, name=name, body=_named(self.body, name))


def _named(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The body with this name: a raw job's, each component's of a het job, or a template's."""
    named = dict(body)
    if "jobs" in body:
        named["jobs"] = [{**job, "name": name} for job in body["jobs"]]
    elif "job" in body:
        named["job"] = {**body["job"], "name": name}
    else:
        named["params"] = {**body.get("params", {}), "job_name": name}
    return named
