"""What is asked of Slurm: a script, its job's fields in slurmrestd's form, and the job's environment."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from airflow_provider_clusterra.api.errors import InputError

SUBMITTED = {
    "SLURM_PRIO_PROCESS": "0",
    # MPI's own launchers start their processes beside the job's other steps
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}
"""What ``sbatch`` sets for every job."""
FROM_FIELD = {
    "SLURM_CPUS_PER_TASK": "cpus_per_task",
    "SLURM_NTASKS_PER_NODE": "tasks_per_node",
    "SLURM_NTASKS_PER_CORE": "tasks_per_core",
    "SLURM_NTASKS_PER_SOCKET": "tasks_per_socket",
    "SLURM_THREADS_PER_CORE": "threads_per_core",
    "SLURM_TRES_PER_TASK": "tres_per_task",
    "SLURM_TRES_BIND": "tres_bind",
    "SLURM_GPUS": "tres_per_job",
    "SLURM_GPUS_PER_SOCKET": "tres_per_socket",
    "SLURM_CPUS_PER_GPU": "cpus_per_tres",
    "SLURM_MEM_PER_GPU": "memory_per_tres",
    "SLURM_GPU_FREQ": "tres_freq",
    "SLURM_CPU_FREQ_REQ": "cpu_frequency",
    "SLURM_NETWORK": "network",
    "SLURM_OPEN_MODE": "open_mode",
    "SLURM_OVERCOMMIT": "overcommit",
    "SLURM_PROFILE": "profile",
    "SLURM_CONTAINER": "container",
    "SLURM_CONTAINER_ID": "container_id",
    "SLURM_OOM_KILL_STEP": "oom_kill_step",
    "SLURM_JOB_DEPENDENCY": "dependency",
}
OF_GPUS = ("tres_per_job", "tres_per_socket", "cpus_per_tres", "memory_per_tres")
"""Fields of which a variable holds only what is said of GPUs."""
OF_A_COMPONENT = frozenset(
    f"SLURM_{name}"
    for name in (
        *("NTASKS", "NPROCS", "NTASKS_PER_NODE", "NTASKS_PER_CORE", "NTASKS_PER_SOCKET"),
        *("NTASKS_PER_GPU", "NTASKS_PER_TRES", "CPUS_PER_TASK", "THREADS_PER_CORE"),
        *("TRES_PER_TASK", "TRES_BIND", "GPUS", "GPUS_PER_NODE", "GPUS_PER_SOCKET", "GPU_FREQ"),
        *("CPUS_PER_GPU", "MEM_PER_GPU", "MEM_BIND", "MEM_BIND_VERBOSE"),
        *("DISTRIBUTION", "DIST_PLANESIZE"),
    )
)
"""Variables that a heterogeneous job has for each of its components, and not for itself."""


def no_val(number: int | None) -> dict[str, Any] | None:
    """A number in slurmrestd's own form, or None.

    :source: ``uint32_no_val_struct``; without ``set`` the number is silently ignored.
    """
    return None if number is None else {"set": True, "infinite": False, "number": number}


def sbatch_environment(job: Mapping[str, Any]) -> dict[str, str]:
    """The variables that ``sbatch`` derives from a job's fields.

    :source: ``env`` of the same scripts under ``sbatch`` and slurmrestd 26.05.
    """
    words = {
        name: _as_variable(field, job[field])
        for name, field in FROM_FIELD.items()
        if job.get(field) is not None
    }
    kind, _, size = str(job.get("distribution") or "").partition("=")
    words |= {"SLURM_DISTRIBUTION": kind, "SLURM_DIST_PLANESIZE": size}
    return {name: text for name, text in words.items() if text}


def _as_variable(field: str, value: Any) -> str:
    """A field's value as ``sbatch`` writes it into a variable; ``""`` if it writes none."""
    if field in OF_GPUS:
        kinds = re.findall(r"gres/gpu(?:[:=]([^,;]+))?", str(value))
        return ",".join(each.replace("=", ":") for each in kinds)
    if isinstance(value, list):
        words = ",".join(each.capitalize() for each in value)
        return words[:1].lower() if field == "open_mode" else words
    return "1" if value is True else str(value).removeprefix("gpu:")


DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
DEFAULT_DIRECTORY = "/mnt/efs"
SHARED = PurePosixPath(DEFAULT_DIRECTORY)
SHOWN = ("job_%j.out", "slurm-%j.out")
SIZES = ("nodes", "tasks", "required_nodes", "minimum_nodes", "minimum_cpus")
"""Fields of which Slurm wants one (its error 2008)."""
OPEN = ("cpus_per_task", "tasks_per_core")
"""Fields with which ``sbatch`` leaves open how many nodes there may be."""
LARGEST_SCRIPT = 4 * 1024 * 1024
"""Bytes: Slurm's ``max_script_size``. A longer one is refused with error 2012."""


