"""How fast a real Slurm takes jobs: through ``clusterra-server``, and from its slurmrestd directly.

``python -m bench.slurm``. The Slurm is that of ``make test-slurm``, which is set up first where it is not
there: root on Debian, and a minute. Elsewhere there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from airflow_provider_clusterra.api import Access, Client
from airflow_provider_clusterra.api.client import tls_context
from bench.figures import Figure, at_least, medians_of, ratio, show
from bench.workers import WORKERS, rate
from tests.slurm import chroot
from tests.slurm.lab import Lab

NAME = "jobs submitted, to a real Slurm"
AT = f"{WORKERS} workers"
THROUGH, DIRECTLY = "clusterra-server", "slurmrestd"
VERSION = "v0.0.44"
JOBS = 160
SCRIPT = "#!/bin/bash\ntrue\n"


def why_not() -> str:
    """Why there can be no Slurm to measure here; empty where there can."""
    if why := chroot.why_not():
        return why
    try:
        chroot.mirror()
    except chroot.LabError as error:
        return str(error)
    return ""


def measure() -> list[Figure]:
    """Both rates, in turns."""
    if why := why_not():
        return [Figure(name=NAME, value=None, of=THROUGH, at=AT, note=why)]
    with Lab() as lab, lab.front() as server:
        try:
            through, directly = _rates(lab, Access(server.url, server.token), server.cluster_id)
        finally:
            lab.run("scancel", "--name=bench")
    return [
        ratio(NAME, through, directly, f"{THROUGH} / {DIRECTLY}", at=AT, target=at_least(0.8)),
        Figure(name=NAME, value=through, unit="jobs/s", of=THROUGH, at=AT),
        Figure(name=NAME, value=directly, unit="jobs/s", of=DIRECTLY, at=AT),
    ]


def _rates(lab: Lab, access: Access, cluster_id: str) -> tuple[float, float]:
    body = {
        "script": SCRIPT,
        "job": {
            "name": "bench",
            # so that Slurm is busy with submits only
            "hold": True,
            "current_working_directory": str(lab.shared),
            "environment": ["PATH=/usr/bin:/bin"],
        },
    }

    @contextmanager
    def through() -> Iterator[Callable[[], object]]:
        with Client(access) as client:
            yield lambda: client.submit_job(cluster_id, body)

    @contextmanager
    def directly() -> Iterator[Callable[[], object]]:
        token = lab.token_file().read_text().strip().removeprefix("SLURM_JWT=")
        headers = {"X-SLURM-USER-TOKEN": token}
        # made once, as our own client's: reading the certificates takes longer than twenty submits
        tls = tls_context(verify=True)
        with httpx.Client(base_url=lab.url, headers=headers, timeout=60, verify=tls) as http:
            yield lambda: _post(http, body)

    # the first ones load and look up what the others find
    rate(through, WORKERS)
    rate(directly, WORKERS)
    slow, fast = medians_of([lambda: 1 / rate(through, JOBS), lambda: 1 / rate(directly, JOBS)])
    return 1 / slow, 1 / fast


def _post(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post(f"/slurm/{VERSION}/job/submit", json=body)
    if answer.is_error or not answer.json().get("job_id"):
        raise RuntimeError(f"{answer.status_code} {answer.text[:300]}")


if __name__ == "__main__":
    show(measure())
