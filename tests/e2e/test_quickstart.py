"""The quickstart without an account, followed by the letter with Airflow's own ``standalone``."""

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.rest import Rest, until
from tests.e2e.stack import MARKER, free_port
from tests.support.servers import processes_with

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(), re.DOTALL)
INSTALLED = re.compile(r"^ *(python3 -m venv|\. quickstart|pip install).*\n", re.MULTILINE)
"""What this environment has already."""
ENDS_WITHIN = 20.0


@pytest.fixture
def terminal(tmp_path):
    """Runs a block of commands with a home of its own; what it starts ends with the test."""
    name = uuid.uuid4().hex
    port = str(free_port())
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
        MARKER: name,
        "SPT_NOENV": "1",
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "10",
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    started = []

    def left():
        return processes_with(f"{MARKER}={name}")

    def start(block, log, pasted=""):
        with (tmp_path / log).open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"{pasted}\n{block}"],  # noqa: S607 - as a person has it
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        started.append(process)
        return process

    start.home, start.url = tmp_path, f"http://127.0.0.1:{port}"
    yield start
    for process in started:
        with suppress(ProcessLookupError):
            # asked first: the server ends its storage, which has an environment of its own
            os.killpg(process.pid, signal.SIGTERM)
    with suppress(AssertionError):
        until(lambda: not left(), ENDS_WITHIN, lambda: "")
    for pid in left():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.wait()
    until(lambda: not left(), 30, lambda: "Airflow does not end")


def is_up(rest):
    try:
        return {*rest.health().values()} == {"healthy"}
    except (httpx.HTTPError, ValueError):
        return False


def test_the_quickstart_works_by_the_letter(terminal):
    install, serve, folder, standalone = (INSTALLED.sub("", block) for block in BLOCKS)
    assert install.strip() == ""
    # the documented port may be somebody's
    terminal(serve.replace("clusterra-server", "clusterra-server --port 0"), "server.log")
    said = terminal.home / "server.log"
    until(lambda: "export AIRFLOW_CONN" in said.read_text(), 30, said.read_text)
    connection = said.read_text().splitlines()[-1]
    assert terminal(folder, "folder.log").wait() == 0
    shutil.copy(ROOT / "example_dags/hello.py", terminal.home / "airflow/dags")
    terminal(standalone, "standalone.log", pasted=connection)
    with closing(Rest(terminal.url)) as rest:
        log = terminal.home / "standalone.log"
        until(lambda: is_up(rest), 180, lambda: log.read_text()[-3000:])
        rest.wait_for_dags("hello")
        # as the UI's trigger does
        rest._http_request("PATCH", "/api/v2/dags/hello", json={"is_paused": False})
        run_id = rest.run_dag("hello")
        rest.wait_for_task("hello", run_id, "hello", "success")
        result = rest.xcom("hello", run_id, "hello")
        seen = rest.task_log("hello", run_id, "hello")

    assert result["state"] == "COMPLETED"
    assert result["output"].startswith("hello from ")
    assert "Pausing task as DEFERRED" in seen
    assert result["output"] in seen
    assert f"job {result['job_id']} was submitted" in said.read_text()
