"""What is asked of Slurm: a script and its job's fields, typed as strictly as slurmrestd has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
DEFAULT_DIRECTORY = "/mnt/efs"
LARGEST_SCRIPT = 4 * 1024 * 1024
"""Bytes: Slurm's ``max_script_size``. A longer one is refused with error 2012."""


class JobSpec(msgspec.Struct, frozen=True):
    """A job to be submitted. None leaves a field to the cluster's own default."""

    script: str
    name: str
    nodes: str = "1"
    """A count or a range, e.g. ``"1"``, ``"2-4"``."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    tasks: int | None = None
    cpus_per_task: int | None = None
    memory_mb: int | None = None
    """Memory per node in MB."""
    time_limit_minutes: int | None = None
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    working_directory: str = DEFAULT_DIRECTORY

    def __post_init__(self) -> None:
        check_script(self.script)
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise InputError(f"environment: {name!r} is not a variable's name.")

    def body(self) -> dict[str, Any]:
        """The submit's JSON body.

        :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``; slurmrestd v0.0.44
            ``job_desc_msg``. ``nodes`` is a string, ``environment`` is never empty.
        """
        variables = {"PATH": DEFAULT_PATH, **self.environment}
        job = {
            "name": self.name,
            "nodes": self.nodes,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "tasks": self.tasks,
            "cpus_per_task": self.cpus_per_task,
            "memory_per_node": no_val(self.memory_mb),
            "time_limit": no_val(self.time_limit_minutes),
            "current_working_directory": self.working_directory,
            "environment": [f"{name}={value}" for name, value in variables.items()],
        }
        return {
            "script": self.script,
            "job": {name: value for name, value in job.items() if value is not None},
        }


def no_val(number: int | None) -> dict[str, Any] | None:
    """A number in slurmrestd's own form, or None.

    :param number: any, or None for the cluster's own default.
    :source: ``uint32_no_val_struct``; without ``set`` the number is silently ignored.
    """
    return None if number is None else {"set": True, "infinite": False, "number": number}


def check_script(script: str) -> None:
    """Refuse what Slurm would accept and then fail, or cut, or never run.

    :param script: the whole text of a batch script.
    :raises InputError: it is empty, has no shebang, holds a NUL or CRLF, or is over 4 MiB.
    """
    if not script.strip():
        raise InputError(
            "The script is empty. Give the text of a script, e.g. '#!/bin/bash\\necho hello'."
        )
    if not script.startswith("#!"):
        first = script.lstrip().splitlines()[0][:60]
        hint = " (there is white space before it)" if script.lstrip().startswith("#!") else ""
        raise InputError(
            f"The script has no shebang{hint}: its first line is {first!r}. Begin it with #!/bin/bash."
        )
    if "\x00" in script:
        raise InputError(
            "The script holds a NUL byte, at which Slurm would silently cut it. Remove it."
        )
    if "\r\n" in script:
        raise InputError(
            "The script has Windows line ends (CRLF), which Slurm refuses. Save it with LF."
        )
    if len(script.encode()) > LARGEST_SCRIPT:
        raise InputError(
            f"The script has {len(script.encode())} bytes; Slurm takes {LARGEST_SCRIPT}. "
            "Upload the data it carries and let it read them."
        )
