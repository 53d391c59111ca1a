"""A job's bad end as a report, and as an error class of its own.

::

    AirflowException
    └── JobError                   the job ended badly
        ├── JobExitedError         its script ended with an exit code other than 0
        ├── JobKilledError         a signal ended it
        ├── JobNotStartedError     Slurm could not start it                                  (for good)
        ├── JobOutOfMemoryError    it needed more memory than it had asked for
        ├── JobTimedOutError       it ran into its time limit
        │   └── JobOverdueError    our patience ended: timeout, pending_timeout, max_restarts
        ├── JobCancelledError      somebody cancelled it
        ├── JobNodeFailedError     its node failed
        │   └── JobPreemptedError  another job took its place
        ├── JobStuckError          it would never have started                               (for good)
        ├── JobLostError           the cluster no longer knows it
        └── JobResultError         it succeeded, and its output cannot be returned           (for good)

For good: also an AirflowFailException, because no retry heals it. Of all others Airflow's retries and
its retry policies decide.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
)
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import (
    ApiError,
    ClusterraError,
    InputError,
    RateLimitedError,
    RequestError,
)
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, seconds_between
from airflow_provider_clusterra.submit.protocol import (
    AnswerLostError,
    SubmitRefusedError,
)
from airflow_provider_clusterra.watch.arrays import array_tasks, failed_array_tasks, write_indices
from airflow_provider_clusterra.watch.cancel import TaskKilledError
from airflow_provider_clusterra.watch.verdict import reason_of

CANNOT_START = 53
"""The signal that Slurm gives a job whose script it could not start."""
OUT_OF_MEMORY = 125
"""The signal that Slurm gives a job which a cgroup ended for its memory."""
NOT_EXECUTED = "slurmstepd: error: execve()"
"""What Slurm writes into the output of a script that the kernel would not run."""
TAIL_LINES = 20
"""Lines of a failed job's output that its report shows."""
MOST_GROUPS = 10
"""How many different ends of an array's tasks are listed."""

BY_EXIT_CODE = {
    126: "A file was found that cannot be executed. Make it so (chmod +x), or name its interpreter "
    "before it.",
    127: "The shell did not find a command: look for 'command not found' in the output. Load its "
    "module or activate its environment in the script, write its whole path, or give "
    "login_environment=True.",
}
NO_LOGIN = re.compile(
    r"\b(?:HOME|USER|LOGNAME)\b: (?:unbound variable|parameter not set|parameter null or not set"
    r"|Undefined variable)|cd: HOME not set|KeyError: '(?:HOME|USER|LOGNAME)'"
)
"""What shells and Python write if they miss what a user finds after signing in."""
GIVE_LOGIN = "The job has no HOME and USER: give login_environment=True."
BY_SIGNAL = {
    "SIGKILL": "Somebody killed it from outside. Mostly that is the kernel, because memory ran out: "
    "a Slurm without cgroups does not say more. Ask for more with memory=, and if that is not it, ask "
    "the cluster's administrator.",
    "SIGTERM": "It was asked to end: by somebody with scancel, or because its node shut down.",
    "SIGSEGV": "The program touched memory that is not its own: a bug, a library of another version, "
    "or a stack that is too small (ulimit -s).",
    "SIGABRT": "The program gave up by itself; its output mostly says why.",
    "SIGILL": "The program was built for another CPU than the node's. Choose its nodes with "
    "constraint=, or build it for an older CPU.",
    "SIGFPE": "The program calculated what cannot be, e.g. divided a whole number by zero.",
    "SIGBUS": "A file that the program had mapped became shorter, or a disk or /dev/shm is full.",
    "SIGXCPU": "It used more CPU time than a ulimit allows.",
    "SIGXFSZ": "It wrote a larger file than a ulimit allows.",
    "SIGPIPE": "It wrote to a pipe or a connection whose other end was gone.",
    "SIGUSR1": "A warning that was asked for (signal=) ends a script that does not trap it.",
    "SIGUSR2": "A warning that was asked for (signal=) ends a script that does not trap it.",
}
NOT_STARTED = (
    "Slurm could not start the script. Mostly its working directory ({folder}) does not exist on the "
    "node: correct working_directory=, or make the folder first."
)
NO_INTERPRETER = (
    "The node cannot run the script: the interpreter that its first line names is not there, or is "
    "none. Correct the first line, e.g. #!/bin/bash."
)
BY_REFUSAL = {
    2000: "Correct partition=, or leave it out for the cluster's default.",
    2001: "The cluster has no default partition: give partition=.",
    2002: "The session's user may not use this partition or reservation.",
    2004: "The nodes that were named are not in this partition.",
    2005: "Ask for fewer CPUs in one node: tasks=, cpus_per_task=.",
    2006: "Correct nodes=: the cluster or the partition does not have as many.",
    2014: "No node of the partition has as much: ask for less memory=, fewer CPUs or GPUs in one "
    "node, or another partition=.",
    2015: "The partition does not give as much: ask for less, or for another partition=.",
    2045: "Correct account=, or leave it out.",
    2050: "The limits of the account or the QOS do not allow it: ask for less, or fewer jobs.",
    2051: "Ask for a time_limit= that the partition allows.",
    2066: "Correct qos=, or leave it out.",
    2081: "Correct array=. If it, or the list of map_over, is longer than the cluster's MaxArraySize "
    "(scontrol show config), split it.",
}
"""Slurm's error numbers. Source: slurm_errno.h."""


