"""What the operators' tests share."""

import pytest

from tests.airflow_side import TaskInstance, TaskStateStore


@pytest.fixture
def ti():
    """The task instance that an operator sees."""
    return TaskInstance()


@pytest.fixture
def store():
    """What Airflow remembers of the task between its tries."""
    return TaskStateStore()


@pytest.fixture
def run(ti, store):
    """Executes an operator as a worker does."""
    return lambda operator: operator.execute({"ti": ti, "task_state_store": store})
