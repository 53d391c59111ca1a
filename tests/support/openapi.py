"""Values made from a slurmrestd's OpenAPI document, for tests that read any answer it may give.

``python -m tests.support.openapi OPENAPI.json`` keeps of a document what the tests use.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DOCUMENT = Path(__file__).parents[1] / "samples" / "openapi-v0.0.44.json"
VERSION = "v0.0.44"
RESPONSES = {
    "submit": f"{VERSION}_openapi_job_submit_response",
    "job": f"{VERSION}_openapi_job_info_resp",
    "cancel": f"{VERSION}_openapi_kill_job_resp",
    "states": f"{VERSION}_openapi_job_info_resp",
    "nodes": f"{VERSION}_openapi_nodes_resp",
    "stats": f"{VERSION}_openapi_diag_resp",
}
PLAIN = {
    "string": st.text(max_size=8),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**70), 2**70),
    "number": st.floats(allow_nan=False, allow_infinity=False),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=3,
)


@cache
def schemas() -> dict[str, Any]:
    """The document's schemas by name."""
    return json.loads(DOCUMENT.read_text())


@cache
def answers(kind: str) -> st.SearchStrategy[Any]:
    """Any body of one kind of response, and now and then something else in one of its places."""
    properties = schemas()[RESPONSES[kind]]["properties"]
    return st.fixed_dictionaries(
        {name: values(json.dumps(properties[name])) for name in properties}
    )


@cache
def values(schema_text: str) -> st.SearchStrategy[Any]:
    """Any value of a schema, which is given as JSON so that each is made once."""
    schema = json.loads(schema_text)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.deferred(lambda: values(json.dumps(schemas()[name])))
    # one place in twenty holds something else
    return st.integers(0, 19).flatmap(lambda draw: _proper(schema) if draw else JUNK)


def _proper(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "array":
        return st.lists(values(json.dumps(schema.get("items", {}))), max_size=2)
    properties = schema.get("properties")
    if properties:
        return st.fixed_dictionaries(
            {}, optional={name: values(json.dumps(each)) for name, each in properties.items()}
        )
    return PLAIN.get(schema.get("type", ""), JUNK)


def main() -> None:
    """Keep the schemas that the responses need, without their descriptions."""
    document = json.loads(Path(sys.argv[1]).read_text())
    known = document.get("body", document)["components"]["schemas"]
    kept: dict[str, Any] = {}
    wanted = list(RESPONSES.values())
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = _without_words(known[name])
            found = json.dumps(kept[name]).split('"$ref": "#/components/schemas/')[1:]
            wanted += [each.partition('"')[0] for each in found]
    DOCUMENT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # a property may be called so, too
    return {
        name: _without_words(each)
        for name, each in schema.items()
        if name not in ("description", "example") or isinstance(each, dict)
    }


if __name__ == "__main__":
    main()
