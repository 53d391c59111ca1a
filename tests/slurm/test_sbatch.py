"""The same scripts through the real ``sbatch`` and through REST: one job, either way."""

import re
import time
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pytest

from airflow_provider_clusterra.api import InputError, RequestError
from airflow_provider_clusterra.sbatch.job import read_arguments
from tests.slurm.chroot import LabError
from tests.slurm.conf import Settings
from tests.slurm.lab import USER
from tests.slurm.scripts import NEVER_RUN, RECORD_DIFFERS, ROWS, VARIABLES_DIFFER
from tests.support.cluster import Cluster

pytestmark = pytest.mark.slurm

DIFFERENT = {
    *("job_id", "step_id", "sluid", "submit_time", "eligible_time", "accrue_time"),
    *("last_sched_evaluation", "allocating_node", "submit_line", "command", "standard_input"),
    "stdin_expanded",
}
"""What tells two submits of one script apart, whatever the script."""
OWN_FLAGS = {
    *("EXACT_TASK_COUNT_REQUESTED", "EXACT_CPU_COUNT_REQUESTED", "JOB_IMPLICIT_MAX_NODES"),
}
"""Flags that only ``sbatch`` sets: they tell which numbers its user wrote, and the API knows no such."""
LATER_FLAGS = {"DEPENDENT", "SCHEDULING_ATTEMPTED", "BACKFILL_ATTEMPTED"}
"""Flags that slurmctld sets once it has looked at a job."""
PATHS = ("standard_output", "standard_error", "stdout_expanded", "stderr_expanded")
GROUPS = ("array_job_id", "het_job_id", "het_job_id_set")
"""Whether there are any is the same; which, is not."""
SHELL = ("HOME", "USER", "LOGNAME", "SHELL", "MAIL", "PWD", "OLDPWD", "SHLVL", "_")
"""Variables of whoever signs in; ``login_environment`` asks for them."""
APART = re.compile(
    r"SLURM_(?:ARRAY_)?JOB_?ID|SLURM_.*(?:_TIME|SLUID|TASK_PID|NODELIST|TOPOLOGY_ADDR)|SLURMD_NODENAME"
    r"|SLURM_(?:SUBMIT_HOST|JOB_GPUS|GTIDS|HET_JOB_ID.*|NNODES|JOB_NUM_NODES|JOB_CPUS_PER_NODE)"
    r"|SLURM_(?:CPUS|GPUS)_ON_NODE|SLURM_TASKS_PER_NODE|HOSTNAME|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK"
    r"|(?:CUDA|ROCR)_VISIBLE_DEVICES"
)
"""Variables that are there either way, and hold another job's number or what a node has free."""
GROUP = re.compile(r"_(?:HET|PACK)_GROUP_[0-9]+$")
ENVIRONMENT = ("env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/clusterra")
"""The shell that ``sbatch`` is called from has what a job of ours has, and a home."""


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


class Submitted(NamedTuple):
    """A script's job, held and later run."""

    job_id: int
    records: list[dict[str, Any]]
    """As they were while it was held."""
    variables: dict[str, str] | None
    """None: it did not run."""


@pytest.fixture(scope="module")
def either_way(lab, front):
    """Each row's two jobs, of ``sbatch`` and of ours: all of them are submitted, read and run together."""
    texts = {
        row: script(f"-H\n#SBATCH {row}", f"env -0 > {lab.shared}/$SLURM_JOB_ID.env")
        for row in ROWS
    }
    lab.use(Settings())
    cluster = Cluster(front)
    ours = {row: _by_rest_or_none(cluster, text) for row, text in texts.items()}
    theirs = dict(zip(ROWS, _all_by_sbatch(lab, texts), strict=True))
    records = {0: []}
    for record in cluster.all_records():
        records.setdefault(record["het_job_id"]["number"] or record["job_id"], []).append(record)
    for way in (theirs, ours):
        _run_all(lab, [way[row] for row in ROWS if way[row] and row not in NEVER_RUN])
    return {
        row: [
            Submitted(way[row], records[way[row]], _found(lab, way[row])) for way in (theirs, ours)
        ]
        for row in ROWS
    }


