"""Many triggers of one kind in one event loop, as a triggerer runs them.

``python -m bench.triggers SYSTEM URL JOBS FOLDER``: it says that it is ready, begins when it is
given a line, writes ``lag``, ``collections`` and ``events`` into the folder, and goes on until it or its
parent is ended. On SIGUSR2 it runs the garbage collector over everything, and writes ``collected``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

from bench.lag import written_collections, written_lag
from bench.process import end_with_the_parent
from bench.stub import FIRST
from bench.systems import SYSTEMS, Maker


async def _run(make: Maker, job_id: int, events: TextIO) -> None:
    async for _ in make(job_id).run():
        events.write(f"{job_id} {time.time()}\n")
        events.flush()
        return


def _collect(folder: Path) -> None:
    gc.collect()
    (folder / "collected").touch()


async def _run_all(make: Maker, count: int, folder: Path) -> None:
    with (folder / "events").open("w") as events, written_collections(folder / "collections"):
        async with written_lag(folder / "lag"):
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            end_with_the_parent()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _collect, folder)
            # what is logged all the same goes nowhere: a pipe that nobody reads would block the loop
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            async with asyncio.TaskGroup() as tasks:
                for job_id in range(FIRST, FIRST + count):
                    tasks.create_task(_run(make, job_id, events))
                    # as the triggerer does, and the first step of each is a turn of its own
                    await asyncio.sleep(0)
                (folder / "started").touch()


def main() -> None:
    """Run them."""
    system, url, count, folder = sys.argv[1:]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    make = SYSTEMS[system].prepare(url)
    make(0)
    asyncio.run(_run_all(make, int(count), Path(folder)))


if __name__ == "__main__":
    main()
