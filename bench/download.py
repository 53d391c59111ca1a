"""Downloads of a job's file beside ``curl`` from the same address: ``python -m bench.download [GiB]``.

One file of 2 GiB, unless told otherwise, to the same disk. Ours has its checksum as well, and so has
curl's where a checksum is made of what it writes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, run

from airflow_provider_clusterra.api import Access, Client, Download, JobSpec
from airflow_provider_clusterra.task.transfers import Transfer, download_all
from bench.figures import Figure, at_least, at_most, medians_of, ratio, show
from bench.process import memory_mib, reset_peak
from bench.upload import _seconds
from tests.support.servers import ClusterraServer

CURL = "curl -o"
SAME = "curl and sha256sum"
GIB = 2.0
RUNS = 3


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

        def curl(then: str = "") -> None:
            address = client.presign_file(server.cluster_id, job_id, "large").download_url
            words = f"curl -sf '{server.url}{address}' {then}>{folder}/curls"
            run(["/bin/bash", "-c", words], check=True, stderr=DEVNULL)

        def curl_with_checksum() -> None:
            curl("| tee >(sha256sum >/dev/null) ")

        reset_peak()
        before = memory_mib()
        mine, curls, with_checksum = medians_of(
            [_seconds(ours), _seconds(curl), _seconds(curl_with_checksum)], RUNS
        )
        grown = memory_mib(most=True) - before
    at = f"one file of {gibibytes:g} GiB"
    return [
        ratio("speed", with_checksum, mine, f"ours / {SAME}", at=at, target=at_least(0.9)),
        ratio("speed", curls, mine, "ours / curl -o", at=at),
        Figure(name="speed", value=size / mine / 1024**2, unit="MiB/s", at=at),
        Figure(name="speed", value=size / curls / 1024**2, unit="MiB/s", of=CURL, at=at),
        Figure(name="memory more", value=grown, unit="MiB", at=at, target=at_most(30)),
    ]


if __name__ == "__main__":
    show(measure(float(sys.argv[1]) if len(sys.argv) > 1 else GIB))