class JobSpec(msgspec.Struct, frozen=True):
    """A job to be submitted. None leaves a field to the cluster's own default."""

    script: str
    name: str
    nodes: str | None = None
    """A count or a range, e.g. ``"1"``, ``"2-4"``; one node if nothing else gives a size."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    tasks: int | None = None
    cpus_per_task: int | None = None
    memory_mb: int | None = None
    """Memory per node in MB."""
    time_limit_minutes: int | None = None
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)
    working_directory: str | None = None
    """A folder on the cluster, by its whole path or below :data:`DEFAULT_DIRECTORY`."""
    fields: Mapping[str, Any] = {}
    """Any other field by slurmrestd's name, in its form; what stands above wins over it.
    ``environment`` is a dict here, too."""

    def __post_init__(self) -> None:
        check_script(self.script)
        check_names(self.environment)

    def body(self) -> dict[str, Any]:
        """The submit's JSON body.

        :source: ``POST /v1/clusters/{cluster_id}/jobs/submit``; slurmrestd v0.0.44
            ``job_desc_msg``. ``nodes`` is a string, ``environment`` is never empty.
        """
        return job_body(self.script, [self.all_fields()])

    def all_fields(self) -> dict[str, Any]:
        """All that is asked for, by slurmrestd's names; ``environment`` is a dict."""
        given = {
            "name": self.name,
            "nodes": self.nodes,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "tasks": self.tasks,
            "time_limit": no_val(self.time_limit_minutes),
            "current_working_directory": self.working_directory,
            "memory_per_node": no_val(self.memory_mb),
            "cpus_per_task": self.cpus_per_task,
        }
        job = dict(self.fields) | {
            name: value for name, value in given.items() if value is not None
        }
        if self.memory_mb is not None:
            job.pop("memory_per_cpu", None)
            job.pop("memory_per_tres", None)
        if self.cpus_per_task is not None:
            put_tres_per_task(job, "cpu", [f"cpu={self.cpus_per_task}"])
        own = {"SLURM_SUBMIT_DIR": str(_folder(given)), **self.fields.get("environment", {})}
        return job | {"environment": {**own, **self.environment}}


