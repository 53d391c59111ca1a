"""What the Airflow of this environment has."""

from importlib.util import find_spec

HAS_LOOPS = find_spec("airflow.sdk.definitions.loop") is not None
"""Airflow 3.4 has loops."""
NEED_LOOPS = ("until_converged",)
"""The examples that need them."""
