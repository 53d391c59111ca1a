"""Downloads of a job's file beside ``curl`` from the same address: ``python -m bench.download [GiB]``.

One file of 1 GiB, unless told otherwise, to the same disk, where it is new. Ours has its checksum as well.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import run

from airflow_provider_clusterra.api import Access, Client, Download, JobSpec
from airflow_provider_clusterra.task.transfers import Transfer, download_all
from bench.figures import OURS, Figure, at_least, at_most, medians_of, ratio, show
from bench.process import memory_mib, reset_peak
from bench.upload import _seconds
from tests.support.servers import ClusterraServer

CURL = "curl -o"
GIB = 1.0
WARM_UP, RUNS = 1, 7


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

        cpu: dict[str, list[float]] = {OURS: [], CURL: []}

        def to_a_new_file(whose: str, action: Callable[[], object]) -> Callable[[], float]:
            def measured() -> float:
                # what an old one has left to do for the disk is no part of it
                for name in ("ours", "curls"):
                    Path(folder, name).unlink(missing_ok=True)
                os.sync()
                before = sum(os.times()[:4])
                seconds = _seconds(action)()
                cpu[whose].append(sum(os.times()[:4]) - before)
                return seconds

            return measured

        actions = [to_a_new_file(OURS, ours), to_a_new_file(CURL, curl)]
        # a virtual machine's host brings memory that it has taken back, or never given, at the first
        # write to it, which then takes up to ten times as long
        medians_of(actions, WARM_UP)
        for each in cpu.values():
            each.clear()
        reset_peak()
        before = memory_mib()
        mine, curls = medians_of(actions, RUNS)
        grown = memory_mib(most=True) - before
    at = f"one file of {gibibytes:g} GiB"
    return [
        ratio("speed", curls, mine, f"ours / {CURL}", at=at, target=at_least(0.9)),
        Figure(name="speed", value=size / mine / 1024**2, unit="MiB/s", at=at),
        Figure(name="speed", value=size / curls / 1024**2, unit="MiB/s", of=CURL, at=at),
        *(
            Figure(name="CPU", value=statistics.median(seconds), unit="s", of=of, at=at)
            for of, seconds in cpu.items()
        ),
        Figure(name="memory more", value=grown, unit="MiB", at=at, target=at_most(30)),
    ]


if __name__ == "__main__":
    show(measure(float(sys.argv[1]) if len(sys.argv) > 1 else GIB))
