"""Tests of airflow_provider_clusterra.api.usage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import read_job, read_jobs
from airflow_provider_clusterra.api.errors import ApiError, ProtocolError
from airflow_provider_clusterra.api.jobs import Job, read_state, read_time
from airflow_provider_clusterra.api.usage import (
    OF_ALL,
    USAGE,
    is_told,
    may_have_used,
    own_values,
    read_cost,
    read_runs,
    together,
    usage_of,
)
from airflow_provider_clusterra.task.result import job_result, receipt
from tests.support.accounting import BEGIN, MB, record, step
from tests.support.recorded import FOLDER, answer, read, sample

COMPLETED = read_state("COMPLETED")


def runs(*records):
    return read_runs(answer({"jobs": list(records), "errors": []}))


def usage(*records, job=None):
    return usage_of(job or Job(9, COMPLETED), runs(*records))


def mem(megabytes):
    return {"mem": megabytes * MB}


def test_a_job_of_one_script_has_every_number_with_its_unit():
    script = step(0, 100, cpu=44.5, **mem(310))
    assert usage(record(script, comment="clusterra:run_id=7;cost_usd=0.0125")) == {
        "queue_seconds": 12,
        "run_seconds": 100,
        "nodes_allocated": 1,
        "node_hours": 0.0278,
        "cpus_allocated": 2,
        "cpu_core_seconds_allocated": 200,
        "cpu_core_seconds_used": 44.5,
        "cpu_efficiency": 0.2225,
        "memory_bytes_requested": 1000 * MB,
        "memory_bytes_peak": 310 * MB,
        "memory_share": 0.31,
        "cost_usd": 0.0125,
    }


def test_a_real_record_without_any_gathering_says_what_was_asked_for():
    (run,) = read_runs(sample("slurmdb_job_after_purge", "24.11-v0.0.42"))
    found = usage_of(Job(51, COMPLETED), [run])

    assert found["memory_bytes_requested"] == 100 * MB
    assert found["cpus_allocated"] == 1
    assert found["run_seconds"] == 1
    assert found["queue_seconds"] == 0
    assert found["cpu_core_seconds_used"] == pytest.approx(0.0023)
    # NO_VAL64 reads as -2, and a step's energy is 0 where nobody measures it
    assert not {"memory_bytes_peak", "energy_joules", "gpus_allocated"} & found.keys()


def test_what_nobody_gathers_is_absent_and_what_is_zero_stays_zero():
    idle = usage(record(step(0, 100, cpu=0.0)))
    gathered = usage(record(step(0, 100, cpu=0.0, cpu__=0, mem=0), energy=0))

    assert not {"cpu_core_seconds_used", "cpu_efficiency", "memory_bytes_peak"} & idle.keys()
    assert gathered["cpu_core_seconds_used"] == gathered["memory_bytes_peak"] == 0
    assert gathered["cpu_efficiency"] == gathered["energy_joules"] == 0


@pytest.mark.parametrize("count", [-2, -1, 2**63, 2**64 - 2, None, "x"])
def test_a_count_that_slurm_does_not_tell_is_absent(count):
    assert "energy_joules" not in usage(record(energy=count))


@pytest.mark.parametrize(
    ("steps", "peak"),
    [
        ([step(0, 50, **mem(400)), step(50, 100, **mem(300))], 400),
        ([step(0, 60, **mem(400)), step(50, 100, **mem(300))], 700),
        ([step(0, 100, **mem(5)), step(1, 9, **mem(400)), step(1, 9, **mem(400))], 805),
        ([step(0, 100, **mem(5)), step(1, 9, **mem(400)), step(9, 20, **mem(400))], 405),
        ([step(3, 3, **mem(400)), step(3, 3, **mem(400))], 800),
        ([step(3, 3, **mem(400)), step(4, 4, **mem(300))], 400),
        # more together than the job had: a loop of quick ones
        ([step(0, 100, **mem(5)), *[step(3, 3, **mem(400))] * 50], 405),
        ([step(0, 1), step(1, 2, **mem(7))], 7),
        ([{**step(0, 100), "step": {"id": "9.extern"}}, step(1, 9, **mem(7))], 7),
    ],
    ids=str,
)
def test_steps_side_by_side_add_up_in_memory_and_others_do_not(steps, peak):
    assert usage(record(*steps))["memory_bytes_peak"] == peak * MB


def test_a_step_at_which_nobody_looked_leaves_the_jobs_use_unknown():
    """Recorded: the batch script, and ``srun --acctg-freq=0`` that held 400 MB."""
    unseen = usage(record(step(0, 70, cpu=0.03, **mem(6)), step(1, 69)))
    seen_elsewise = usage(record(step(0, 70, cpu=0.03, **mem(6)), step(1, 69, cpu=3)))

    assert not {"memory_bytes_peak", "memory_share", "cpu_core_seconds_used"} & unseen.keys()
    assert "memory_bytes_peak" not in seen_elsewise
    assert seen_elsewise["cpu_core_seconds_used"] == 3.03


@pytest.mark.parametrize(
    "total", [None, {}, {"seconds": -2, "microseconds": -2}, {"seconds": 2**32 - 2}], ids=str
)
def test_a_step_that_does_not_say_its_seconds_leaves_those_of_the_job_unknown(total):
    silent = step(0, 100, **mem(300))
    silent["time"]["total"] = total
    found = usage(record(step(0, 100, cpu=5, **mem(5)), silent))

    assert not {"cpu_core_seconds_used", "cpu_efficiency"} & found.keys()
    assert found["memory_bytes_peak"] == 305 * MB


def test_a_step_of_which_only_the_largest_task_is_told_counts_with_it():
    of_old = step(0, 100, **mem(300))
    of_old["tres"]["requested"]["total"] = []
    assert usage(record(of_old))["memory_bytes_peak"] == 300 * MB


SPANS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 1000)), min_size=1, max_size=8
)


@given(SPANS)
def test_the_peak_is_that_of_the_worst_second(spans):
    steps = [step(begin, begin + length, mem=used) for begin, length, used in spans]
    by_second = [
        sum(used for begin, length, used in spans if begin <= second < begin + length)
        for second in range(100)
    ]
    assert usage(record(*steps))["memory_bytes_peak"] == max(by_second)


@given(SPANS)
def test_cpu_seconds_of_all_steps_add_up_in_whatever_order(spans):
    steps = [step(begin, begin + length, cpu=used / 8, mem=1) for begin, length, used in spans]
    found = usage(record(*steps))

    assert found == usage(record(*reversed(steps)))
    assert found["cpu_core_seconds_used"] == sum(used for *_, used in spans) / 8


VALUES = st.dictionaries(st.sampled_from(sorted(USAGE)), st.integers(0, 10**6), max_size=8)


@given(st.lists(VALUES, min_size=2, max_size=6), st.booleans())
def test_parts_come_to_no_less_than_any_of_them(parts, side_by_side):
    derived = {"cpu_efficiency", "memory_share"}
    parts = [{key: of[key] for key in of.keys() - derived} for of in parts]
    found = together(parts, side_by_side=side_by_side)
    partly = {key for key in OF_ALL if side_by_side and any(key not in of for of in parts)}

    assert found == together(parts[::-1], side_by_side=side_by_side)
    assert found.keys() - derived == set().union(*parts) - partly
    for of in parts:
        assert all(found[key] >= value for key, value in of.items() if key not in partly)


def test_gpus_say_how_busy_they_were_where_the_site_gathers_it():
    busy = {"gres__gpuutil": 120, "gres__gpumem": 3 * 2**30}
    found = usage(record(step(0, 100, cpu=1, **busy), gres__gpu=2))

    assert found["gpus_allocated"] == 2
    assert found["gpu_utilization_percent"] == 60
    assert found["gpu_memory_bytes_peak"] == 3 * 2**30
    assert "gpu_utilization_percent" not in usage(record(step(0, 9, mem=1), gres__gpu=2))
    assert "gpu_utilization_percent" not in usage(record(step(0, 100, cpu=1, **busy)))


def test_gpus_of_all_types_count_where_their_sum_is_not_accounted_for():
    typed = {"gres__gpu:a100": 2, "gres__gpu:h100": 1}
    found = usage(record(step(0, 100, cpu=1, gres__gpuutil=150), **typed))
    shared = usage(record(step(0, 9, gres__gpuutil=90), step(0, 9, gres__gpuutil=90), gres__gpu=1))

    assert found["gpus_allocated"] == 3
    assert found["gpu_utilization_percent"] == 50
    assert usage(record(**typed, gres__gpu=3))["gpus_allocated"] == 3
    assert own_values(Job(9, COMPLETED, tres_allocated="gres/gpu:a100=2"))["gpus_allocated"] == 2
    assert shared["gpu_utilization_percent"] == 100


def an_array(*indices):
    tasks = [
        Job(20 + index, COMPLETED, array_job_id=9, array_task_id=index, started_at=read_time(BEGIN))
        for index in indices
    ]
    return Job(9, COMPLETED, tasks=tuple(tasks))


def test_an_array_gives_totals_the_median_and_the_largest():
    tasks = [
        record(step(0, ran, cpu=ran, **mem(ran)), job_id=20 + index, array=(9, index), elapsed=ran)
        for index, ran in enumerate((10, 20, 90))
    ]
    found = usage(*tasks, job=an_array(0, 1, 2))

    assert found["cpu_core_seconds_used"] == 120
    assert found["cpu_core_seconds_allocated"] == 240
    assert found["cpu_efficiency"] == 0.5
    assert found["memory_bytes_peak"] == found["tasks"]["largest"]["memory_bytes_peak"] == 90 * MB
    assert found["run_seconds"] == 90
    assert found["cpus_allocated"] == 2
    assert found["tasks"]["count"] == 3
    assert found["tasks"]["median"]["memory_bytes_peak"] == 20 * MB
    assert found["tasks"]["median"]["run_seconds"] == 20


def test_an_array_of_thousands_is_told_in_few_words():
    tasks = [record(step(0, 9, mem=1), job_id=20 + n, array=(9, n)) for n in range(10_000)]
    assert len(str(usage(*tasks, job=an_array(*range(10_000))))) < 1200


def test_what_never_ran_of_an_array_is_no_task_of_it():
    rest = record(job_id=9, array=(9, None), state="CANCELLED", elapsed=0)
    ran = record(job_id=20, array=(9, 0))
    assert usage(ran, rest, job=an_array(0))["tasks"]["count"] == 1


NEVER_RAN = {
    **record(state="CANCELLED", elapsed=0, planned=0),
    "tres": {"allocated": [], "requested": [{"type": "mem", "name": "", "count": 100}]},
}
NEVER_RAN["time"] |= {"start": 2**32 - 2, "eligible": 2**32 - 1}
"""As slurmdbd has it, recorded with 26.05."""


def test_a_job_that_was_cancelled_in_the_queue_neither_queued_nor_ran():
    job = replace(
        read_job(sample("job_cancelled_while_held"), read_jobs_id("job_cancelled_while_held")),
        job_id=9,
    )
    (run,) = runs(NEVER_RAN)
    result = job_result(job)

    assert run.job.started_at is None
    assert usage_of(job).keys() == usage_of(job, [run]).keys() == {"memory_bytes_requested"}
    assert is_told(job, [run])
    assert not may_have_used(job)
    assert {result[key] for key in ("started_at", "queued_seconds", "ran_seconds")} == {None}
    assert may_have_used(replace(job, restarts=1))
    assert may_have_used(replace(job, nodes="cn1"))
    assert may_have_used(Job(9, read_state("FAILED")))


def test_of_all_recorded_ends_those_without_a_node_never_ran():
    bodies = [read(path) for path in sorted(FOLDER.glob("*/*job*.json"))]
    jobs = [job for body in bodies if b'"job_state"' in body.body for job in read_jobs(body)]
    ended = [job for job in jobs if job.state.ended]

    assert {job.state.base for job in ended if not job.ran} == {"CANCELLED", "FAILED"}
    for job in ended:
        assert job.ran is bool(job.nodes), job
        assert ("run_seconds" in own_values(job)) is job.ran


def test_an_arrays_tasks_that_never_ran_are_not_counted():
    times = {"submitted_at": read_time(BEGIN - 4), "ended_at": read_time(BEGIN)}
    waiting = [
        replace(task, **times, state=read_state("CANCELLED"), tres_requested="cpu=1,mem=1G,node=1")
        for task in an_array(1, 2, 3).tasks
    ]
    (ran,) = an_array(0).tasks
    job = replace(an_array(0), tasks=(ran, *waiting))
    told = runs(record(step(0, 100, mem=5), job_id=20, array=(9, 0)), {**NEVER_RAN, "job_id": 9})
    tasks = usage_of(job, told)["tasks"]

    assert (tasks["count"], tasks["measured"]) == (1, 1)
    assert tasks["median"]["run_seconds"] == 100
    assert is_told(job, told)
    assert not may_have_used(replace(job, tasks=tuple(waiting)))


@pytest.mark.parametrize("told", [0, 1, 3])
def test_an_array_says_how_many_of_its_tasks_were_measured(told):
    records = [record(step(0, 9, mem=1), job_id=20 + n, array=(9, n)) for n in range(told)]
    tasks = usage(*records, job=an_array(0, 1, 2))["tasks"]

    assert (tasks["count"], tasks["measured"]) == (3, told)


def test_without_accounting_the_seconds_of_a_suspension_are_not_counted():
    """Suspended after a second, and resumed 40 s later."""
    body = sample("job_suspended").json()
    (raw,) = body["jobs"]
    begin = raw["start_time"]["number"]
    raw["suspend_time"]["number"], raw["end_time"]["number"] = begin + 41, begin + 50
    job = read_job(answer({**body, "jobs": [raw | {"job_state": ["COMPLETED"]}]}), raw["job_id"])

    assert own_values(job)["run_seconds"] == 10
    assert own_values(job)["cpu_core_seconds_allocated"] == 10
    assert own_values(replace(job, suspended_seconds=0))["run_seconds"] == 50


def test_one_task_of_an_array_is_a_job_by_itself():
    task = record(step(0, 9, mem=7), job_id=21, array=(9, 1))
    found = usage(task, job=Job(21, COMPLETED, array_job_id=9, array_task_id=1))

    assert found["memory_bytes_peak"] == 7
    assert "tasks" not in found


def test_a_het_jobs_components_run_side_by_side():
    parts = [
        record(step(0, 100, cpu=50, **mem(100 * n)), job_id=8 + n, het=(9, n - 1), mem=100 * n)
        for n in (1, 2)
    ]
    found = usage(*parts)

    assert found["memory_bytes_peak"] == found["memory_bytes_requested"] == 300 * MB
    assert found["memory_share"] == 1
    assert found["cpus_allocated"] == 4
    assert found["run_seconds"] == 100
    assert found["components"]["1"]["memory_bytes_peak"] == 200 * MB


@pytest.mark.parametrize("second", [[record(step(0, 100), job_id=10, het=(9, 1))], []], ids=len)
def test_what_is_not_known_of_each_component_is_not_known_of_a_het_job(second):
    first = record(step(0, 100, cpu=50, **mem(100)), job_id=9, het=(9, 0))
    components = tuple(Job(9 + n, COMPLETED, het_job_id=9, het_job_offset=n) for n in (0, 1))
    job = Job(9, COMPLETED, tasks=components)
    found = usage(first, *second, job=job)

    assert not {"memory_bytes_peak", "memory_share", "cpu_core_seconds_used"} & found.keys()
    assert found["components"]["0"]["memory_bytes_peak"] == 100 * MB
    assert "would do" not in receipt(replace(job, usage=found))


def test_a_requeued_job_tells_of_its_last_run_and_of_all():
    first = record(step(0, 50, cpu=40, mem=9), state="NODE_FAIL", elapsed=50)
    last = record(step(200, 300, cpu=60, mem=5), start=200)
    for told in ((first, last), (last, first)):
        found = usage(*told)
        assert found["run_seconds"] == 100
        assert found["cpu_core_seconds_used"] == 60
        assert found["memory_bytes_peak"] == 5
        assert found["all_runs"]["count"] == 2
        assert found["all_runs"]["run_seconds"] == 150
        assert found["all_runs"]["cpu_core_seconds_used"] == 100
        assert found["all_runs"]["memory_bytes_peak"] == 9


@pytest.mark.parametrize("restarts", [1, 2])
def test_the_memory_of_all_runs_is_said_if_each_is_known(restarts):
    last = record(step(200, 300, cpu=60, mem=5), start=200)
    job = Job(9, COMPLETED, restarts=restarts)
    known = record(step(0, 50, mem=9), state="PREEMPTED", elapsed=50)
    unknown = record(step(0, 50), state="PREEMPTED", elapsed=50)

    assert ("memory_bytes_peak" in usage(known, last, job=job)["all_runs"]) is (restarts == 1)
    assert "memory_bytes_peak" not in usage(unknown, last, job=job)["all_runs"]


def test_an_earlier_run_is_never_taken_for_the_one_that_ended():
    job = Job(9, COMPLETED, started_at=read_time(BEGIN + 200), ended_at=read_time(BEGIN + 230))
    told = runs(record(step(0, 50, cpu=40, mem=9), state="NODE_FAIL", elapsed=50))
    found = usage_of(job, told)

    assert not is_told(job, told)
    assert found["run_seconds"] == 30
    assert "memory_bytes_peak" not in found


def test_accounting_has_told_all_once_the_end_of_each_task_is_there():
    job = an_array(0, 1)
    done, runs_on = record(job_id=20, array=(9, 0)), record(array=(9, 1), state="RUNNING")

    assert not is_told(job, runs(done))
    assert not is_told(job, runs(done, runs_on))
    assert is_told(job, runs(done, record(job_id=21, array=(9, 1))))
    assert not is_told(Job(9, COMPLETED), [])


def test_slurmctlds_own_record_says_what_was_asked_for():
    job = replace(
        read_job(sample("job_completed"), read_jobs_id("job_completed")), admin_comment=""
    )
    found = usage_of(job, [])

    assert found["cpus_allocated"] >= 1
    assert found["memory_bytes_requested"] > 0
    assert found["run_seconds"] >= 0
    assert "cpu_core_seconds_used" not in found


def read_jobs_id(name):
    return sample(name).json()["jobs"][0]["job_id"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("mem=4G", 4096 * MB), ("mem=1.5G", 1536 * MB), ("mem=512M", 512 * MB), ("mem=1T", 2**40)],
)
def test_memory_is_read_in_slurms_units(text, size):
    found = own_values(Job(9, COMPLETED, tres_allocated=f"cpu=2,{text},node=1,gres/gpu=3"))
    assert found["memory_bytes_requested"] == size
    assert found["gpus_allocated"] == 3


def test_a_count_that_slurm_does_not_tell_in_words_is_absent():
    """Seen of old versions, which have no sensor."""
    job = Job(9, COMPLETED, tres_allocated=f"cpu=2,mem=4G,energy={2**64 - 2}")
    assert "energy_joules" not in own_values(job)


@pytest.mark.parametrize(
    ("comment", "cost"),
    [
        ("clusterra:run_id=a;cost_usd=0.25;x=1", 0.25),
        ('{"cost_usd": 1.5e-3}', 0.0015),
        ("cost_usd=0", 0.0),
        ("cost_usd=.5", 0.5),
        ("total_cost_usd=5;cost_usd=0.1", 0.1),
        (r'"{\"cost_usd\": \"0.3\"}"', 0.3),
        ('{"cost_usd": null}', None),
        ("cost_usd=1e999", None),
        ("", None),
        ("costs nothing", None),
    ],
)
def test_a_cost_is_found_in_the_administrators_comment(comment, cost):
    assert read_cost(comment) == cost


def test_the_cost_of_slurmctlds_record_stands_where_accounting_has_none():
    job = Job(9, COMPLETED, admin_comment="cost_usd=0.25")
    assert usage(record(), job=job)["cost_usd"] == 0.25


@pytest.mark.parametrize(
    "broken",
    [
        {"steps": None, "tres": "x", "time": 7},
        {"steps": [None, {"time": 3, "tres": []}], "comment": "text"},
        {"tres": {"allocated": [{"count": {}}, 3]}, "steps": {"a": 1}},
    ],
)
def test_a_record_of_another_form_costs_what_cannot_be_read(broken):
    found = usage({**record(), **broken})
    assert "memory_bytes_peak" not in found


def test_a_row_without_an_id_costs_that_row():
    assert len(runs({"job_id": None}, record())) == 1


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (answer({"jobs": [], "errors": [{"error": "x", "error_number": 9}]}, status=500), ApiError),
        (answer("<html>"), ProtocolError),
        (answer({"status": "ok"}), ProtocolError),
        (answer([1]), ProtocolError),
    ],
)
def test_an_answer_that_is_none_is_refused(said, error):
    with pytest.raises(error):
        read_runs(said)
