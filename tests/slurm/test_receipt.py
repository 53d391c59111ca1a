"""What jobs of known loads have used on a real Slurm, beside what ``sacct`` prints."""

import asyncio

import pytest

from airflow_provider_clusterra.api import Client
from airflow_provider_clusterra.api.usage import USAGE
from tests.slurm.conf import Settings

pytestmark = pytest.mark.slurm

MB = 2**20
HOLD = "perl -e '$x = chr(1) x (400 * 2**20); sleep {seconds}'"
BURN = "perl -e '1 while (times)[0] < 3'"
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def sacct(lab, job_id, *fields):
    """``sacct``'s values of a job and its steps, by the step's name."""
    words = ("--noheader", "--parsable2", "--units=K", f"--format=JobID,{','.join(fields)}")
    rows = lab.run("sacct", *words, "-j", str(job_id)).splitlines()
    return {name: values for name, *values in (row.split("|") for row in rows)}


def size(text):
    return float(text[:-1]) * UNITS[text[-1]] if text else 0.0


def cpu_seconds(text):
    """E.g. ``00:03.250`` or ``01:02:03``."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


async def usage(cluster, script, **fields):
    job_id = cluster.submit(script, **fields)
    how = {"array": fields["array"]} if "array" in fields else {}
    event = await cluster.wait(job_id, job_name="test", **how)
    assert event.job.state.base == "COMPLETED", cluster.output(job_id)
    return job_id, event.job.usage


async def test_the_receipt_is_what_sacct_prints(lab, cluster):
    (
        (held, of_held),
        (burnt, of_burnt),
        (_, of_pair),
        (_, of_row),
        (_, of_several),
    ) = await asyncio.gather(
        usage(cluster, HOLD.format(seconds=6), memory_per_node=1000),
        usage(cluster, BURN, cpus_per_task=2, tasks=1),
        usage(
            cluster,
            "\n".join([f"srun -n1 --exact --mem=500 {HOLD.format(seconds=6)} &"] * 2 + ["wait"]),
            memory_per_node=1100,
            tasks=2,
        ),
        usage(
            cluster,
            "\n".join([f"srun -n1 --mem=500 {HOLD.format(seconds=4)}"] * 2),
            memory_per_node=1100,
        ),
        usage(cluster, HOLD.format(seconds=4), memory_per_node=1000, array="0-2"),
    )

    (batch,) = sacct(lab, f"{held}.batch", "MaxRSS").values()
    assert of_held["memory_bytes_peak"] >= size(batch[0]) >= 400 * MB
    assert of_held["memory_bytes_peak"] < 450 * MB
    assert of_held["memory_bytes_requested"] == 1000 * MB

    whole = sacct(lab, burnt, "TotalCPU", "CPUTimeRAW", "ElapsedRaw", "NCPUS")
    total, core_seconds, elapsed, cpus = whole[str(burnt)]
    assert of_burnt["cpu_core_seconds_used"] == pytest.approx(cpu_seconds(total), abs=0.01)
    assert of_burnt["cpu_core_seconds_used"] >= 3
    assert of_burnt["cpu_core_seconds_allocated"] == float(core_seconds)
    assert of_burnt["run_seconds"] == float(elapsed)
    assert of_burnt["cpus_allocated"] == float(cpus)
    assert of_burnt["cpu_efficiency"] <= 0.55

    # two at once hold both, one after the other one
    assert 800 * MB <= of_pair["memory_bytes_peak"] < 950 * MB
    assert 400 * MB <= of_row["memory_bytes_peak"] < 550 * MB
    assert of_several["tasks"]["count"] == 3
    assert of_several["memory_bytes_peak"] >= 400 * MB
    assert of_several["memory_bytes_requested"] == 1000 * MB
    assert not {"energy_joules", "gpus_allocated", "cost_usd"} & of_held.keys()


async def test_a_requeued_jobs_receipt_has_its_last_run_and_the_sum(lab, cluster):
    job_id = cluster.submit("sleep $(( SLURM_RESTART_COUNT ? 2 : 30 ))", requeue=True)
    await cluster.until_running(job_id)
    await asyncio.sleep(3)
    lab.run("scontrol", "requeue", str(job_id))
    lab.run("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    found = (await cluster.wait(job_id, job_name="test")).job.usage

    assert 2 <= found["run_seconds"] <= 4
    assert found["all_runs"]["count"] == 2
    assert found["all_runs"]["run_seconds"] > found["run_seconds"]


async def test_a_het_jobs_receipt_adds_its_components_up(cluster):
    components = [{"memory_per_node": 200}, {"memory_per_node": 300}]
    body = {
        "script": "#!/bin/bash\nsleep 2\n",
        "jobs": [
            {
                "name": "test",
                "nodes": "1",
                "current_working_directory": "/mnt/efs",
                "environment": ["PATH=/usr/bin:/bin"],
                **{key: {"set": True, "infinite": False, "number": n} for key, n in each.items()},
            }
            for each in components
        ],
    }
    event = await cluster.wait(cluster.submit_body(body), job_name="test")

    assert event.job.usage["memory_bytes_requested"] == 500 * MB
    assert event.job.usage["components"]["1"]["memory_bytes_requested"] == 300 * MB


async def test_some_tasks_of_arrays_are_asked_for_together_with_jobs(cluster):
    array = cluster.submit("exit 0", array="0-2")
    await cluster.wait(array, array="0-2", job_name="test")
    job_id = cluster.submit("exit 0")
    await cluster.wait(job_id, job_name="test")
    with Client(cluster.access) as client:
        runs = client.list_runs(cluster.cluster_id, [f"{array}_0", f"{array}_2", str(job_id)])

    assert sorted((run.job.array_task_id or 0) for run in runs) == [0, 0, 2]


@pytest.mark.parametrize(
    "settings", [Settings(gather=False), Settings(accounting=False)], ids=["gather", "accounting"]
)
async def test_what_is_not_gathered_is_absent(lab, cluster, settings):
    lab.use(settings)
    try:
        _, found = await usage(cluster, HOLD.format(seconds=3), memory_per_node=1000)
    finally:
        lab.use(Settings())

    assert "memory_bytes_peak" not in found
    assert found["memory_bytes_requested"] == 1000 * MB
    assert found["run_seconds"] >= 3
    assert found["queue_seconds"] >= 0
    assert found.keys() <= USAGE.keys()
