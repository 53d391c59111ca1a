"""What holds on both backends of clusterra-server alike: what jobs do, and how the wait tells it."""

import asyncio
import time

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_clusterra.api import Client, NotFoundError
from airflow_provider_clusterra.decorators.jobs import clusterra_task
from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator
from airflow_provider_clusterra.task.report import JobCancelledError, JobError, JobStuckError
from airflow_provider_clusterra.triggers.jobs import ClusterraJobTrigger
from airflow_provider_clusterra.watch.tail import GOES_ON
from airflow_provider_clusterra.watch.verdict import Patience
from tests.support.airflow_side import TaskInstance
from tests.support.containers import APPTAINER

UNKNOWN = 66_000_000
TALKS = """
echo begins; while [ ! -e talk-on ]; do sleep 0.2; done
for n in $(seq 40); do printf 'step %d of 40\\r' $n; sleep 0.05; done
printf '\\nGr\u00fc\u00dfe aus M\u00fcnchen \u2603\\n'
for n in $(seq 2000); do echo "line $n of \u65e5\u672c\u8a9e"; done
"""


def operator(script, **fields):
    defaults = {"task_id": "task", "deferrable": False, "poll_interval": 1}
    return ClusterraSubmitJobOperator(
        **{**defaults, "script": f"#!/bin/bash\n{script}\n", **fields}
    )


def run(made):
    return made.execute({"ti": TaskInstance()})


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exit 0", ("COMPLETED", "", 0, None)),
        ("exit 3", ("FAILED", "NonZeroExitCode", 3, None)),
        ("kill -9 $$", ("FAILED", "RaisedSignal", None, 9)),
        ("#!/nowhere\n", ("FAILED", "NonZeroExitCode", 2, None)),
    ],
    ids=["success", "exit 3", "signal", "no such interpreter"],
)
async def test_a_script_ends_as_slurm_says(cluster, script, expected):
    event = await cluster.wait(cluster.submit(script))
    job = event.job

    assert event.outcome == "ended"
    assert (job.state.base, job.reason, job.exit.code, job.exit.signal) == expected
    assert job.submitted_at <= job.started_at <= job.ended_at


async def test_a_script_finds_its_variables(cluster):
    script = 'echo "$SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_NTASKS $SLURM_CPUS_PER_TASK $A"'
    fields = {"name": "named", "tasks": 2, "cpus_per_task": 1, "environment": {"A": "b c"}}
    job_id = cluster.submit(script, **fields)
    await cluster.wait(job_id)

    assert cluster.output(job_id) == f"{job_id} named 2 1 b c\n"


def test_a_task_returns_its_jobs_result(cluster):
    result = run(operator("echo one; echo '{\"two\": 2}'", return_output="json"))

    assert (result["state"], result["exit_code"]) == ("COMPLETED", 0)
    assert result["output"] == {"two": 2}
    assert result["nodes"]


def test_a_script_runs_in_its_container(cluster):
    # the lab's cluster sees no folder of ours, so a job brings the program
    made = f"mkdir -p bin; cat > bin/apptainer <<'END'\n{APPTAINER}END\nchmod +x bin/apptainer"
    result = run(operator(f"{made}\necho $PWD/bin", return_output="last_line"))
    folder = result["output"]
    result = run(
        operator(
            'echo "$1 of $SLURM_JOB_NAME"; tail -n 4 "${PATH%%:*}/arguments"',
            name="md",
            script_arguments=["frame 7"],
            container="docker://gromacs/gromacs:2024.1",
            environment={"PATH": f"{folder}:/usr/bin:/bin"},
            return_output="text",
        )
    )

    first, image, shell, *_, last = result["output"].splitlines()
    assert (first, last) == ("frame 7 of md", "frame 7")
    assert (image, shell) == ("docker://gromacs/gromacs:2024.1", "/bin/bash")


def double(x):
    if x == 2:
        raise ValueError("not two")
    return 2 * x


def test_a_list_is_one_array(cluster):
    def attempt(values):
        with DAG("dag", schedule=None):
            fields = {"deferrable": False, "poll_interval": 1, "map_over": "x", "max_running": 2}
            return run(clusterra_task(double, **fields)(values).operator)

    assert attempt([3, 1]) == [6, 2]
    with pytest.raises(JobError, match=r"(?s)1: FAILED.*ValueError: not two"):
        attempt([1, 2])


