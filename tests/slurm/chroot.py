"""A Debian with Slurm in a folder, made once and kept: the machine itself stays as it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "forky"
"""The Debian whose slurmrestd speaks v0.0.44."""
OLDER = "bookworm"
"""The one that MariaDB's library comes from: since its 11.8.9 slurmdbd mostly ends at its start, with
error 5027."""
PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurmrestd",
    "slurmdbd",
    "slurm-client",
    "slurm-wlm-jwt-plugin",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
    "mariadb-server-core",
    "mariadb-client-core",
    "curl",
    "ca-certificates",
    "python3-minimal",
)
PINS = f"""Package: *
Pin: release n={OLDER}
Pin-Priority: 50

Package: libmariadb3 mariadb-* mysql-common
Pin: release n={OLDER}
Pin-Priority: 1001
"""
APT = (
    'Acquire::Languages "none"',
    'APT::Install-Recommends "false"',
    'Acquire::Check-Valid-Until "false"',
)
DPKG = (
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
)


class LabError(Exception):
    """Slurm does not come up; the words say what to look at."""


def why_not() -> str:
    """Why no real Slurm can be set up here; empty where it can."""
    if os.geteuid() != 0:
        return "a real Slurm is set up in a chroot, which takes root"
    if not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        return "a real Slurm is installed from Debian's packages, and this is no Debian"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "true"],  # noqa: S607 - where the machine has it
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        return "this machine lets root make no namespaces"
    try:
        mirror()
    except LabError as error:
        return str(error)
    return ""


def mirror(sources: Path = Path("/etc/apt")) -> str:
    """The Debian mirror that the machine itself uses.

    :param sources: the folder with apt's sources, in either of their forms.
    :raises LabError: none is named there.
    """
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for path in files:
        if not path.is_file():
            continue
        for line in path.read_text().splitlines():
            found = re.search(r"https?://\S+/debian/?(?=\s|$)", line)
            if found and re.match(r"\s*(deb\s|URIs:)", line):
                return found[0]
    raise LabError(f"no Debian mirror is named in {sources}")


def build(root: Path) -> None:
    """Make the folder, where it is not there already.

    :param root: where it is to be.
    :raises LabError: it cannot be made.
    """
    ready = root.with_name(f"{root.name}.ready")
    if ready.exists() and ready.read_text() == " ".join(PACKAGES):
        return
    ready.unlink(missing_ok=True)
    if not shutil.which("mmdebstrap"):
        _tell("installing mmdebstrap")
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap")
    _tell(f"making a Debian {SUITE} with Slurm in {root}; this takes a minute")
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    pins = root.with_name("pins")
    pins.write_text(PINS)
    folder = '"$1/etc/apt/preferences.d"'
    _run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--skip=check/empty"),
        *(f"--aptopt={each}" for each in APT),
        *(f"--dpkgopt={each}" for each in DPKG),
        f"--setup-hook=mkdir -p {folder} && cp {pins} {folder}/mariadb",
        f"--include={','.join(PACKAGES)}",
        *(SUITE, str(root)),
        *(f"deb {mirror()} {suite} main" for suite in (SUITE, OLDER)),
    )
    ready.write_text(" ".join(PACKAGES))


def _run(*words: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(words[:2])} failed: {done.stderr[-6000:]}")


def _tell(words: str) -> None:
    print(f"slurm lab: {words}", file=sys.stderr, flush=True)
