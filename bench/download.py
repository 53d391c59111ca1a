"""Downloads of a job's file beside ``curl`` from the same address: ``python -m bench.download [GiB]``.

One file of 1 GiB, unless told otherwise, to the same disk, where it is new. Ours has its checksum as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import run

from airflow_provider_clusterra.api import Access, Client, Download, JobSpec
from airflow_provider_clusterra.task.transfers import Transfer, download_all
from bench.figures import Figure, at_least, at_most, medians_of, ratio, show
from bench.process import memory_mib, reset_peak
from bench.upload import _seconds
from tests.support.servers import ClusterraServer

CURL = "curl -o"
GIB = 1.0
RUNS = 5


def measure(gibibytes: float = GIB) -> list[Figure]:
    """A large file.

    :param gibibytes: its size.
    """
    size = int(gibibytes * 1024**3)
    with (
        tempfile.TemporaryDirectory() as folder,
        ClusterraServer(dir=f"{folder}/server") as server,
        Client(Access(server.url, server.token)) as client,
    ):
        script = f"#!/bin/sh\nyes 0123456789 | head -c {size} >large\n"
        body = JobSpec(script=script, name="large").body()
        job_id = client.submit_job(server.cluster_id, body).job_id
        while not client.get_job(server.cluster_id, job_id).state.ended:
            time.sleep(0.2)

        def ours() -> None:
            file = Download(
                "large", lambda: client.presign_file(server.cluster_id, job_id, "large")
            )
            download_all(client, [Transfer(file, Path(folder, "ours"), size)])

        def curl() -> None:
            address = client.presign_file(server.cluster_id, job_id, "large").download_url
            run(["curl", "-sf", f"{server.url}{address}", "-o", f"{folder}/curls"], check=True)

        def to_a_new_file(action: Callable[[], object]) -> Callable[[], float]:
            def measured() -> float:
                # what an old one has left to do for the disk is no part of it
                for name in ("ours", "curls"):
                    Path(folder, name).unlink(missing_ok=True)
                os.sync()
                return _seconds(action)()

            return measured

        reset_peak()
        before = memory_mib()
        mine, curls = medians_of([to_a_new_file(ours), to_a_new_file(curl)], RUNS)
        grown = memory_mib(most=True) - before
    at = f"one file of {gibibytes:g} GiB"
    return [
        ratio("speed", curls, mine, f"ours / {CURL}", at=at, target=at_least(0.9)),
        Figure(name="speed", value=size / mine / 1024**2, unit="MiB/s", at=at),
        Figure(name="speed", value=size / curls / 1024**2, unit="MiB/s", of=CURL, at=at),
        Figure(name="memory more", value=grown, unit="MiB", at=at, target=at_most(30)),
    ]


if __name__ == "__main__":
    show(measure(float(sys.argv[1]) if len(sys.argv) > 1 else GIB))
