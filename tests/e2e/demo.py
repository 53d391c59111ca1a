"""What ``make demo`` runs: the main job, end to end, on a Clusterra and an Airflow of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from tests.e2e.rest import FINISHED, Rest
from tests.e2e.stack import AirflowStack, StackError
from tests.support.servers import ClusterraServer

ROOT = Path(__file__).parents[2]
DAG = "upload_then_run"
RUN_WITHIN = 180.0
LOG_LINES = 15


class Stopped(BaseException):
    """Ctrl-C or SIGTERM."""


class DemoError(Exception):
    """The demo did not come to its good end."""


def main() -> int:
    """Run the demo.

    :returns: 0 where the run succeeded, otherwise 1; 130 where it was stopped.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    home = ROOT / ".work" / "demo" / str(os.getpid())
    begin = time.monotonic()
    try:
        with _folder(home), ExitStack() as stack:
            _run(home, stack, begin)
    except Stopped:
        _say("Stopped.")
        return 130
    except (DemoError, StackError, RuntimeError, AssertionError, httpx.HTTPError) as exc:
        _say(f"\nThe demo failed: {exc}\nThe logs are kept in {home}")
        _show_ends_of_logs(home)
        return 1
    return 0


def _run(home: Path, stack: ExitStack, begin: float) -> None:
    _say("Starting a Clusterra and an Airflow of the demo's own ...")
    local = stack.enter_context(ClusterraServer(dir=home / "clusterra", cpus=2))
    _say(f"{_since(begin)}  Clusterra is up at {local.url}")
    airflow = stack.enter_context(AirflowStack(home / "airflow", ROOT / "example_dags"))
    _say(f"{_since(begin)}  Airflow is up at {airflow.url}")
    extra = json.dumps({"cluster_id": local.cluster_id})
    airflow.rest.add_connection(
        "clusterra_default", host=local.url, password=local.token, extra=extra
    )
    airflow.rest.wait_for_dags(DAG)
    run_id = airflow.rest.run_dag(DAG)
    _say(f"{_since(begin)}  The DAG {DAG} runs:")
    seen = _follow(airflow.rest, run_id, local, begin)
    _summarise(airflow.rest, run_id, seen)
    _show_page(local, airflow.rest.xcom(DAG, run_id, "run", "job_id"))
    if os.environ.get("KEEP"):
        _say(f"\nSign in to the page with the token {local.token}")
        _say(f"Airflow's UI is at {airflow.url}/dags/{DAG}. Press Ctrl-C to stop everything.")
        signal.pause()
    _say(f"\nDone in {time.monotonic() - begin:.0f} s.")


def _follow(rest: Rest, run_id: str, local: ClusterraServer, begin: float) -> set[str]:
    """Show what happens, until the run is over.

    :returns: every ``task:state`` that was seen.
    """
    seen: set[str] = set()
    output = Output(local)
    end = time.monotonic() + RUN_WITHIN
    while time.monotonic() < end:
        over = rest.run_state(DAG, run_id) in FINISHED
        for row in sorted(rest.tasks(DAG, run_id), key=lambda row: row["start_date"] or "~"):
            word = f"{row['task_id']}:{row['state']}"
            if row["state"] and word not in seen:
                seen.add(word)
                _say(f"{_since(begin)}  {row['task_id']:<12} {row['state']}")
        output.show(rest.xcom(DAG, run_id, "run", "job_id"))
        if over:
            return seen
        time.sleep(0.5)
    raise DemoError(f"the run did not end within {RUN_WITHIN:.0f} s")


class Output:
    """A job's output, line by line as it comes."""

    def __init__(self, local: ClusterraServer) -> None:
        self._http = httpx.Client(
            base_url=f"{local.url}/v1/clusters/{local.cluster_id}",
            headers={"Cookie": f"clusterra_session={local.token}"},
        )
        self._shown = 0

    def show(self, job_id: int | None) -> None:
        """Print the lines that have come since."""
        if job_id is None:
            return
        answer = self._http.get(f"/jobs/{job_id}/output")
        text = answer.text if answer.status_code == 200 else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole[self._shown :].splitlines():
            _say(f"           | {line}")
        self._shown = len(whole)


def _summarise(rest: Rest, run_id: str, seen: set[str]) -> None:
    rows = sorted(rest.tasks(DAG, run_id), key=lambda row: row["start_date"] or "~")
    _say("\ntask         state     seconds")
    for row in rows:
        _say(f"{row['task_id']:<12} {row['state'] or '-':<9} {row['duration'] or 0:7.1f}")
    bad = [row["task_id"] for row in rows if row["state"] != "success"]
    if bad:
        _say(f"\nThe log of {bad[0]}:\n{_end_of(rest.task_log(DAG, run_id, bad[0]))}")
        raise DemoError(f"{', '.join(bad)} did not succeed")
    if "run:deferred" not in seen:
        raise DemoError("the task run was never seen deferred")
    job: dict[str, Any] = rest.xcom(DAG, run_id, "wait")
    _say(f"\njob          {job['job_id']} ({job['name']}) ended {job['state']}")
    _say(f"ran          {job['ran_seconds']:.0f} s on {job['nodes']}")
    receipts = re.findall(rf"Job {job['job_id']} used .*", rest.task_log(DAG, run_id, "wait"))
    if not receipts:
        raise DemoError("the log of the task wait does not say what the job used")
    _say(f"receipt      {receipts[0]}")
    _say(f"result       {json.dumps(job['output'])}")
    _say(f"report       {rest.xcom(DAG, run_id, 'report')}")


def _show_page(local: ClusterraServer, job_id: int) -> None:
    """Say where the job's page is, once it has been seen to be there."""
    address = f"{local.url}/manage/{local.cluster_id}/jobs/{job_id}"
    page = httpx.get(address, headers={"Authorization": f"Bearer {local.token}"})
    if page.status_code != 200:
        raise DemoError(f"{address} answers {page.status_code}")
    _say(f"page         {address}")


def _show_ends_of_logs(home: Path) -> None:
    for log in sorted(home.glob("airflow/*.log")):
        if log.stat().st_size:
            _say(f"\n{log}:\n{_end_of(log.read_text(errors='replace'))}")


def _end_of(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-LOG_LINES:])


@contextmanager
def _folder(home: Path) -> Iterator[None]:
    """A folder that is there for the demo, and afterwards only where it failed."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except Exception:
        raise  # its logs are to be read
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    shutil.rmtree(home, ignore_errors=True)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def _since(begin: float) -> str:
    return f"{time.monotonic() - begin:6.1f} s"


def _say(words: str) -> None:
    print(words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