def test_a_task_fails_with_what_its_job_wrote(cluster):
    with pytest.raises(JobError, match=r"(?s)exit code 3.*the input is missing"):
        run(operator("echo the input is missing >&2; exit 3"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"partition": "nowhere"}, "Invalid partition"),
        ({"memory": "900000G"}, "Requested node configuration is not available"),
    ],
    ids=["partition", "memory"],
)
def test_what_slurm_refuses_is_said_in_its_words(cluster, fields, words):
    with pytest.raises(AirflowFailException, match=f"(?i){words}"):
        run(operator("exit 0", **fields))


async def test_a_job_that_will_never_start_is_told_and_cancelled(cluster):
    cluster.patience = Patience(stuck=0.0)
    failed = cluster.submit("exit 1")
    held = cluster.submit("exit 0", hold=True)
    waiting = cluster.submit("exit 0", dependency=f"afterok:{failed}")
    too_large = cluster.submit("exit 0", nodes="9")
    events = await cluster.wait_all([held, waiting, too_large], owns_job=True)

    assert [event.outcome for event in events] == ["stuck"] * 3
    for event, reason in zip(
        events, ("JobHeldUser", "DependencyNeverSatisfied", "PartitionConfig"), strict=True
    ):
        assert reason in event.message
        assert cluster.job(event.job_id).state.base == "CANCELLED"


def test_a_task_whose_job_will_never_start_does_not_try_again(cluster, patience):
    patience(stuck=0.0)
    with pytest.raises(JobStuckError):
        run(operator("exit 0", nodes=9))


async def test_a_dependency_is_waited_for(cluster):
    first = cluster.submit("sleep 1")
    second = cluster.submit("exit 0", dependency=f"afterok:{first}")
    event = await cluster.wait(second)

    assert event.job.state.base == "COMPLETED"
    assert event.job.started_at >= cluster.job(first).ended_at


async def test_jobs_are_cancelled_whatever_they_are_doing(cluster):
    running = cluster.submit("trap '' TERM; while :; do sleep 1; done")
    pending = cluster.submit("exit 0", hold=True)
    finished = cluster.submit("exit 0")
    await cluster.wait(finished)
    await cluster.until_running(running)

    assert [cluster.cancel(each) for each in (running, pending, finished, UNKNOWN)] == [
        True,
        True,
        False,
        False,
    ]
    events = await cluster.wait_all([running, pending])
    assert [event.job.state.base for event in events] == ["CANCELLED", "CANCELLED"]
    # not before it is really gone: what ignores TERM has until KillWait
    assert not events[0].job.state.completing


async def test_a_job_that_somebody_cancels_fails_its_task(cluster):
    job_id = cluster.submit("sleep 600")
    await cluster.until_running(job_id)
    cluster.cancel(job_id)
    event = await cluster.wait(job_id)
    with pytest.raises(JobCancelledError):
        operator("exit 0").execute_complete({"ti": TaskInstance()}, event.to_payload())


async def test_at_its_deadline_a_tasks_job_is_cancelled(cluster):
    job_id = cluster.submit("sleep 600")
    await cluster.until_running(job_id)
    event = await cluster.wait(job_id, deadline=time.time() + 0.5, owns_job=True)

    assert event.outcome == "timed_out"
    assert "It was cancelled" in event.message
    assert cluster.job(job_id).state.base == "CANCELLED"


async def test_an_array_fails_with_its_task_that_failed(cluster):
    job_id = cluster.submit("test $SLURM_ARRAY_TASK_ID != 2", array="0-3%2")
    event = await cluster.wait(job_id, array="0-3")
    states = {task.array_task_id: task.state.base for task in event.job.tasks}

    assert event.job.state.base == "FAILED"
    assert states == {0: "COMPLETED", 1: "COMPLETED", 2: "FAILED", 3: "COMPLETED"}
    assert f"Job {job_id}[2] ended FAILED" in event.job.describe()


async def test_an_arrays_tasks_write_each_into_a_file_of_their_own(cluster):
    job_id = cluster.submit("echo task $SLURM_ARRAY_TASK_ID", array="1-3")
    event = await cluster.wait(job_id, array="1-3")

    for task in event.job.tasks:
        assert cluster.output(task.job_id) == f"task {task.array_task_id}\n"


