"""What each module of the Airflow side costs to import on top of ``airflow.sdk``, ours and peers'.

``python -m bench.imports``: a process that has what every worker and triggerer has anyhow is forked
for each import; the median of five.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import struct
import time

from bench.figures import RATIO, Figure, at_least, medians_of, show

SECONDS = struct.Struct("d")
RUNS = 5
BEFORE = ("airflow.sdk", "airflow.triggers.base", "airflow.providers.common.compat.sdk")
NAMES = ("BaseHook", "BaseOperator", "BaseSensorOperator", "Connection", "conf")
OURS = "airflow_provider_clusterra"
MODULES = {
    "hook": f"{OURS}.hooks.clusterra",
    "submit operators": f"{OURS}.operators.jobs",
    "upload operator": f"{OURS}.operators.storage",
    "sensor": f"{OURS}.sensors.jobs",
    "trigger": f"{OURS}.triggers.jobs",
}
PEERS = {
    "airbyte": {
        "hook": "airflow.providers.airbyte.hooks.airbyte",
        "submit operators": "airflow.providers.airbyte.operators.airbyte",
        "sensor": "airflow.providers.airbyte.sensors.airbyte",
        "trigger": "airflow.providers.airbyte.triggers.airbyte",
    },
    "databricks": {
        "hook": "airflow.providers.databricks.hooks.databricks",
        "submit operators": "airflow.providers.databricks.operators.databricks",
        "sensor": "airflow.providers.databricks.sensors.databricks_partition",
        "trigger": "airflow.providers.databricks.triggers.databricks",
    },
    "dbt-cloud": {
        "hook": "airflow.providers.dbt.cloud.hooks.dbt",
        "submit operators": "airflow.providers.dbt.cloud.operators.dbt",
        "sensor": "airflow.providers.dbt.cloud.sensors.dbt",
        "trigger": "airflow.providers.dbt.cloud.triggers.dbt",
    },
}
LIGHTEST, TARGET = "airbyte", at_least(2)
"""Airbyte's are the lightest of the peers'."""


def cost(module: str) -> float:
    """Milliseconds of one import in a process of its own.

    :param module: its full name.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        begin = time.process_time()
        try:
            importlib.import_module(module)
            os.write(writing, SECONDS.pack(time.process_time() - begin))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        answer = told.read()
    os.waitpid(child, 0)
    if len(answer) != SECONDS.size:
        raise ImportError(f"{module} cannot be imported")
    return float(SECONDS.unpack(answer)[0]) * 1000


def measure() -> list[Figure]:
    """Every module of ours, and its like of each peer that is installed."""
    for name in BEFORE:
        module = importlib.import_module(name)
        for each in NAMES:
            getattr(module, each, None)
    gc.collect()
    gc.freeze()
    figures = []
    for name, ours in MODULES.items():
        theirs = {
            peer: modules[name]
            for peer, modules in PEERS.items()
            if name in modules and _is_installed(modules[name])
        }
        mine, *others = medians_of(
            [lambda module=module: cost(module) for module in (ours, *theirs.values())],  # type: ignore[misc]
            RUNS,
        )
        figures.append(Figure(name=name, value=mine, unit="ms"))
        for peer, other in zip(theirs, others, strict=True):
            figures.append(Figure(name=name, value=other, unit="ms", of=peer))
            target = TARGET if peer == LIGHTEST else None
            of = f"{peer} / ours"
            figures.append(
                Figure(name=name, value=other / mine, unit=RATIO, of=of, at="import", target=target)
            )
    return figures


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.rpartition(".")[0]) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    show(measure())
