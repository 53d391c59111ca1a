"""An upload's speed and memory, beside ``curl -T`` to the same endpoint.

``python -m bench.upload [GiB]``: a file of 2 GiB unless told otherwise, the best of three each.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from airflow_provider_clusterra.api import Access, Client
from tests.servers import LocalServer

RUNS = 3


def main() -> None:
    """Print the figures."""
    gibibytes = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    with tempfile.TemporaryDirectory() as folder, LocalServer() as server:
        path = Path(folder, "large")
        size = int(gibibytes * 1024**3)
        piece = bytes(range(256)) * 4096
        with path.open("wb") as file:
            for _ in range(size // len(piece)):
                file.write(piece)
        size = path.stat().st_size
        with Client(Access(server.url, server.token)) as client:

            def ours() -> None:
                client.upload_file(server.cluster_id, "ours", "data", size, lambda: path.open("rb"))

            def curls() -> None:
                grant = client.presign_upload(server.cluster_id, "curls", "data")
                command = ["curl", "-sf", "-o", "/dev/null", "-T", str(path), grant.upload_url]
                subprocess.run(command, check=True)

            empty = Path("/dev/null")
            client.upload_file(
                server.cluster_id, "empty", "data", 0, lambda: empty.open("rb")
            )  # what the first upload loads is not the upload's
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            best = [min(_seconds(each) for _ in range(RUNS)) for each in (ours, curls)]
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    speeds = [size / seconds / 1024**2 for seconds in best]
    print(f"ours {speeds[0]:.0f} MiB/s, curl -T {speeds[1]:.0f} MiB/s: {speeds[0] / speeds[1]:.2f}")
    print(f"memory grew by {grown:.1f} MiB")


def _seconds(action: object) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