async def test_a_job_that_has_ended_is_in_the_accounting(cluster):
    name = f"named-{time.time()}"
    job_id = cluster.submit("exit 3", name=name)
    await cluster.wait(job_id)

    def by(**query):
        with Client(cluster.access) as client:
            return client.list_accounting(cluster.cluster_id, **query)

    # slurmctld tells slurmdbd when it finds the time
    await cluster.until(lambda: any(job.state.ended for job in by(job_ids=[job_id])))
    assert {job.job_id for job in by(job_name=name)} == {job_id}
    (job,) = by(job_ids=[job_id])
    assert (job.name, job.state.base, job.exit.code) == (name, "FAILED", 3)
    assert by(job_name="nobody has this name") == []


async def test_an_unknown_job_is_unknown_everywhere(cluster):
    with Client(cluster.access) as client:
        with pytest.raises(NotFoundError):
            client.get_job(cluster.cluster_id, UNKNOWN)
        with pytest.raises(NotFoundError):
            client.read_output(cluster.cluster_id, UNKNOWN)
        assert client.list_states(cluster.cluster_id, [UNKNOWN]) == []
        assert client.list_accounting(cluster.cluster_id, job_ids=[UNKNOWN]) == []


async def test_the_cluster_tells_of_itself(cluster):
    job_id = cluster.submit("exit 0", hold=True)
    with Client(cluster.access) as client:
        (state,) = client.list_states(cluster.cluster_id, [job_id])
        nodes = client.list_nodes(cluster.cluster_id)
        stats = client.get_stats(cluster.cluster_id)
        metrics = client.read_metrics(cluster.cluster_id)
        listed = {job.job_id for job in client.list_jobs(cluster.cluster_id)}
        client.cancel_job(cluster.cluster_id, job_id)

    assert (state.job_id, state.state.base) == (str(job_id), "PENDING")
    assert job_id in listed
    assert nodes
    assert stats["jobs_submitted"] > 0
    assert 'slurm_jobs{state="PENDING"}' in metrics


@pytest.fixture
def logged(mocker):
    """What the trigger writes into the task's log, in order."""
    lines = []
    logger = mocker.patch.object(ClusterraJobTrigger, "log", mocker.Mock())
    logger.info.side_effect = lambda words, *values: lines.append((words, *values))
    return lines


async def test_output_is_followed_live_and_to_the_byte(cluster, logged):
    job_id = cluster.submit(TALKS)
    waiting = asyncio.create_task(cluster.wait(job_id, follow_output=True))
    await cluster.until(lambda: _written(logged) == "begins")
    go = cluster.submit("touch talk-on")
    await waiting
    await cluster.wait(go)
    await cluster.wait(cluster.submit("rm talk-on"))

    # records are the output without the last one's line end
    assert _written(logged) == cluster.output(job_id).rstrip("\n")


def _written(logged):
    records = [values[0] for words, *values in logged if words == "%s"]
    return "\n".join(records).replace(f"\n{GOES_ON}", "")


async def test_what_was_uploaded_is_there_at_a_signed_address(cluster, tmp_path):
    source = tmp_path / "numbers.txt"
    source.write_text("1\n2\n3\n")
    with Client(cluster.access) as client:
        size = source.stat().st_size
        key = client.upload_file(
            cluster.cluster_id, source.name, "data", size, lambda: source.open("rb")
        )
    url = cluster.download_url(key)
    job_id = cluster.submit(f"curl --fail --silent '{url}' | paste -sd+ -")
    event = await cluster.wait(job_id)

    assert event.job.state.base == "COMPLETED"
    assert cluster.output(job_id) == "1+2+3\n"


async def test_a_template_runs_as_a_job(cluster):
    body = {
        "template_id": "custom-slurm",
        "params": {"job_name": "mine", "script_body": "#!/bin/bash\necho from a template\n"},
    }
    job_id = cluster.submit_body(body)
    event = await cluster.wait(job_id)

    assert (event.job.name, event.job.state.base) == ("mine", "COMPLETED")
    assert cluster.output(job_id) == "from a template\n"
