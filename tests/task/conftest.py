"""What the tests of a running task share."""

from tests.support.airflow_side import run, store, ti

__all__ = ["run", "store", "ti"]