def report(job: Job, output: str, unread: str = "", lasts: Sequence[str] = ()) -> str:
    """The whole report of a bad end; ``lasts`` are the last lines of an array's failed tasks."""
    others = "\n".join(["The last line of each failed task:", *lasts]) if lasts else ""
    shown, advice = show_output(output, unread), advise(job, output)
    return "\n".join(filter(None, (describe(job), describe_request(job), others, shown, advice)))


def describe(job: Job) -> str:
    """What Slurm says; of an array, how its tasks ended."""
    tasks, bad = array_tasks(job), failed_array_tasks(job)
    if not bad:
        return job.describe()
    groups: dict[str, list[int]] = {}
    for task in bad:
        groups.setdefault(_end_of(task), []).append(task.array_task_id or 0)
    lines = [f"  {write_indices(indices)}: {words}" for words, indices in groups.items()]
    more = len(lines) - MOST_GROUPS
    lines[MOST_GROUPS:] = [f"  and {more} other ends"] if more > 0 else []
    return "\n".join(
        [f"Of job {job.job_id}, {len(bad)} of {len(tasks)} array tasks did not succeed:", *lines]
    )


def show_output(output: str, unread: str = "") -> str:
    """The last lines of an output, or that there are none."""
    if unread:
        return f"Its output cannot be read: {unread}"
    if not output.strip():
        return "It wrote no output."
    return "\n".join(["The end of its output:", *output.rstrip().split("\n")[-TAIL_LINES:]])


def describe_request(job: Job) -> str:
    """What the job had asked for, and how long and where it ran, as far as that is known."""
    wishes = []
    if job.memory_mb is not None:
        place = "CPU" if job.memory_per_cpu else "node"
        amount = f"{job.memory_mb} MB a {place}" if job.memory_mb else f"all memory of its {place}"
        wishes.append(amount)
    if job.time_limit_minutes is not None:
        wishes.append(f"a time limit of {job.time_limit_minutes} min")
    words = f"It had asked for {' and '.join(wishes)}." if wishes else ""
    ran = seconds_between(job.started_at, job.ended_at)
    if ran is not None and job.nodes:
        words += f" It ran for {ran:.0f} s on {job.nodes}."
    return words.strip()


def advise(job: Job, output: str = "") -> str:
    """What to change, or ``""`` if there is no advice."""
    part = failing_part(job)
    reason = reason_of(part.reason).advice
    if part.state.base in ("PENDING", "CANCELLED") and reason:
        return reason
    if part.state.base != "FAILED":
        return ENDS.get(part.state.base, End()).advice
    if never_began(part, output):
        folder = part.working_directory or "not known"
        cannot = part.exit.signal == CANNOT_START
        return NOT_STARTED.format(folder=folder) if cannot else NO_INTERPRETER
    words = _advise_exit(part.exit)
    return f"{words} {GIVE_LOGIN}".strip() if NO_LOGIN.search(output) else words


def never_began(job: Job, output: str) -> bool:
    """Whether Slurm could not start the job's script at all."""
    refused = bool(job.exit.code) and output.startswith(NOT_EXECUTED)
    return refused or job.exit.signal == CANNOT_START


def failing_part(job: Job) -> Job:
    """What speaks for a job's bad end: an array's first task that failed, or the job itself."""
    bad = job.failed_task
    if bad is None:
        return job
    # of a task not more than this may be known
    return replace(job, state=bad.state, exit=bad.exit, reason=bad.reason or job.reason)


def advise_refusal(error: ClusterraError) -> str:
    """What to change after a refused request, behind a space, or ``""``."""
    number = error.number if isinstance(error, ApiError) else None
    advice = BY_REFUSAL.get(number or 0, "")
    return f" {advice}" if advice else ""


def _end_of(task: Job) -> str:
    reason = f" ({task.reason})" if task.reason else ""
    exited = f", {task.exit}" if task.exit.signal is not None or task.exit.code else ""
    return f"{task.state.base}{reason}{exited}"