def _by_rest_or_none(cluster, text):
    """As :func:`by_rest`; 0 if it is refused, as of ``sbatch``: its own rows fail then."""
    try:
        return by_rest(cluster, text)
    except (AssertionError, InputError, RequestError) as error:
        print(text, error)
        return 0


def _all_by_sbatch(lab, texts):
    for number, (row, text) in enumerate(texts.items()):
        (lab.shared / f"{number}.sbatch").write_text(text)
        # each takes its own default, unless the script says so
        option = "" if "-o " in row else "-o job_%j.out"
        (lab.shared / f"{number}.options").write_text(option)
    loop = (
        f"cd {lab.shared}; for n in $(seq 0 {len(texts) - 1}); do "
        "sbatch --parsable $(cat $n.options) < $n.sbatch 2>> errors || echo 0; done"
    )
    said = lab.run(*ENVIRONMENT, "sh", "-c", loop, user=USER).split()
    return [int(each.partition(";")[0]) for each in said]


def _run_all(lab, job_ids):
    """Let jobs go, whatever they wait for, and wait until none is left that can run."""
    listed = " ".join(map(str, job_ids))
    lab.run(
        *("sh", "-c"),
        f"for i in {listed}; do scontrol update jobid=$i StartTime=now Dependency= >/dev/null 2>&1; "
        "scontrol release $i >/dev/null 2>&1; done; true",
    )
    ours = set(map(str, job_ids))

    def is_done():
        queue = [line.split() for line in lab.run("squeue", "-h", "-o", "%A %T %r").splitlines()]
        return not any(number in ours and reason not in STUCK for number, _, reason, *_ in queue)

    end = time.monotonic() + WITHIN
    while not is_done():
        assert time.monotonic() < end, lab.run("squeue", "-h", "-o", "%A %T %r")[:2000]
        time.sleep(0.5)
    lab.run("sh", "-c", f"scancel {listed} >/dev/null 2>&1; true")


STUCK = ("BadConstraints", "PartitionNodeLimit", "PartitionConfig", "JobHeldAdmin")
WITHIN = 240.0
"""Seconds in which all rows' jobs have run."""


def _found(lab, job_id):
    path = lab.shared / f"{job_id}.env"
    if not path.exists():
        return None
    return dict(each.split("=", 1) for each in path.read_text().split("\0") if "=" in each)


def comparable(record):
    kept = {name: value for name, value in record.items() if name not in DIFFERENT}
    kept["flags"] = sorted(set(record["flags"]) - OWN_FLAGS - LATER_FLAGS)
    for name in PATHS:
        path = PurePosixPath(record["current_working_directory"]) / kept[name]
        # only the name: a folder may have the same number in it
        named = path.name.replace(str(record["job_id"]), "%j")
        kept[name] = kept[name] and str(path.with_name(named))
    for name in GROUPS:
        value = kept[name]
        kept[name] = bool(value["number"] if isinstance(value, dict) else value)
    return kept


def constant(variables):
    """Variables without what is another job's; that they are there, is left."""
    return {
        name: "" if APART.fullmatch(GROUP.sub("", name)) else value
        for name, value in variables.items()
        if name not in SHELL
    }


@pytest.mark.parametrize("row", ROWS)
def test_a_script_is_the_same_job_either_way(either_way, row):
    theirs, ours = either_way[row]
    assert theirs.job_id
    assert ours.job_id
    known = RECORD_DIFFERS.get(row, ())
    for sbatch, rest in zip(theirs.records, ours.records, strict=True):
        kept = [comparable(record) for record in (rest, sbatch)]
        for record in kept:
            for name in known:
                del record[name]
        assert kept[0] == kept[1]


