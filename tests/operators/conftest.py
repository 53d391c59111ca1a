"""What the operators' tests share."""

import pytest

from tests.airflow_side import TaskInstance


@pytest.fixture
def ti():
    """The task instance that an operator sees."""
    return TaskInstance()


@pytest.fixture
def run(ti):
    """Executes an operator as a worker does."""
    return lambda operator: operator.execute({"ti": ti})