def _advise_exit(exit_status: ExitStatus) -> str:
    if exit_status.signal == OUT_OF_MEMORY:
        return ENDS["OUT_OF_MEMORY"].advice
    if exit_status.signal is not None:
        return BY_SIGNAL.get(exit_status.signal_name, "")
    code = exit_status.code or 0
    if code in BY_EXIT_CODE:
        return BY_EXIT_CODE[code]
    if 128 < code < 128 + signal.NSIG:
        # a shell reports a program that a signal ended in this way
        inner = ExitStatus(signal=code - 128)
        words = f"{code} is 128 + {code - 128}: {inner} ended a program of the script."
        return f"{words} {BY_SIGNAL.get(inner.signal_name, '')}".strip()
    return "The script itself ended so; what its programs wrote says why." if code else ""


class JobError(AirflowException):
    """A job ended badly. Its subclasses say how, so that a retry policy can distinguish them."""

    def __init__(self, message: str = "", job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job
        self.result: dict[str, Any] | None = None
        """What the job would have returned, if it is known."""


class JobSkippedError(AirflowSkipException):
    """The job exited with a code of ``skip_on_exit_code``: its task is skipped."""

    def __init__(self, message: str = "", job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job


class JobExitedError(JobError):
    """The job's script ended with an exit code other than 0."""


class JobKilledError(JobError):
    """A signal ended the job: a crash, or somebody from outside."""


class JobNotStartedError(JobError, AirflowFailException):
    """Slurm could not start the job's script: its folder or its interpreter is not there."""


class JobOutOfMemoryError(JobError):
    """The job needed more memory than it had asked for."""


class JobTimedOutError(JobError):
    """The job ran into its time limit, its deadline, or our patience."""


class JobOverdueError(JobTimedOutError):
    """Our patience with the job ended: ``timeout``, ``pending_timeout`` or ``max_restarts``."""


class JobCancelledError(JobError):
    """Somebody cancelled the job."""


class JobNodeFailedError(JobError):
    """The job's node failed, or the job was preempted: not the job's fault."""


class JobPreemptedError(JobNodeFailedError):
    """A job with more rights took this one's place."""


class JobStuckError(JobError, AirflowFailException):
    """The job would never have started: the same job will not start at a retry either."""


class JobLostError(JobError):
    """The cluster no longer knows the job, and nothing says how it ended."""


class JobResultError(JobError, AirflowFailException):
    """The job succeeded, and its output cannot be returned as it was asked for."""


class SubmitLostError(AirflowException):
    """A submit whose answer was lost, and whose job is not to be found: the next try looks again."""


class End(NamedTuple):
    """What a state means in which a job has ended badly."""

    error: type[JobError] = JobError
    advice: str = ""


ENDS = {
    "OUT_OF_MEMORY": End(
        JobOutOfMemoryError,
        "It used more memory than it had asked for. Raise memory=, or let retries do so: "
        'grow_on_retry={"memory": 2.0}.',
    ),
    "TIMEOUT": End(
        JobTimedOutError,
        "It needed more time than it had asked for. Raise time_limit=, or let retries do so: "
        'grow_on_retry={"time_limit": 1.5}; with signal= the script can save its state before.',
    ),
    "DEADLINE": End(JobTimedOutError, "It could not end before the deadline that it was given."),
    "NODE_FAIL": End(
        JobNodeFailedError,
        "Its node failed, which is not the job's fault: retries= run it again elsewhere.",
    ),
    "BOOT_FAIL": End(
        JobNodeFailedError,
        "Its node did not start, which is not the job's fault: retries= run it again.",
    ),
    "PREEMPTED": End(
        JobPreemptedError,
        "A job of higher priority preempted it: retries= run it again, requeue=True lets Slurm do "
        "so, and another qos= or partition= may not be preempted.",
    ),
    "CANCELLED": End(
        JobCancelledError,
        "Neither this task nor its deadline cancelled it: a user, an administrator or a rule of "
        "the cluster did.",
    ),
}


def kind_of(job: Job, output: str = "") -> type[JobError]:
    """The error that a job's bad end is."""
    part = failing_part(job)
    if part.state.base != "FAILED":
        return ENDS.get(part.state.base, End()).error
    if never_began(part, output):
        return JobNotStartedError
    if part.exit.signal is not None:
        return JobKilledError
    return JobExitedError if part.exit.code else JobError


@contextmanager
def airflow_errors(clusterra_conn_id: str) -> Iterator[None]:
    """Turn the api's errors into Airflow's: those that no retry can heal fail the task at once."""
    try:
        yield
    except (InputError, SubmitRefusedError) as error:
        raise AirflowFailException(str(error)) from error
    except AnswerLostError as error:
        raise SubmitLostError(str(error)) from error
    except TaskKilledError as error:
        raise AirflowException(str(error)) from error
    except ClusterraError as error:
        words = f"{error}{advise_refusal(error)} (connection {clusterra_conn_id})"
        if isinstance(error, RequestError) and not isinstance(error, RateLimitedError):
            raise AirflowFailException(words) from error
        raise AirflowException(words) from error
