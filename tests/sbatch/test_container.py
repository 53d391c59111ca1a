"""Tests of airflow_provider_clusterra.sbatch.job, with a stand-in that takes apptainer's command line."""

import signal
import subprocess
from pathlib import Path

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.sbatch.job import (
    Container,
    JobRequest,
    in_container,
    is_runtime,
    read_container,
)
from tests.support.containers import APPTAINER


def wrapped(script, runtime="apptainer", image="docker://python:3.12", **fields):
    return in_container(JobRequest(script, ({},), "x"), Container(image, **fields), runtime)


@pytest.fixture
def begin(tmp_path):
    """Starts a script in a container, with arguments, in a folder of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    for name in ("apptainer", "singularity"):
        program = tmp_path / "bin" / name
        program.write_text(APPTAINER)
        program.chmod(0o755)

    def start(script, *arguments, runtime="apptainer", env=None, full=False, **fields):
        path = tmp_path / "job.sh"
        text = wrapped(script, runtime, **fields).script
        # a file that takes no bytes, as on a full disk
        path.write_text(text.replace('cat >"$script"', "cat >/dev/full") if full else text)
        path.chmod(0o755)
        variables = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "TMPDIR": str(tmp_path / "tmp")}
        return subprocess.Popen(
            [path, *arguments],
            env=variables | (env or {}),
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    yield start
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_runtime_may_be_its_programs_path():
    assert "\n'/opt/a b/apptainer' exec " in wrapped("#!/bin/sh\n", "/opt/a b/apptainer").script
    assert is_runtime("/opt/apptainer")
    assert not is_runtime("/opt/docker")
    assert not is_runtime("bin/apptainer")


def arguments_of(folder: Path) -> list[str]:
    return (folder / "bin/arguments").read_text().splitlines()


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_a_script_runs_in_the_container_with_its_arguments_and_its_input(begin, tmp_path, runtime):
    job = begin('#!/bin/bash\necho "$1|$2|$(cat)"', "a b", "*", runtime=runtime)
    output, _ = job.communicate("typed")
    shown = arguments_of(tmp_path)

    assert (output, job.returncode) == ("a b|*|typed\n", 0)
    assert "docker://python:3.12" in shown
    assert shown[shown.index("--pwd") + 1] == str(tmp_path)


@pytest.mark.parametrize(
    "script",
    [
        "#!/bin/bash\ncat <<'X'\n$HOME \"'`{}\nX\n",
        "#!/bin/bash -e\ntest $- = ehB || true; echo '$HOME \"'\\''`{}'",
        "#!/usr/bin/env python3\nprint('''$HOME \"'`{}''')\n",
        "#! /bin/sh\nprintf '%s\\n' '$HOME \"'\"'\"'`{}'",
    ],
)
def test_every_scripts_text_comes_through(begin, script):
    output, _ = begin(script).communicate()

    assert output == "$HOME \"'`{}\n"


def test_the_scripts_exit_code_is_the_jobs(begin):
    job = begin("#!/bin/bash\nexit 3")
    job.communicate()

    assert job.returncode == 3


def test_a_signal_of_slurms_reaches_the_script(begin):
    script = (
        "#!/bin/bash\ntrap 'echo saved; exit 5' USR1\necho ready\nwhile :; do sleep 0.05; done\n"
    )
    job = begin(script)
    assert job.stdout.readline() == "ready\n"
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate()

    assert (output, job.returncode) == ("saved\n", 5)


def test_a_job_with_gpus_finds_them(begin, tmp_path):
    begin("#!/bin/bash\n", env={"SLURM_JOB_GPUS": "0"}).communicate()
    assert "--nv" in arguments_of(tmp_path)

    begin("#!/bin/bash\n").communicate()
    assert "--nv" not in arguments_of(tmp_path)


def test_folders_and_the_first_folder_are_the_containers_options(begin, tmp_path):
    begin("#!/bin/bash\n", mounts=("/data:/in:ro", "/s"), working_directory="/in/a b").communicate()
    shown = arguments_of(tmp_path)

    assert shown[shown.index("/data:/in:ro") - 1] == shown[shown.index("/s") - 1] == "--bind"
    assert shown[shown.index("--pwd") + 1] == "/in/a b"


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("docker://python:3.12", "python:3.12"),
        ("python:3.12", "python:3.12"),
        ("docker://nvcr.io/nvidia/pytorch:24.01-py3", "'nvcr.io#nvidia/pytorch:24.01-py3'"),
        ("localhost:5000/a/b", "'localhost:5000#a/b'"),
        ("docker://library/python", "library/python"),
        ("nvcr.io#nvidia/pytorch", "'nvcr.io#nvidia/pytorch'"),
        ("/shared/md.sqsh", "/shared/md.sqsh"),
    ],
)
def test_pyxis_has_enroots_form_of_an_image(image, shown):
    script = wrapped("#!/bin/bash\n", "pyxis", image, mounts=("/d", "/e:/f:ro")).script

    assert f" --container-image={shown} " in script
    assert '--container-mounts="$script:$script","$PWD:$PWD",/d:/d,/e:/f:ro ' in script
    assert '--container-workdir="$PWD" /bin/bash "$script" "$@"' in script


def test_slurms_own_containers_leave_the_script_as_it_is():
    job = wrapped("#!/bin/bash\n", "oci", "/shared/bundle")

    assert job.script == "#!/bin/bash\n"
    assert job.body()["job"]["container"] == "/shared/bundle"


@pytest.mark.parametrize("runtime", ["apptainer", "pyxis"])
def test_an_image_and_a_folder_are_words_and_no_commands(runtime):
    job = wrapped("#!/bin/bash\n", runtime, "a;touch x", mounts=("/a$(id)",))

    assert "'a;touch x'" in job.script
    assert "'/a$(id)" in job.script


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None, ["/a"], None), "are for a container"),
        ((None, None, "/a"), "are for a container"),
    ],
)
def test_what_is_no_container_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        read_container(*given)


@pytest.mark.parametrize(
    ("runtime", "image", "fields", "words"),
    [
        ("pyxis", "/a/b.sif", {}, "sqsh"),
        ("oci", "/bundle", {"mounts": ("/a",)}, "config.json"),
        ("oci", "/bundle", {"working_directory": "/a"}, "config.json"),
    ],
)
def test_what_a_runtime_cannot_do_is_refused(runtime, image, fields, words):
    with pytest.raises(InputError, match=words):
        wrapped("#!/bin/bash\n", runtime, image, **fields)


def test_a_mount_that_cannot_be_breaks_the_dag():
    with pytest.raises(InputError, match="whole paths"):
        ClusterraSubmitJobOperator(
            task_id="t", script="#!/bin/sh\n", container="i", container_mounts=["data"]
        )


def test_a_script_that_cannot_be_written_down_fails_the_job(begin, tmp_path):
    job = begin("#!/bin/bash\nexit 0", full=True)
    job.communicate()

    assert job.returncode != 0


def test_a_script_that_ends_at_once_has_its_own_exit_code(begin):
    for code in (0, 7) * 10:
        job = begin(f"#!/bin/sh\nexit {code}")
        job.communicate()
        assert job.returncode == code
