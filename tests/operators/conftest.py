"""What the tests of the operators share."""

from tests.support.airflow_side import run, store, ti

__all__ = ["run", "store", "ti"]
