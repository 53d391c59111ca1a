"""The server as a distribution of its own, in an environment that holds nothing else."""

import shutil
import subprocess
import sys
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest

import clusterra_server
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, http

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PINS = ROOT / "constraints/airflow-3.3.txt"
OFFERS = http(200, {"paths": {"/slurm/v0.0.44/jobs/": {}}})
ORDINARY = [OFFERS, http(200, {}), http(511, {})]
"""What a server asks at its start, with an ordinary user's token."""


def run(*words, **options):
    shown = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, check=False, **options
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both wheels, built."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    for source in (ROOT, ROOT / "server"):
        run(*build, cwd=source)
    return {path.name.partition("-")[0]: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    """An interpreter that finds the server's wheel and what that needs."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    python = folder / "bin/python"
    if shutil.which("uv"):
        run("uv", "venv", "--python", sys.executable, folder)
        install = ["uv", "pip", "install", "--python", python]
    else:
        run(sys.executable, "-m", "venv", folder)
        install = [python, "-m", "pip", "install"]
    run(*install, "--constraint", PINS, wheels["clusterra_server"])
    return python


@contextmanager
def serving(python, **options):
    command = str(python.with_name("clusterra-server"))
    with ClusterraServer(command=[command], **options) as server:
        yield server


@pytest.mark.parametrize("package", ["airflow_provider_clusterra", "clusterra_server"])
def test_a_wheel_has_its_licence_readme_types_and_addresses(wheels, package):
    with ZipFile(wheels[package]) as wheel:
        names = wheel.namelist()
        info = next(each for each in names if each.endswith(".dist-info/METADATA"))
        about = message_from_string(wheel.read(info).decode())

    assert f"{package}/py.typed" in names
    assert any(each.endswith("licenses/LICENSE") for each in names)
    assert about["License-Expression"] == "Apache-2.0"
    assert about.get_payload().startswith("# ")
    assert {each.partition(",")[0] for each in about.get_all("Project-URL")} >= {
        "Documentation",
        "Source",
        "Changelog",
        "Issues",
    }
    assert {each.partition("/")[0] for each in names if ".dist-info" not in each} == {package}


def test_the_server_alone_brings_no_airflow(python):
    program = "import importlib.util as u; print(u.find_spec('airflow'), u.find_spec('pytest'))"

    assert run(python, "-c", program, cwd=python.parent).strip() == "None None"


def test_the_server_alone_runs_processes(python, tmp_path):
    with serving(python, dir=tmp_path) as server:
        assert server.banner.startswith(f"clusterra-server {clusterra_server.__version__}")
        assert server.connection_uri


def test_the_server_alone_stands_before_a_slurm(python, tmp_path):
    token = tmp_path / "token"
    token.write_text("e30.eyJzdW4iOiAiYWxpY2UifQ.c2VjcmV0")
    with (
        Wire(*ORDINARY) as wire,
        serving(
            python,
            backend="slurm",
            slurmrestd=wire.url,
            token_file=token,
            output_dir=tmp_path,
        ) as server,
    ):
        assert "as alice" in server.banner
