"""What of a job's output its task returns, or shows when the job has failed."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from airflow_provider_clusterra.api.client import Client
from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.readers import Output
from airflow_provider_clusterra.operators.arrays import array_tasks

log = logging.getLogger(__name__)

RETURN_OUTPUT = (None, "last_line", "json", "text")
LARGEST_VALUE = 64 * 1024
"""Bytes that one job's output may bring into XCom."""
LARGEST_ARRAY = 512 * 1024
"""Bytes that the outputs of all of an array's tasks may bring."""
LEAST_TEXT = 1024
"""Bytes that each task of an array may bring as text, however many there are."""
AT_ONCE = 8
"""How many outputs are read at once."""
ADVICE = "Let the job write its result to a file, and return only the file's name."


def check_return_output(return_output: str | None) -> None:
    """Refuse what is no way of returning output.

    :param return_output: as an author wrote it.
    :raises InputError: it is not one of :data:`RETURN_OUTPUT`.
    """
    if return_output not in RETURN_OUTPUT:
        raise InputError(
            f"return_output is {return_output!r}; it can be 'last_line', 'json', 'text' or None."
        )


def returned_output(client: Client, cluster_id: str, job: Job, return_output: str) -> Any:
    """What of a job's output is returned; of an array, for each index (as text: JSON has no other).

    :param client: reads the output.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param job: that has ended; an array's tasks with their own ids. An index that has not succeeded,
        or whose id is not known, has None.
    :param return_output: one of :data:`RETURN_OUTPUT`, but None.
    :raises InputError: there is none, or it is too large for XCom.
    :raises ClusterraError: no answer.
    """
    tasks = array_tasks(job)
    if not tasks:
        return read_result(client.read_output(cluster_id, job.job_id), return_output)
    most = LARGEST_VALUE
    if return_output == "text":
        # half, because JSON writes a line end as two characters, and a cut is told
        most = min(most, max(LEAST_TEXT, LARGEST_ARRAY // len(tasks) // 2))

    def read(task: Job) -> Any:
        if not task.state.succeeded or not task.job_id:
            return None
        try:
            return read_result(client.read_output(cluster_id, task.job_id), return_output, most)
        except InputError as error:
            raise InputError(f"Index {task.array_task_id}: {error}") from error

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


def read_result(output: Output, return_output: str, most: int = LARGEST_VALUE) -> Any:
    """What of an output is returned.

    :param output: the end of the job's output.
    :param return_output: ``"last_line"`` (without its line end), ``"json"`` (the last line that is
        a JSON value), or ``"text"``: the end of it where it is large, under a line that says so.
    :param most: bytes.
    :raises InputError: there is none, or it is too large for XCom.
    """
    if return_output == "text":
        return _text(output, most)
    value: Any = ""
    lines = [line for line in output.data.decode("utf-8", "replace").split("\n") if line.strip()]
    if return_output == "last_line":
        value = lines[-1].rstrip("\r") if lines else ""
    else:
        value = _last_json(lines)
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
    # where the cut went through a character, its rest is none
    return f"[The first {left_out} bytes are left out.]\n" + text.lstrip(
        "\N{REPLACEMENT CHARACTER}"
    )


def _last_json(lines: list[str]) -> Any:
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
    raise InputError("return_output is 'json', and no line of the job's output is a JSON value.")
