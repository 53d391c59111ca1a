"""What each module of the Airflow side costs to import on top of ``airflow.sdk``: milliseconds.

``python -m bench.imports``: the median of seven processes a module.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys

MODULES = (
    "hooks.clusterra",
    "operators.jobs",
    "operators.storage",
    "sensors.jobs",
    "triggers.jobs",
)
BEFORE = (
    "import airflow.sdk, airflow.triggers.base\n"
    "from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator\n"
)
RUNS = 7


def cost(module: str) -> float:
    """One process's milliseconds for one module and all that it brings."""
    name = f"airflow_provider_clusterra.{module}"
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"{BEFORE}import {name}"],
        capture_output=True,
        text=True,
        check=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
    ).stderr
    # the parents are imported first, and are not part of the module's own sum
    package = "airflow_provider_clusterra"
    names = [package, f"{package}.{module.partition('.')[0]}", name]
    found = [
        re.search(rf"\|\s+(\d+) \| *{re.escape(each)}$", shown, re.MULTILINE) for each in names
    ]
    return sum(int(each[1]) for each in found if each) / 1000


if __name__ == "__main__":
    for each in MODULES:
        print(f"{each:<18} {statistics.median(cost(each) for _ in range(RUNS)):6.1f} ms")