@pytest.mark.parametrize("row", ROWS)
def test_a_job_finds_the_same_variables_either_way_and_no_more(either_way, row):
    theirs, ours = (each.variables for each in either_way[row])
    assert (theirs is None, ours is None) == ((row in NEVER_RUN), (row in NEVER_RUN))
    if theirs is not None and ours is not None:
        known = VARIABLES_DIFFER.get(row, ())
        kept = [
            {name: value for name, value in constant(found).items() if name not in known}
            for found in (ours, theirs)
        ]
        assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("lines", "commands", "printed"),
    [
        ("-n 1\n#SBATCH hetjob\n#SBATCH -n 3", "srun --het-group=0,1 -l echo rank | wc -l", "4"),
        (
            "-n 1 -c 4\n#SBATCH hetjob\n#SBATCH -n 2 -c 1",
            "srun --het-group=0,1 echo r | wc -l",
            "3",
        ),
        (
            "-n 2 --gres=gpu:2 --mem-per-cpu=100",
            "for n in 1 2; do srun -n 1 --exact --mem=50 --gres=gpu:1 echo packed & done; wait",
            "packed\npacked",
        ),
        ("-n 2 --gpus-per-task=1", "srun echo $SLURM_NTASKS", "2\n2"),
        ("-N 2 --ntasks-per-node=2", "srun echo rank | wc -l", "4"),
        ("-n 4 --hint=nomultithread", "srun echo rank | wc -l", "4"),
    ],
)
async def test_srun_starts_the_same_either_way(lab, cluster, lines, commands, printed):
    text = script(lines, commands)
    job_ids = [by_sbatch(lab, text, "-o", "job_%j.out"), by_rest(cluster, text)]
    await cluster.wait_all(job_ids)

    assert [cluster.output(job_id).strip() for job_id in job_ids] == [printed] * 2


async def test_a_script_finds_its_authors_name_and_arguments(lab, cluster):
    asked = read_arguments(
        script(
            "-J md -o slurm-%j.out", 'echo "$SLURM_JOB_NAME" "$@"; srun printenv SLURM_JOB_NAME'
        ),
        {},
        job={},
        environment={},
        now=datetime.now(UTC),
        name="x",
        script_arguments=["3", "two words"],
    )
    job_id = cluster.submit_body(asked.renamed("md.tag").body())
    await cluster.wait(job_id)

    assert cluster.record(job_id)["name"] == "md.tag"
    assert cluster.output(job_id) == "md 3 two words\nmd\n"


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
        *("--gpus=2 --gpus-per-task=1 -n 4", "--gpus=3 --gpus-per-task=2", "--mail-type=SOMETIMES"),
        *("--gres=gpu:1 --gpus-per-node=1", "-c 2 --gpus=1 --cpus-per-gpu=2", "--signal=USR3"),
        *("--signal=USR1@65536", "-n 1 --gpus-per-task=1 --tres-per-task=gres/gpu=1"),
        *("-c 2 --tres-per-task=cpu=2", "--gpus=2 --ntasks-per-gpu=1 --ntasks-per-node=2"),
        *(
            "--begin=soon",
            "--begin=13/1",
            "-m plane",
            "--profile=fast",
            "--hint=fast",
            "--requeue=x",
        ),
        *("--delay-boot=soon", "--delay-boot=5m"),
        *("-a 0x1F", "-a 1-", "-t 5m", "-t 1:2:3:4", "--switches=0", "--wait-all-nodes=2"),
        "--mem=1G\n#SBATCH hetjob\n#SBATCH --mem-per-cpu=100M",
    ],
)
def test_what_sbatch_refuses_is_refused(lab, cluster, lines):
    with pytest.raises(LabError):
        by_sbatch(lab, script(lines), "-H")
    with pytest.raises((InputError, RequestError)):
        by_rest(cluster, script(f"-H\n#SBATCH {lines}"))
