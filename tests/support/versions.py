"""What the Airflow of this environment has."""

from importlib.metadata import version
from importlib.util import find_spec

HAS_LOOPS = find_spec("airflow.sdk.definitions.loop") is not None
"""Airflow 3.4 has loops."""
NEED_LOOPS = ("until_converged",)
"""The examples that need them."""
HAS_PLAIN_STORES = not version("apache-airflow-core").startswith("3.1.")
"""Airflow 3.1's paths of object stores have another form, and need the store's own provider."""
