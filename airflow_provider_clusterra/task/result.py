"""What of a job's output its task returns, or shows when the job has failed, and what the job used."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowFailException, Context
from msgspec.structs import replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.calls import Output
from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import ONCE, ClusterraError, InputError, NotFoundError
from airflow_provider_clusterra.api.jobs import Job, seconds_between
from airflow_provider_clusterra.api.usage import usage_of
from airflow_provider_clusterra.submit.protocol import failure_of
from airflow_provider_clusterra.submit.retries import earlier_tasks, state_after
from airflow_provider_clusterra.submit.submission import RecordStore
from airflow_provider_clusterra.task.fetching import JobOutputs
from airflow_provider_clusterra.task.report import (
    JobError,
    JobLostError,
    JobOverdueError,
    JobResultError,
    JobSkippedError,
    JobStuckError,
    advise,
    describe,
    describe_request,
    kind_of,
    report,
    show_output,
)
from airflow_provider_clusterra.triggers.jobs import JobEvent
from airflow_provider_clusterra.watch.arrays import (
    ArraySuccess,
    array_succeeded,
    array_tasks,
    collect_ends,
    counts_of,
    exited_only_with,
    failed_array_tasks,
    with_earlier,
    with_ends,
    write_indices,
)
from airflow_provider_clusterra.watch.receipt import account_for, records_or_none
from airflow_provider_clusterra.watch.verdict import records_of

log = logging.getLogger(__name__)

LARGEST_VALUE = 64 * 1024
"""Bytes that one job's output may bring into XCom."""
LARGEST_ARRAY = 512 * 1024
"""Bytes that the outputs of all of an array's tasks may bring."""
LEAST_TEXT = 1024
"""Bytes that each task of an array may bring as text, however many there are."""
DEEPEST = 100
"""Levels of lists and dicts that a value in XCom may have."""
AT_ONCE = 8
"""How many outputs are read at once."""
ADVICE = "Let the job write its result to a file, and return only the file's name."


Reading = str | Callable[[Output], Any]
"""How an output is read: as ``return_output`` says, or by what finds a value in it."""


