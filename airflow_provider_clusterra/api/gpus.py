"""GPUs as ``sbatch`` asks for them, and what slurmrestd does not check of it."""

from __future__ import annotations

import re

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.api.fields import Apply, Fields, put_tres_per_task, whole_number

PER_TASK = re.compile(r"gres/gpu((?::[^=:,]+)?)[=:]([0-9]+)")


def as_gpus(field: str) -> Apply:
    """GPUs: a count, perhaps with a type before it.

    :param field: the job's.
    """

    def apply(fields: Fields, value: str) -> None:
        _check_count(value)
        fields[field] = f"gres/gpu:{value}"

    return apply


def put_gpus_per_task(fields: Fields, value: str) -> None:
    """``--gpus-per-task``: as a resource, and bound to its task.

    :param fields: the job's.
    :param value: the option's.
    """
    _check_count(value)
    kind, _, count = value.rpartition(":")
    put_tres_per_task(fields, "gres/gpu", f"gres/gpu{kind and f':{kind}'}={count}")
    fields["tres_bind"] = f"gres/gpu:per_task:{count}"


def put_cpus_per_gpu(fields: Fields, value: str) -> None:
    """``--cpus-per-gpu``.

    :param fields: the job's.
    :param value: the option's.
    """
    fields["cpus_per_tres"] = f"gres/gpu:{whole_number(value, 1)}"


def settle_gpus(fields: Fields) -> None:
    """As many tasks as a job's GPUs are for, as ``sbatch`` counts them; slurmrestd would take one.

    :param fields: the whole job's; ``tasks`` is added where it follows from the GPUs.
    :raises InputError: there is no number of tasks, or another than all GPUs make.
    :source: what ``sbatch`` 26.05 says of ``--gpus-per-task``.
    """
    wanted = PER_TASK.search(str(fields.get("tres_per_task", "")))
    if not wanted or not int(wanted[2]):
        return
    kind, each = wanted[1], int(wanted[2])
    given = _tasks(fields)
    total = re.search(rf"gres/gpu{kind}:([0-9]+)$", str(fields.get("tres_per_job", "")))
    if not total:
        if given is None:
            raise InputError(
                f"GPUs: {each} for each task{kind and f' ({kind[1:]})'}, and not how many tasks. "
                "Give --ntasks or --gpus beside --gpus-per-task, as sbatch wants it."
            )
        return
    tasks, rest = divmod(int(total[1]), each)
    if rest or given not in (None, tasks):
        raise InputError(
            f"GPUs: {each} for each task are not the {total[1]} of the job with "
            f"{given or 'any number of'} tasks. Leave out one of --gpus, --gpus-per-task and --ntasks."
        )
    fields["tasks"] = tasks


def _tasks(fields: Fields) -> int | None:
    """How many tasks there are without a look at the GPUs; a range of nodes does not tell."""
    nodes = str(fields.get("nodes", ""))
    if "tasks" in fields or not nodes.isdigit():
        return fields.get("tasks")
    return int(nodes) * int(fields.get("tasks_per_node", 1))


def _check_count(value: str) -> None:
    if not re.fullmatch(r"(?:[A-Za-z][\w.-]*:)?[0-9]+", value):
        raise ValueError("it takes a number, or a type and a number, e.g. a10g:1")
