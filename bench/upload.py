"""Uploads beside ``curl`` to the same endpoint: ``python -m bench.upload [GiB [FILES]]``.

One file of 1 GiB, and 1000 small files, unless told otherwise. For the small ones ``curl`` does what we
do: it asks for each address, then sends each file; all of each kind by one process of it, which keeps
its connections.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import run

from airflow_provider_clusterra.api import Access, Client
from airflow_provider_clusterra.task.inputs import find_files, upload_all
from bench.figures import OURS, RUNS, Figure, at_least, at_most, medians_of, ratio, show
from bench.process import memory_mib, reset_peak
from tests.support.servers import ClusterraServer

CURL = "curl -T"
LARGE_GIB = 1.0
LARGE_RUNS = 5
FILES = 1000
SMALL = 16 * 1024
SMALL_RUNS = RUNS


class Uploads:
    """One server, one folder of files, and both ways to send them.

    :param server: with its storage.
    :param client: signed in to it.
    :param folder: for the files.
    """

    def __init__(self, server: ClusterraServer, client: Client, folder: Path) -> None:
        self._server = server
        self._client = client
        self._folder = folder

    def file(self, name: str, size: int) -> Path:
        """A new file.

        :param name: in the folder.
        :param size: bytes.
        """
        path = self._folder / name
        piece = bytes(range(256)) * 4096
        with path.open("wb") as file:
            for at in range(0, size, len(piece)):
                file.write(piece[: size - at])
        return path

    def ours(self, path: Path) -> None:
        """One file, as the operator sends it.

        :param path: the file.
        """
        size = path.stat().st_size
        cluster = self._server.cluster_id
        self._client.upload_file(cluster, path.name, "data", size, lambda: path.open("rb"))

    def ours_all(self, paths: list[Path]) -> None:
        """Many files, as the operator sends them.

        :param paths: the files.
        """
        files = find_files([str(path) for path in paths], None)
        upload_all(self._client, self._server.cluster_id, files, "data")

    def curl(self, path: Path) -> None:
        """One file through ``curl -T``, to an address that is at hand.

        :param path: the file.
        """
        grant = self._client.presign_upload(self._server.cluster_id, "curls", "data")
        run(["curl", "-sf", "-o", "/dev/null", "-T", str(path), grant.upload_url], check=True)

    def curl_all(self, paths: list[Path]) -> None:
        """Many files through two processes of curl.

        :param paths: the files.
        """
        answers = self._folder / "answers"
        answers.mkdir(exist_ok=True)
        url = f"{self._server.url}/v1/clusters/{self._server.cluster_id}/storage/presigned-url"
        self._curl_config(
            [
                f'url = "{url}"\nheader = "Authorization: Bearer {self._server.token}"\n'
                f'json = "{{\\"filename\\": \\"{path.name}\\", \\"location\\": \\"data\\"}}"\n'
                f'output = "{answers / path.name}"'
                for path in paths
            ]
        )
        urls = [json.loads((answers / path.name).read_bytes())["upload_url"] for path in paths]
        self._curl_config(
            [
                f'url = "{url}"\nupload-file = "{path}"\noutput = "/dev/null"'
                for path, url in zip(paths, urls, strict=True)
            ]
        )

    def _curl_config(self, transfers: list[str]) -> None:
        config = self._folder / "config"
        config.write_text("\nnext\n".join(f"silent\nfail\n{each}" for each in transfers))
        run(["curl", "-K", str(config)], check=True)


def _seconds(action: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        action()
        return time.perf_counter() - begin

    return timed


def measure(gibibytes: float = LARGE_GIB, files: int = FILES) -> list[Figure]:
    """A large file, and many small ones.

    :param gibibytes: the large file's size.
    :param files: how many small ones.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        ClusterraServer(dir=f"{folder}/server") as server,
        Client(Access(server.url, server.token)) as client,
    ):
        uploads = Uploads(server, client, Path(folder))
        # what the first upload loads is not the upload's
        uploads.ours(uploads.file("empty", 0))
        return [*_large(uploads, gibibytes), *_small(uploads, files)]


def _large(uploads: Uploads, gibibytes: float) -> list[Figure]:
    size = int(gibibytes * 1024**3)
    path = uploads.file("large", size)
    actions = [_seconds(lambda: uploads.ours(path)), _seconds(lambda: uploads.curl(path))]
    # the storage's files take memory that a virtual machine's host has yet to bring
    medians_of(actions, runs=1)
    reset_peak()
    before = memory_mib()
    ours, curls = medians_of(actions, LARGE_RUNS)
    grown = memory_mib(most=True) - before
    path.unlink()
    at = f"one file of {gibibytes:g} GiB"
    return [
        ratio("speed", curls, ours, "ours / curl -T", at=at, target=at_least(0.9)),
        Figure(name="speed", value=size / ours / 1024**2, unit="MiB/s", at=at),
        Figure(name="speed", value=size / curls / 1024**2, unit="MiB/s", of=CURL, at=at),
        Figure(name="memory more", value=grown, unit="MiB", at=at, target=at_most(30)),
    ]


def _small(uploads: Uploads, files: int) -> list[Figure]:
    paths = [uploads.file(f"small_{number}", SMALL) for number in range(files)]

    mine, curls = medians_of(
        [_seconds(lambda: uploads.ours_all(paths)), _seconds(lambda: uploads.curl_all(paths))],
        SMALL_RUNS,
    )
    at = f"{files} files of {SMALL // 1024} KiB"
    return [
        ratio("speed", curls, mine, "ours / curl -T", at=at, target=at_least(1.2)),
        *(
            Figure(name="speed", value=files / seconds, unit="files/s", of=of, at=at)
            for of, seconds in ((OURS, mine), (CURL, curls))
        ),
    ]


if __name__ == "__main__":
    show(
        measure(
            float(sys.argv[1]) if len(sys.argv) > 1 else LARGE_GIB,
            int(sys.argv[2]) if len(sys.argv) > 2 else FILES,
        )
    )
