"""What a DAG of 500 submits costs where DAGs are read, beside one of BashOperator: ``python -m bench.dags``.

Built and serialized, as the DAG processor does with each file every half a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bench.figures import OURS, Figure, at_most, medians_of, ratio, show

TASKS = 500
BASH = "BashOperator"
SCRIPT = "#!/bin/bash\necho hello\n"


def _read(add: Callable[[str], Any]) -> Callable[[], float]:
    """Seconds of CPU that a DAG takes, whose tasks ``add`` adds."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    def read() -> float:
        begin = time.process_time()
        with DAG("bench", schedule=None, start_date=datetime(2026, 1, 1)) as dag:  # noqa: DTZ001
            for number in range(TASKS):
                add(f"task_{number}")
        DagSerialization.to_dict(dag)
        return time.process_time() - begin

    return read


def measure() -> list[Figure]:
    """Both, in turns."""
    from airflow.providers.standard.operators.bash import BashOperator

    from airflow_provider_clusterra.operators.jobs import ClusterraSubmitJobOperator

    ours = _read(lambda task_id: ClusterraSubmitJobOperator(task_id=task_id, script=SCRIPT))
    bash = _read(lambda task_id: BashOperator(task_id=task_id, bash_command=SCRIPT))
    mine, theirs = medians_of([ours, bash], 7)
    name, at = "a DAG built and serialized", f"{TASKS} tasks"
    return [
        ratio(f"{name}, time", mine, theirs, f"ours / {BASH}", at=at, target=at_most(1.3)),
        Figure(name=name, value=mine * 1000, unit="ms", of=OURS, at=at),
        Figure(name=name, value=theirs * 1000, unit="ms", of=BASH, at=at),
    ]


if __name__ == "__main__":
    show(measure())