def job_body(script: str, components: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The submit's JSON body of a job, or of a heterogeneous one's components.

    Each is its fields by slurmrestd's names, with ``environment`` as a dict.

    :source: ``POST …/jobs/submit`` with ``job`` or ``jobs``; ``env`` of such jobs under ``sbatch``.
    """
    jobs = [_sized(fields) for fields in components]
    environments = [environment_of(job) for job in jobs]
    if len(jobs) == 1:
        variables = _tasks_of_nodes(jobs[0]) | environments[0]
        return {"script": script, "job": _part(jobs[0], variables)}
    return {"script": script, "jobs": [*map(_part, jobs, _in_groups(jobs, environments))]}


def environment_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a job: each source wins over those before it.

    First what ``sbatch`` sets for every job, then what it derives from the fields, then the fields' own
    ``environment``. An operator's job has there, again from the weakest: its name, Airflow's context,
    what ``#SBATCH`` lines set, ``job=``, the argument ``environment``, and where its uploads are.
    """
    variables = {
        "SLURM_SUBMIT_HOST": socket.gethostname(),
        "SLURM_SUBMIT_DIR": DEFAULT_DIRECTORY,
        **SUBMITTED,
        **sbatch_environment(fields),
        **fields.get("environment", {}),
    }
    if _takes_path(variables):
        variables.setdefault("PATH", DEFAULT_PATH)
    return variables


def _part(fields: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """A component as Slurm wants it."""
    job = {**fields, "current_working_directory": str(_folder(fields))}
    job["environment"] = [f"{name}={value}" for name, value in variables.items()]
    if job.get("hold"):
        # with a priority beside it, slurmrestd would start the job
        job.pop("priority", None)
    return job


def _in_groups(
    components: Sequence[Mapping[str, Any]], environments: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """The environments of a heterogeneous job: each has the variables of all under their numbers."""
    groups: dict[str, str] = {}
    for number, (fields, variables) in enumerate(zip(components, environments, strict=True)):
        for name, value in (_tasks_of(fields) | variables).items():
            if name in OF_A_COMPONENT:
                groups[f"{name}_HET_GROUP_{number}"] = value
                groups[f"{name}_PACK_GROUP_{number}"] = value
    return [
        {name: text for name, text in variables.items() if name not in OF_A_COMPONENT} | groups
        for variables in environments
    ]


def _tasks_of_nodes(job: Mapping[str, Any]) -> dict[str, str]:
    """The number of tasks that follows from that of each node."""
    nodes, per_node = str(job.get("nodes") or ""), job.get("tasks_per_node")
    if job.get("tasks") or not (per_node and nodes.isdigit()):
        return {}
    return _tasks(int(nodes) * per_node)


def _tasks_of(job: Mapping[str, Any]) -> dict[str, str]:
    """A component's number of tasks, which ``sbatch`` gives unless it follows from that of GPUs."""
    if "tasks" not in job or "ntasks_per_tres" in job:
        return {}
    return _tasks(job["tasks"])


def _tasks(number: int) -> dict[str, str]:
    return dict.fromkeys(("SLURM_NTASKS", "SLURM_NPROCS"), str(number))


def _sized(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job with a number of nodes, of which Slurm wants one: as many as its tasks need."""
    tasks, per_node = job.get("tasks"), job.get("tasks_per_node")
    if tasks and per_node and not job.get("nodes"):
        return {"minimum_nodes": -(-tasks // per_node), **job}
    if any(map(job.get, SIZES)):
        return {**job}
    if any(map(job.get, OPEN)):
        return {**job, "minimum_nodes": 1}
    return {**job, "nodes": "1"}


def _takes_path(variables: Mapping[str, str]) -> bool:
    """Whether there is no PATH of the job's user, or one that is not to be taken."""
    exported = variables.get("SLURM_EXPORT_ENV")
    if exported is None:
        return "SLURM_GET_USER_ENV" not in variables
    return exported.upper().startswith("ALL")


def hidden_outputs(job: Mapping[str, Any]) -> list[str]:
    """What of a job's output the API will not show, in words; empty if it shows all.

    :source: clusterra-hpc's edge-agent, ``logs.go``: it looks for ``slurm-<id>.out`` and
        ``job_<id>.out`` in ``/mnt/efs`` and in its folders, and nowhere else.
    """
    found = []
    if not _is_shown(job):
        found.append(
            f"The output goes to {_output(job)}, where the API does not look for it. It shows only "
            f"{' and '.join(SHOWN)} in {DEFAULT_DIRECTORY} or one folder below."
        )
    if job.get("standard_error"):
        found.append(
            f"What the job writes to standard error goes to {job['standard_error']}, which the API "
            "does not show. Leave it out, and it stands in the output."
        )
    return found


def check_output_is_shown(job: Mapping[str, Any], find_folder: Callable[[], str]) -> None:
    """Refuse an output that the API does not show, and so cannot return.

    ``find_folder`` asks the API for the folder whose files it shows, ``""`` if it does not say; only
    an unusual output is worth the request.
    """
    if _is_shown(job):
        return
    folder = find_folder()
    if folder and (not job.get("standard_output") or PurePosixPath(folder) in _output(job).parents):
        return
    shown = folder or DEFAULT_DIRECTORY
    below = "anywhere" if folder else "one folder"
    raise InputError(
        f"return_output: the job's output goes to {_output(job)}, which the API does not show. "
        f"Leave out --output (or standard_output in job=), or write it to {shown}/{SHOWN[1]} or "
        f"{below} below, e.g. #SBATCH --output={shown}/results/{SHOWN[1]}."
    )


def check_files_are_shared(
    job: Mapping[str, Any], paths: Iterable[str], find_folder: Callable[[], str]
) -> None:
    """Refuse outputs which no API gives out: of a job that works outside of the shared folder, or there.

    ``find_folder`` as above; only an unusual folder is worth the request.
    """
    own = _folder(job)
    wanted = [own, *(own / path for path in paths)]
    unusual = [each for each in wanted if not each.is_relative_to(DEFAULT_DIRECTORY)]
    if not unusual:
        return
    folder = find_folder() or DEFAULT_DIRECTORY
    for each in unusual:
        if not each.is_relative_to(folder):
            raise InputError(
                f"outputs: {each} is not in the folder that the cluster's jobs share, {folder}, and the "
                "API gives out only what is. Set the job's working directory to a folder there."
            )


def _output(job: Mapping[str, Any]) -> PurePosixPath:
    return _folder(job) / (job.get("standard_output") or SHOWN[0])


def _is_shown(job: Mapping[str, Any]) -> bool:
    path = _output(job)
    return path.name in SHOWN and SHARED in (path.parent, path.parent.parent)


def _folder(job: Mapping[str, Any]) -> PurePosixPath:
    """Where the job begins; Slurm would look for a relative path in a place of its own."""
    return SHARED / (job.get("current_working_directory") or "")


def check_script(script: str) -> None:
    """Refuse what Slurm would accept and then fail, or cut, or never run."""
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


def is_variable(name: str) -> bool:
    """Whether a shell can have a variable of this name."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None


def check_names(variables: Iterable[str]) -> None:
    """Refuse what a shell cannot have as a variable."""
    for name in variables:
        if not is_variable(name):
            raise InputError(f"environment: {name!r} is not a variable's name.")


def put_tres_per_task(fields: dict[str, Any], resource: str, entries: Sequence[str]) -> None:
    """What each task needs of one resource, in the place of what it needed of it: CPUs first."""
    asked = str(fields.pop("tres_per_task", "")).split(",")
    kept = [each for each in asked if each and not each.startswith(resource)]
    listed = [*entries, *kept] if resource == "cpu" else [*kept, *entries]
    if listed:
        fields["tres_per_task"] = ",".join(listed)
