"""What real slurmrestd servers answered, recorded: one file a case under tests/samples/."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_clusterra.api.answers import Answer

FOLDER = Path(__file__).parents[1] / "samples"
NEWEST = "26.05-v0.0.44"


def sample(name: str, version: str = NEWEST) -> Answer:
    """One recorded answer, e.g. ``sample("job_oom")``."""
    return read(FOLDER / version / f"{name}.json")


def read(path: Path) -> Answer:
    """The recorded answer of one file."""
    recorded = json.loads(path.read_text())
    if "body" not in recorded:
        return answer(recorded)
    body = recorded["body"]
    if isinstance(body, dict) and "__not_json__" in body:
        body = body["__not_json__"]
    request = recorded["request"]
    return answer(
        body,
        status=recorded["status"],
        headers=recorded["response_headers"],
        request=f"{request['method']} {request['path']}",
    )


def answer(
    body: object,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    request: str = "GET /v1/clusters/c1/jobs/9",
) -> Answer:
    """An answer made by hand; a str or bytes body goes as it is, anything else as JSON."""
    if isinstance(body, str):
        data = body.encode()
    elif isinstance(body, bytes):
        data = body
    else:
        data = json.dumps(body).encode()
    named = {name.lower(): value for name, value in (headers or {}).items()}
    return Answer(request, status, named, data)