def returned_output(client: Client, cluster_id: str, job: Job, return_output: Reading) -> Any:
    """What of a job's output is returned; of an array, for each index (as text: JSON has no other)."""
    tasks = array_tasks(job)
    if not tasks:
        return read_result(client.read_output(cluster_id, job.job_id), return_output)
    most = LARGEST_VALUE
    if return_output == "text":
        # half, because JSON writes a line end as two characters, and a cut adds a line
        most = min(most, max(LEAST_TEXT, LARGEST_ARRAY // len(tasks) // 2))

    def read(task: Job) -> Any:
        return _task_output(client, cluster_id, task, return_output, most)

    found: dict[str, Any] = {}
    size = 0
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clusterra-output") as pool:
        try:
            for task, value in zip(tasks, pool.map(read, tasks), strict=True):
                found[str(task.array_task_id)] = value
                size += len(msgspec.json.encode(value))
                if size > LARGEST_ARRAY:
                    raise InputError(
                        f"The outputs of the array's tasks are too large for XCom, which takes "
                        f"{LARGEST_ARRAY} bytes of them. {ADVICE}"
                    )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return found


def _task_output(
    client: Client, cluster_id: str, task: Job, return_output: Reading, most: int
) -> Any:
    if not task.state.succeeded:
        return None
    if not task.job_id:
        if not callable(return_output):
            return None
        raise InputError(
            f"Index {task.array_task_id} succeeded, and neither Slurm nor accounting knows its own job "
            "id (any more), so its value cannot be read. Clear the task to run all again."
        )
    try:
        return read_result(client.read_output(cluster_id, task.job_id), return_output, most)
    except InputError as error:
        raise InputError(f"Index {task.array_task_id}: {error}") from error


def read_result(output: Output, return_output: Reading, most: int = LARGEST_VALUE) -> Any:
    """What of an output is returned."""
    if callable(return_output):
        return return_output(output)
    if return_output == "text":
        return _text(output, most)
    lines = [line for line in output.data.decode("utf-8", "replace").split("\n") if line.strip()]
    if return_output == "json":
        value = _last_json(lines)
    else:
        value = lines[-1].rstrip("\r") if lines else ""
    size = len(msgspec.json.encode(value))
    if size > most:
        raise InputError(
            f"return_output is {return_output!r}, and the job's result has {size} bytes, of which "
            f"XCom takes {most}. {ADVICE}"
        )
    return value


def _text(output: Output, most: int) -> str:
    kept = output.data[-most:]
    left_out = output.skipped + len(output.data) - len(kept)
    text = kept.decode("utf-8", "replace")
    if not left_out:
        return text
    # a cut through a character leaves bytes that are none
    return f"[The first {left_out} bytes are left out.]\n" + text.lstrip(
        "\N{REPLACEMENT CHARACTER}"
    )


def _last_json(lines: list[str]) -> Any:
    for line in reversed(lines):
        with suppress(msgspec.DecodeError):
            return read_json(msgspec.json.decode, line)
    raise InputError("return_output is 'json', and no line of the job's output is a JSON value.")


def read_json(decode: Callable[[str], Any], text: str) -> Any:
    """A value that XCom can hold, too: like JSON, Airflow goes into it by recursion."""
    try:
        value = decode(text)
    except RecursionError:
        if text.rstrip()[-1:] not in ("]", "}"):
            raise msgspec.DecodeError("a line of brackets") from None
    else:
        if not _is_deep(value, DEEPEST):
            return value
    raise InputError(
        f"The job's value is nested more than {DEEPEST} levels deep, and XCom cannot hold it. {ADVICE}"
    )


def _is_deep(value: Any, levels: int) -> bool:
    if levels == 0:
        return True
    if isinstance(value, dict):
        value = [*value.values()]
    return isinstance(value, list) and any(_is_deep(part, levels - 1) for part in value)


MOST_ALONE = 1001
"""Indices of an array, as many as a Slurm allows by itself, that the result has one by one."""
MOST_ENDS = 150
"""Ends of a large array's indices, the most frequent ones, that the result has with their exit codes."""
TAIL_BYTES = 16 * 1024
LINE_BYTES = 1024
MOST_LINES = 20
"""Tasks of an array whose last lines are shown."""


def job_result(job: Job, output: Any = None) -> dict[str, Any]:
    """A job's end as XCom holds it: plain JSON values, times in ISO 8601."""
    started_at = job.began_at
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state.base,
        "exit_code": job.exit.code,
        "signal": job.exit.signal,
        "reason": job.reason,
        "nodes": job.nodes,
        "submitted_at": _iso(job.submitted_at),
        "started_at": _iso(started_at),
        "ended_at": _iso(job.ended_at),
        "queued_seconds": seconds_between(job.submitted_at, started_at),
        "ran_seconds": seconds_between(started_at, job.ended_at),
        "restarts": job.restarts,
        "output": output,
        "tasks": _ends_of(array_tasks(job)),
        "usage": usage_of(job),
    }


def _ends_of(tasks: Sequence[Job]) -> dict[str, Any]:
    """How each index ended; of a large array, all that ended alike under one key, e.g. ``"0-41,43"``."""
    if len(tasks) <= MOST_ALONE:
        return {
            str(task.array_task_id): {"state": task.state.base, "exit_code": task.exit.code}
            for task in tasks
        }
    ends = [(task.state.base, task.exit.code) for task in tasks]
    often = {end for end, _ in Counter(ends).most_common(MOST_ENDS)}
    groups: dict[tuple[str, int | None], list[int]] = {}
    for task, (state, code) in zip(tasks, ends, strict=True):
        end = (state, code if (state, code) in often else None)
        groups.setdefault(end, []).append(task.place)
    return {
        write_indices(indices): {"state": state, "exit_code": code}
        for (state, code), indices in groups.items()
    }


@contextmanager
def failed_jobs_pushed(context: Context, outputs: JobOutputs | None = None) -> Iterator[None]:
    """Push what became of a job that fails or skips its task as XCom ``job``: it returns nothing."""
    try:
        yield
    except (JobError, JobSkippedError) as error:
        if error.job is not None:
            result = getattr(error, "result", None) or job_result(error.job)
            if outputs and outputs.on_failure and isinstance(error, JobError):
                result["outputs"] = outputs.bring_of_failed(result)
            context["ti"].xcom_push(key="job", value=result)
        raise


def finish(
    event: JobEvent,
    client: Client,
    return_output: Reading | None,
    *,
    array_success: ArraySuccess = "all",
    skip_on: Collection[int] = (),
    earlier: Iterable[Job] = (),
    more: str = "",
    is_grown: bool = False,
) -> dict[str, Any]:
    """The value that the task returns, or the error that it fails with."""
    if event.outcome != "ended" or event.job is None:
        raise _unfinished(event, client, earlier, more)
    own = with_tasks(event, event.job, client, ids=return_output is not None)
    if own.usage is None:
        own = account_for(client, event.cluster_id, own)
    job = with_earlier(own, earlier)
    if words := receipt(job, is_grown=is_grown):
        log.info(words)
    if array_succeeded(job, array_success):
        if not job.state.succeeded:
            log.warning("%s\narray_success=%r makes this a success.", describe(job), array_success)
        return job_result(job, _returned(client, event.cluster_id, job, return_output))
    if exited_only_with(job, skip_on):
        raise JobSkippedError(f"{describe(job)} skip_on_exit_code makes this a skipped task.", job)
    output, unread = _tail(client, event.cluster_id, job)
    lasts = _last_lines(client, event.cluster_id, job)
    raise kind_of(job, output)(report(job, output, unread, lasts), job)


def _unfinished(event: JobEvent, client: Client, earlier: Iterable[Job], more: str) -> Exception:
    """What a task fails with if its job was not seen to end."""
    job = event.job
    match event.outcome:
        case "refused":
            return AirflowFailException(event.message)
        case "timed_out" | "overdue":
            return JobOverdueError(_overdue(event, client), job)
        case "stuck":
            grown = f" This retry asked for more than the last try: {more}." if more else ""
            advice = advise(job) if job else ""
            return JobStuckError(f"{event.message}{grown} {advice}".rstrip(), job)
    whole = with_earlier(job, earlier) if job else None
    return JobLostError(event.message or f"Job {event.job_id} is lost.", whole)


def _overdue(event: JobEvent, client: Client) -> str:
    job = event.job
    if job is None:
        return event.message
    if job.started_at is None or job.state.base == "PENDING":
        return f"{event.message} {advise(job) if event.outcome == 'overdue' else ''}".rstrip()
    parts = (
        event.message,
        describe_request(job),
        show_output(*_tail(client, event.cluster_id, job)),
    )
    return "\n".join(filter(None, parts))


def with_tasks(event: JobEvent, job: Job, client: Client, *, ids: bool) -> Job:
    """An array with its tasks, if they were too many for the event, or their ids are needed.

    Only the wait decides how it ended: what is read here may be stale.
    """
    known = job.tasks and all(task.job_id or not ids for task in job.tasks)
    if known or job.array_job_id != event.job_id:
        return job
    shown = _tasks_shown(event, job, client)
    if job.tasks:
        return replace(job, tasks=tuple(_with_ids(job.tasks, shown)))
    whole = replace(job, tasks=with_ends(job, collect_ends({}, shown)).tasks)
    if event.counts and counts_of(whole) != event.counts:
        log.warning("Job %s: not all of its tasks' ends can be read (any more).", job.job_id)
        return job
    return whole


def _with_ids(tasks: Iterable[Job], shown: Iterable[Job]) -> Iterator[Job]:
    own = {task.array_task_id: task.job_id for task in shown}
    for task in tasks:
        yield replace(task, job_id=task.job_id or own.get(task.array_task_id, 0))


def _tasks_shown(event: JobEvent, job: Job, client: Client) -> list[Job]:
    """An array's tasks as accounting has them, and as Slurm still shows them."""
    ask = partial(client.list_accounting, event.cluster_id, job_ids=[event.job_id])
    shown = records_of(event.job_id, records_or_none(ask) or (), job.name)
    with suppress(NotFoundError):
        seen = client.get_job(event.cluster_id, event.job_id)
        shown += seen.tasks if job.name in ("", seen.name) else ()
    return [task for task in shown if task.array_job_id == event.job_id]


def _returned(client: Client, cluster_id: str, job: Job, return_output: Reading | None) -> Any:
    if return_output is None:
        return None
    unknown = [task for task in array_tasks(job) if task.state.succeeded and not task.job_id]
    if unknown:
        log.warning("The output of %s tasks is not known to the cluster any more.", len(unknown))
    try:
        return returned_output(client, cluster_id, job, return_output)
    except InputError as error:
        raise JobResultError(f"Job {job.job_id} ended well, but: {error}", job) from error


def _tail(client: Client, cluster_id: str, job: Job) -> tuple[str, str]:
    """The end of the output, or ``""`` and why it cannot be read."""
    # an array's own file is its last index's, and a het job's its leader's
    whose = next(iter(failed_array_tasks(job)), job)
    try:
        output = client.read_output(cluster_id, whose.job_id or job.job_id, keep=TAIL_BYTES)
    except ClusterraError as error:
        path = whose.standard_output or job.standard_output
        return "", f"{error} Slurm wrote it to {path}." if path else str(error)
    return output.data.decode("utf-8", "replace"), ""


def _last_lines(client: Client, cluster_id: str, job: Job) -> list[str]:
    """What each of an array's tasks that failed wrote last, if there are several; the first ones'."""
    failed = [task for task in failed_array_tasks(job) if task.job_id]
    if len(failed) < 2:
        return []
    read = partial(_last_line, client, cluster_id)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clusterra-output") as pool:
        return [line for line in pool.map(read, failed[:MOST_LINES]) if line]


def _last_line(client: Client, cluster_id: str, task: Job) -> str:
    """With its index; empty if there is none, or it cannot be read."""
    call = calls.read_output(cluster_id, task.job_id, keep=LINE_BYTES)
    try:
        output = client.send(call, retry=ONCE)
    except ClusterraError:
        return ""
    text = output.data.decode("utf-8", "replace").rstrip().rpartition("\n")[2].strip()
    return f"  {task.array_task_id}: {text}" if text else ""


def _iso(time: Any) -> str | None:
    return time.isoformat() if time else None


def end_try(
    context: Context,
    client: Client,
    event: JobEvent,
    return_output: Reading | None,
    array_success: ArraySuccess,
    store: RecordStore,
    skip_on: Collection[int],
    outputs: JobOutputs,
) -> dict[str, Any]:
    """The value of a try that submitted its job; a try that cannot copy outputs keeps its record."""
    state = store.retry_state
    try:
        with failed_jobs_pushed(context, outputs):
            result = finish(
                event,
                client,
                return_output,
                array_success=array_success,
                skip_on=skip_on,
                earlier=earlier_tasks(state),
                more=state.more,
                is_grown=state.written is not None,
            )
            result |= outputs.bring(result, event.job)
    except JobError as error:
        if not isinstance(error, JobLostError):
            store.save_failure(failure_of(error.job), state_after(state, error.job))
        raise
    store.mark_done()
    return result


def has_succeeded(job: Job | None, store: RecordStore, array_success: ArraySuccess) -> bool:
    """Whether a job has succeeded, an array together with what earlier tries brought."""
    if job is None:
        return False
    return array_succeeded(with_earlier(job, earlier_tasks(store.retry_state)), array_success)


ADVISED_AFTER = 60.0
"""Seconds that a job must have run before its memory says anything of the next one's."""
ROOM = 1.25
"""What is advised has so much room above the most that was used …"""
WORTH_IT = 0.75
"""… and is at most this share of what was asked for."""
MB, GB = 2**20, 2**30
UNITS = (("TB", 2**40), ("GB", GB), ("MB", MB), ("KB", 2**10), ("B", 1))


def receipt(job: Job, *, is_grown: bool = False) -> str:
    """E.g. "Job 12 used 3.1 of 16 GB, 22 % of 8 CPUs for 41 min, queued 12 min; memory='4G' would
    do."; empty if nothing is known. Of a retry that got more than was written there is no advice: what
    was measured is not the peak that the last try died of.
    """
    usage = {**usage_of(job)}
    tasks = usage.get("tasks", {"count": 1})
    usage |= tasks.get("largest", {})
    memory, cpus = _memory(usage), _cpus(usage)
    if not (memory or cpus):
        return ""
    queued = f"queued {_time(usage['queue_seconds'])}" if "queue_seconds" in usage else ""
    cost = f"cost {_plain(round(usage['cost_usd'], 4), 4)} USD" if "cost_usd" in usage else ""
    words = ", ".join(filter(None, (memory, cpus, _gpus(usage), queued, cost)))
    verb = "used" if usage.keys() & {"memory_bytes_peak", "cpu_core_seconds_used"} else "had"
    count, measured = tasks["count"], tasks.get("measured", 0)
    some = f" ({measured} measured)" if 0 < measured < count else ""
    whose = f": each of its {count} tasks{some} {verb} at most" if count > 1 else f" {verb}"
    advice = "" if is_grown else _advice(job, usage)
    return f"Job {job.job_id}{whose} {words}{advice}."


def _memory(usage: Mapping[str, float]) -> str:
    peak, asked = usage.get("memory_bytes_peak"), usage.get("memory_bytes_requested")
    if not asked:
        return "" if peak is None else f"{_size(peak)} of memory"
    if peak is not None:
        used, of = _size(peak), _size(asked)
        return f"{used.removesuffix(of[-3:])} of {of}"
    if "cpu_core_seconds_used" in usage:
        return f"an unknown share of {_size(asked)}"
    return f"{_size(asked)} of memory" if "run_seconds" in usage else ""


def _cpus(usage: Mapping[str, float]) -> str:
    cpus, ran = usage.get("cpus_allocated"), usage.get("run_seconds")
    if not cpus or ran is None:
        return ""
    percent = 100 * usage["cpu_efficiency"] if "cpu_efficiency" in usage else None
    return f"{_busy(percent, cpus, 'CPU')} for {_time(ran)}"


def _gpus(usage: Mapping[str, float]) -> str:
    gpus = usage.get("gpus_allocated")
    return _busy(usage.get("gpu_utilization_percent"), gpus, "GPU") if gpus else ""


def _busy(percent: float | None, count: float, unit: str) -> str:
    """E.g. "22 % of 8 CPUs"."""
    share = "" if percent is None else f"{percent:.0f} % of "
    return f"{share}{count:g} {unit}{'' if count == 1 else 's'}"


def _advice(job: Job, usage: Mapping[str, Any]) -> str:
    """Less memory for the next one, if this one ended well, on one node, and not at once."""
    peak, asked = _most_ever(job, usage), usage.get("memory_bytes_requested", 0)
    whole = job.state.succeeded and usage.get("run_seconds", 0) >= ADVISED_AFTER
    if not (whole and peak and usage.get("nodes_allocated") == 1):
        return ""
    # Slurm may have given more CPUs than were asked for, so one alone must have enough
    cpus = usage.get("cpus_allocated", 1) if job.memory_per_cpu else 1
    enough = _rounded(peak * ROOM)
    if enough * cpus > asked * WORTH_IT:
        return ""
    name = "memory_per_cpu" if job.memory_per_cpu else "memory"
    text = f"{enough // GB}G" if enough % GB == 0 else f"{enough // MB}M"
    return f"; {name}='{text}' would do"


def _most_ever(job: Job, usage: Mapping[str, Any]) -> float | None:
    """The peak of all tasks in all runs, if each is known: a run may go on from a checkpoint."""
    tasks, again = usage.get("tasks"), usage.get("all_runs", {})
    peak, earlier = usage.get("memory_bytes_peak"), again.get("memory_bytes_peak")
    if tasks and tasks.get("measured") != max(tasks["count"], len(array_tasks(job))):
        return None
    if earlier is None:
        return None if again or job.restarts else peak
    return None if peak is None else max(peak, earlier)


def _rounded(size: float) -> int:
    """Rounded up: to whole GB, or to 64 MB if it is at most 1 GB."""
    step = GB if size > GB else 64 * MB
    return math.ceil(size / step) * step


def _size(size: float) -> str:
    unit, one = next((each for each in UNITS if size >= each[1]), ("MB", MB))
    return f"{_plain(size / one)} {unit}"


def _plain(number: float, digits: int = 3) -> str:
    """Without an exponent, which ``g`` writes for 1000 MB."""
    return f"{number:.{digits}g}" if number < 10**digits - 0.5 else f"{number:.0f}"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
