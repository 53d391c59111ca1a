"""Which part of Airflow a process is of. Airflow imports this in each of its processes."""

import os

VARIABLE = "CLUSTERRA_TEST_COMPONENT"


def component() -> str:
    """As Airflow's hostname callable: with hosts of their own, parts have heartbeats of their own."""
    return os.environ.get(VARIABLE, "")
