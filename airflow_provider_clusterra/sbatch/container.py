"""A job in a container: its script as one that runs it inside of an image.

The lines of the script are read before, as of any other; the script itself travels as a text in the
one that starts the container, so that the image needs nothing but the script's interpreter.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from shlex import quote
from typing import Any

import msgspec
from msgspec.structs import replace

from airflow_provider_clusterra.api.errors import InputError
from airflow_provider_clusterra.sbatch.job import JobRequest

MOUNT = re.compile(r"/[^:,\s]*(:/[^:,\s]*(:[a-z+]+)?)?")
REGISTRY = re.compile(r"(?P<host>[^/#]*[.:][^/#]*|localhost)/")
WRAPPER = """\
#!/bin/bash
# Written by airflow-provider-clusterra: runs the script between the two marks in a container.
script=$(mktemp "${{TMPDIR:-/tmp}}/clusterra-script.XXXXXX") || exit
trap 'rm -f "$script"' EXIT
cat >"$script" <<'{mark}' || exit
{script}
{mark}
{command} {interpreter} "$script" "$@" <&0 &
child=$!
# what Slurm sends to the batch script is meant for the script in the container
for name in HUP INT QUIT USR1 USR2 TERM CONT; do trap "kill -s $name $child" "$name"; done
while kill -0 "$child" 2>/dev/null; do wait "$child"; done
# bash remembers the status, also of a child that ended between two commands
wait "$child"
"""


class Container(msgspec.Struct, frozen=True):
    """What a job's script runs in."""

    image: str
    """As an author names it, e.g. ``"docker://python:3.12"``."""
    mounts: tuple[str, ...] = ()
    """Each ``SOURCE[:TARGET[:OPTIONS]]``."""
    working_directory: str = ""
    """Inside; ``""`` is the job's own."""


def read_image(name: str, given: Any) -> str:
    """An image, or the path of one."""
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    raise InputError(f"{name} is {given!r:.200}; it is an image, e.g. 'docker://python:3.12'.")


def read_mounts(name: str, given: Sequence[str]) -> list[str]:
    """Folders to mount; their form is checked."""
    for mount in given:
        if not MOUNT.fullmatch(mount):
            raise InputError(
                f"{name} holds {mount!r}; each is SOURCE[:TARGET[:OPTIONS]] with whole paths, e.g. "
                "'/data:/data:ro'."
            )
    return [*given]


def read_folder(name: str, given: Any) -> str:
    """A whole path inside of a container."""
    if isinstance(given, str | os.PathLike) and os.fspath(given).startswith("/"):
        return os.fspath(given)
    raise InputError(f"{name} is {given!r:.200}; it is a whole path in the container.")


def _apptainer(container: Container, program: str) -> str:
    binds = ['"$script"', '"$PWD"', *map(quote, container.mounts)]
    inside = quote(container.working_directory) if container.working_directory else '"$PWD"'
    options = " ".join(f"--bind {each}" for each in binds)
    # SLURM_JOB_GPUS is there if the job has GPUs
    gpus = "${SLURM_JOB_GPUS:+--nv}"
    return f"{quote(program)} exec {gpus} {options} --pwd {inside} {quote(container.image)}"


def _pyxis(container: Container, _: str) -> str:
    image = container.image.removeprefix("docker://")
    if image.endswith(".sif"):
        raise InputError(
            f"container is {image!r}; pyxis runs images of a registry, and .sqsh files."
        )
    if not image.startswith(("/", ".")):
        # enroot's form of a registry
        image = REGISTRY.sub(r"\g<host>#", image, count=1)
    mounts = ['"$script:$script"', '"$PWD:$PWD"']
    mounts += [quote(each if ":" in each else f"{each}:{each}") for each in container.mounts]
    inside = quote(container.working_directory) if container.working_directory else '"$PWD"'
    return (
        f"srun --nodes=1 --ntasks=1 --cpu-bind=none --container-image={quote(image)} "
        f"--container-mounts={','.join(mounts)} --container-workdir={inside}"
    )


RUNTIMES: dict[str, Callable[[Container, str], str] | None] = {
    "apptainer": _apptainer,
    "singularity": _apptainer,
    "pyxis": _pyxis,
    "oci": None,
}
"""How each starts a container; None: Slurm does it by itself."""


PROGRAMS = ("/apptainer", "/singularity")


def is_runtime(name: str) -> bool:
    """Whether it is a runtime, or the path of its program."""
    return name in RUNTIMES or (name.startswith("/") and name.endswith(PROGRAMS))


def in_container(job: JobRequest, container: Container, runtime: str) -> JobRequest:
    """The job with its script in a container.

    :raises InputError: this runtime cannot run it so.
    """
    command = RUNTIMES[runtime.rpartition("/")[2]]
    if command is not None:
        return replace(job, script=_wrapped(job.script, command(container, runtime)))
    if container.mounts or container.working_directory:
        raise InputError(
            "container_mounts and container_workdir need container_runtime apptainer, singularity or "
            "pyxis in the connection: with oci, the bundle's own config.json says both."
        )
    return job.with_fields({"container": container.image})


def read_container(
    image: str | None, mounts: Sequence[str] | None, working_directory: str | None
) -> Container | None:
    """What an author wants of a container; None if nothing.

    :raises InputError: there is none to want it of.
    """
    if image:
        return Container(image, (*(mounts or ()),), working_directory or "")
    if mounts or working_directory:
        raise InputError("container_mounts and container_workdir are for a container: give it.")
    return None


def _wrapped(script: str, command: str) -> str:
    interpreter = script.partition("\n")[0].removeprefix("#!").strip().split(None, 1)
    mark = f"CLUSTERRA_{hashlib.sha256(script.encode()).hexdigest()[:16]}"
    return WRAPPER.format(
        mark=mark,
        script=script.removesuffix("\n"),
        command=command,
        # as the kernel reads a shebang: one program, and the rest is one argument
        interpreter=" ".join(map(quote, interpreter)),
    )
