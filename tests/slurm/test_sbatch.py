"""The same scripts through the real ``sbatch`` and through REST: one job, either way."""

from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest

from airflow_provider_clusterra.api import InputError, RequestError
from airflow_provider_clusterra.sbatch.job import read_arguments
from tests.slurm.chroot import LabError
from tests.slurm.lab import USER
from tests.slurm.scripts import SCRIPTS

pytestmark = pytest.mark.slurm

DIFFERENT = {
    *("job_id", "step_id", "sluid", "submit_time", "eligible_time", "accrue_time"),
    *("last_sched_evaluation", "allocating_node", "submit_line", "command", "standard_input"),
    "stdin_expanded",
}
"""What tells two submits of one script apart, whatever the script."""
OWN_FLAGS = {"EXACT_TASK_COUNT_REQUESTED", "EXACT_CPU_COUNT_REQUESTED"}
"""Flags that only ``sbatch`` sets."""
PATHS = ("standard_output", "standard_error", "stdout_expanded", "stderr_expanded")
GROUPS = ("array_job_id", "het_job_id", "het_job_id_set")
"""Whether there are any is the same; which, is not."""


def script(lines, commands="true"):
    head = f"#SBATCH {lines}\n" if lines else ""
    return f"#!/bin/bash\n{head}{commands}\n"


def by_sbatch(lab, text, *options):
    """Submit with the real sbatch.

    :returns: the job's id.
    """
    folder = str(lab.shared)
    words = ("env", f"--chdir={folder}", "sbatch", "--parsable", *options)
    said = lab.run(*words, user=USER, given=text)
    return int(said.strip())


def by_rest(cluster, text):
    """Submit as an operator does."""
    asked = read_arguments(text, {}, job={}, environment={}, now=datetime.now(UTC), name="sbatch")
    return cluster.submit_body(asked.body())


def comparable(record):
    kept = {name: value for name, value in record.items() if name not in DIFFERENT}
    kept["flags"] = sorted(set(record["flags"]) - OWN_FLAGS)
    for name in PATHS:
        path = str(PurePosixPath(record["current_working_directory"]) / kept[name])
        kept[name] = kept[name] and path.replace(str(record["job_id"]), "%j")
    for name in GROUPS:
        value = kept[name]
        kept[name] = bool(value["number"] if isinstance(value, dict) else value)
    return kept


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_the_same_job_either_way(lab, cluster, name):
    text = script(f"-H\n#SBATCH {SCRIPTS[name]}")
    # each takes its own default, unless the script says so
    default = [] if "-o " in text else ["-o", "job_%j.out"]
    theirs = by_sbatch(lab, text, *default)
    ours = by_rest(cluster, text)
    try:
        pairs = zip(cluster.records(theirs), cluster.records(ours), strict=True)
        for sbatch, rest in pairs:
            assert comparable(rest) == comparable(sbatch)
    finally:
        for job_id in (theirs, ours):
            cluster.cancel(job_id)


@pytest.mark.parametrize(
    "lines",
    [
        "-n 2 -c 2",
        "-N 2 --ntasks-per-node=2",
        "--gpus=1 --cpus-per-gpu=2 --mem-per-gpu=500M",
        "--export=NONE",
        "--export=ALL,COLOUR=red,SIZE=3",
        "--export=COLOUR=red",
        "--export=ALL",
        "--export=NIL",
        "-J named --mem=200M",
    ],
    ids=str,
)
async def test_a_job_finds_the_same_variables_either_way(lab, cluster, lines):
    text = script(lines, "env")
    found = []
    # one after the other: what they are given of a node is the same then
    for submit, where, options in ((by_sbatch, lab, ["-o", "job_%j.out"]), (by_rest, cluster, [])):
        job_id = submit(where, text, *options)
        await cluster.wait(job_id)
        found.append(_variables(cluster.output(job_id)))
    theirs, ours = found

    assert {name: ours.get(name) for name in theirs} == theirs


def _variables(text):
    """What Slurm and the script itself say, without what is another job's, or another place's."""
    pairs = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    ours = ("SLURM_", "COLOUR", "SIZE")
    apart = (
        *("_ID", "JOBID", "_TIME", "SLUID", "TASK_PID", "SUBMIT_HOST", "PRIO_PROCESS"),
        *("NODELIST", "TOPOLOGY_ADDR", "NODENAME"),
    )
    return {
        name: value
        for name, value in pairs.items()
        if name.startswith(ours) and not name.endswith(apart)
    }


@pytest.mark.parametrize("lines", ["--exclusive", "--exclusive=user", "-s"])
async def test_a_job_takes_its_node_the_same_either_way(lab, cluster, lines):
    plain, theirs, ours = [
        await _taken(
            cluster, submit(where, script(f"-p second -o /dev/null {options}", "sleep 60"))
        )
        for submit, where, options in (
            (by_rest, cluster, ""),
            (by_sbatch, lab, lines),
            (by_rest, cluster, lines),
        )
    ]

    assert ours == theirs
    assert ours != plain


async def _taken(cluster, job_id):
    """What a running job has of its node: how many CPUs, whether in common, whether all of it."""
    await cluster.until_running(job_id)
    record = cluster.record(job_id)
    cluster.cancel(job_id)
    nodes = record["job_resources"]["nodes"]
    return record["cpus"]["number"], nodes["select_type"], nodes["whole"]


async def test_a_signal_comes_before_the_end_either_way(lab, cluster):
    # slurmctld looks every 30 s
    lines = "--signal=B:USR1@55 -t 1"
    text = script(lines, "trap 'echo warned; exit 5' USR1; for n in $(seq 600); do sleep 0.2; done")
    job_ids = [by_sbatch(lab, text, "-o", "job_%j.out"), by_rest(cluster, text)]
    events = await cluster.wait_all(job_ids)

    assert [event.job.exit.code for event in events] == [5, 5]
    assert [cluster.output(job_id) for job_id in job_ids] == ["warned\n"] * 2


@pytest.mark.parametrize("mode", ["append", "truncate"])
async def test_an_output_is_opened_the_same_either_way(lab, cluster, mode):
    text = script(f"-o {mode}.txt --open-mode={mode}", "echo here")
    path = lab.shared / f"{mode}.txt"
    found = []
    for submit, where in ((by_sbatch, lab), (by_rest, cluster)):
        path.write_text("before\n")
        path.chmod(0o666)
        await cluster.wait(submit(where, text))
        found.append(path.read_text())

    assert found == ["before\nhere\n" if mode == "append" else "here\n"] * 2


@pytest.mark.parametrize(
    "lines",
    [
        *("-n many", "--mem=lots", "-t forever-ish", "--nosuch", "-a 5-1", "-c 0", "--mem"),
        *("--mem=1G --mem-per-cpu=1G", "--exclusive -s", "--comment='a\\'", "--gpus-per-task=1"),
        *("--gpus=2 --gpus-per-task=1 -n 4", "--gpus=3 --gpus-per-task=2"),
        "--mem=1G\n#SBATCH hetjob\n#SBATCH --mem-per-cpu=100M",
    ],
)
def test_what_sbatch_refuses_is_refused(lab, cluster, lines):
    with pytest.raises(LabError):
        by_sbatch(lab, script(lines), "-H")
    with pytest.raises((InputError, RequestError)):
        by_rest(cluster, script(f"-H\n#SBATCH {lines}"))
