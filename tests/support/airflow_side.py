"""The part of Airflow that a task's code sees; the tests of tests/e2e use Airflow's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest


@dataclass
class TaskInstance:
    """Keeps what is pushed."""

    dag_id: str = "dag"
    task_id: str = "task"
    map_index: int = -1
    region_id: str = "00000000-0000-0000-0000-000000000000"
    region_index: int = -1
    run_id: str = "run"
    try_number: int = 1
    max_tries: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep the value."""
        self.pushed[key] = value

    def xcom_pull(self, *, key: str, **_: Any) -> Any:
        """What was pushed."""
        return self.pushed.get(key)

    def get_first_reschedule_date(self, context: Any) -> None:
        """Never rescheduled."""
        return


class TaskStateStore(dict[str, Any]):
    """Airflow 3.3's ``context["task_state_store"]``, without a supervisor."""

    def set(self, key: str, value: Any) -> None:
        """Keep the value, which is to be JSON: tuples are not."""
        assert msgspec.json.decode(msgspec.json.encode(value)) == value
        self[key] = value

    def delete(self, key: str) -> None:
        """Forget it."""
        self.pop(key, None)


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
