"""Airflow's REST API, as far as the tests and the demo need it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
LOOK_EVERY = 0.2
Place = dict[str, Any]
"""``region_id`` and ``region_index``, which say more than a map index, in a loop (Airflow 3.4)."""
BUSY = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses after a 5xx or none: on a busy machine SQLite is "locked", and the change rolled back."""


class Rest:
    """One stack's REST API.

    :param url: the api-server's address.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        # Airflow writes its audit log in its event loop, and waits there for SQLite's one writer:
        # where that is another change's request, neither goes on
        self._one_change = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> dict[str, str]:
        """Each component's status."""
        answer = self._http.get("/api/v2/monitor/health")
        answer.raise_for_status()
        return {
            name: part["status"]
            for name, part in answer.json().items()
            if part and part.get("status") is not None
        }

    def add_connection(self, conn_id: str, **fields: Any) -> None:
        """Create a connection, or put it in the place of an old one."""
        body = {"connection_id": conn_id, "conn_type": "clusterra", **fields}
        self._http_request("DELETE", f"/api/v2/connections/{conn_id}", expect=(204, 404))
        self._http_request("POST", "/api/v2/connections", json=body)

    def add_pool(self, name: str, *, slots: int, include_deferred: bool) -> None:
        """Create a pool."""
        body = {"name": name, "slots": slots, "include_deferred": include_deferred}
        self._http_request("POST", "/api/v2/pools", json=body, expect=(201, 409))

    def test_connection(self, **fields: Any) -> dict[str, Any]:
        """What the form's Test button answers."""
        body = {"connection_id": "try_me", "conn_type": "clusterra", **fields}
        return self._http_request("POST", "/api/v2/connections/test", json=body).json()

    def wait_for_dags(self, *dag_ids: str, within: float = 60) -> None:
        """Wait until the DAGs are parsed."""

        def missing() -> list[str]:
            rows = self._http_request("GET", "/api/v2/dags?limit=100").json()["dags"]
            return sorted(set(dag_ids) - {row["dag_id"] for row in rows})

        until(lambda: not missing(), within, lambda: f"DAGs that are not parsed: {missing()}")

    def import_errors(self) -> list[str]:
        """The errors of DAG files."""
        rows = self._http_request("GET", "/api/v2/importErrors").json()["import_errors"]
        return [row["stack_trace"] for row in rows]

    def run_dag(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run.

        :returns: its id.
        """
        run_id = f"test__{uuid.uuid4().hex[:12]}"
        body = {"logical_date": None, "conf": conf or {}, "dag_run_id": run_id}
        # it is there already if an answer was lost
        self._http_request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body, expect=(200, 409))
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """A run's state."""
        return self._http_request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}").json()["state"]

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """A run's task instances."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return self._http_request("GET", path).json()["task_instances"]

    def task_rows(self, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
        """The instances of a task, of which a mapped one has several."""
        return [row for row in self.tasks(dag_id, run_id) if row["task_id"] == task_id]

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """One task instance."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return self._http_request("GET", path).json()

    def set_task_state(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        state: str,
        map_index: int = -1,
        where: Place | None = None,
    ) -> None:
        """What a user's "mark as" does."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        if map_index >= 0:
            path += f"/{map_index}"
        self._http_request("PATCH", path, json={"new_state": state}, params=where)

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """What a user's "mark run as" does."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        self._http_request("PATCH", path, json={"state": state})

    def clear_task(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """What a user's "clear" does."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [[task_id, map_index] if map_index >= 0 else task_id],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.clear(dag_id, body)

    def clear(self, dag_id: str, body: dict[str, Any]) -> None:
        """Clear what a body of Airflow's own says."""
        self._http_request("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body)

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        key: str = "return_value",
        map_index: int = -1,
        where: Place | None = None,
    ) -> Any:
        """An XCom's value, or None where there is none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        query = {"stringify": "false", **(where or {"map_index": map_index})}
        answer = self._http_request("GET", path, params=query, expect=(200, 404))
        return answer.json()["value"] if answer.status_code == 200 else None

    def task_log(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        try_number: int = 1,
        map_index: int = -1,
        where: Place | None = None,
    ) -> str:
        """A try's log as text."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._http_request(
            "GET",
            path,
            params={"full_content": "true", **(where or {"map_index": map_index})},
            headers={"Accept": "application/json"},
        )
        rows = answer.json()["content"]
        return "\n".join(_log_line(row) for row in rows)

    def wait_for_runs_of(self, dag_id: str) -> list[str]:
        """The runs of a DAG that something else starts, once there is one."""

        def found() -> list[str]:
            answer = self._http_request("GET", f"/api/v2/dags/{dag_id}/dagRuns").json()
            return [row["dag_run_id"] for row in answer["dag_runs"]]

        until(lambda: bool(found()), 240, lambda: f"{dag_id} has not been started")
        return found()

    def asset_events(self, dag_id: str) -> list[dict[str, Any]]:
        """The events of assets that a DAG has written."""
        params = {"source_dag_id": dag_id}
        answer = self._http_request("GET", "/api/v2/assets/events", params=params)
        return answer.json()["asset_events"]

    def wait_for_run(
        self, dag_id: str, run_id: str, *, within: float = 120, seen: set[str] | None = None
    ) -> dict[str, str]:
        """Wait until a run is over.

        :param seen: takes every ``task_id:state`` that was shown meanwhile.
        :returns: the state of each task.
        """

        def over() -> bool:
            if seen is not None:
                seen.update(
                    f"{row['task_id']}:{row['state']}" for row in self.tasks(dag_id, run_id)
                )
            return self.run_state(dag_id, run_id) in FINISHED

        until(over, within, lambda: f"{dag_id} goes on:\n{self._unfinished(dag_id, run_id)}")
        return {row["task_id"]: row["state"] for row in self.tasks(dag_id, run_id)}

    def _unfinished(self, dag_id: str, run_id: str) -> str:
        """The tasks that are not over, and what each has written so far."""
        words = []
        for row in self.tasks(dag_id, run_id):
            if row["state"] in FINISHED:
                continue
            number, index = row["try_number"], row["map_index"]
            where = place_of(row) if row.get("region_id") else None
            try:
                log = self.task_log(dag_id, run_id, row["task_id"], number, index, where)
            except RuntimeError as error:
                log = f"Its log cannot be read: {error}"
            words.append(f"{row['task_id']} [{index}], try {number}, is {row['state']}:\n{log}")
        return "\n".join(words)

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, within: float = 120
    ) -> dict[str, Any]:
        """Wait until a task is in one of some states."""
        found: dict[str, Any] = {}

        def there() -> bool:
            found.update(self.task(dag_id, run_id, task_id))
            return found["state"] in states

        until(there, within, lambda: f"{dag_id}.{task_id} is {found.get('state')}, not {states}")
        return found

    def wait_for_tasks(
        self, dag_id: str, run_id: str, task_id: str, state: str, within: float = 120
    ) -> None:
        """Wait until all instances of a mapped task are in a state."""

        def states() -> set[str]:
            rows = self.task_rows(dag_id, run_id, task_id)
            return {row["state"] for row in rows if row["map_index"] >= 0}

        until(lambda: states() == {state}, within, lambda: f"{dag_id}.{task_id}: {states()}")

    def _http_request(
        self, method: str, path: str, *, expect: tuple[int, ...] = (), **options: Any
    ) -> httpx.Response:
        if "Authorization" not in self._http.headers:
            token = self._http.get("/auth/token").json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        answer = self._ask(method, path, options)
        for pause in BUSY:
            if answer is not None and answer.status_code < 500:
                break
            time.sleep(pause)
            answer = self._ask(method, path, options)
        if answer is None:
            raise RuntimeError(f"no answer to {method} {path}")
        if answer.status_code not in expect and answer.is_error:
            raise RuntimeError(f"{answer.status_code} {method} {path}: {answer.text[:500]}")
        return answer

    def _ask(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response | None:
        try:
            with nullcontext() if method == "GET" else self._one_change:
                return self._http.request(method, path, **options)
        except httpx.TransportError:
            return None


def place_of(row: dict[str, Any]) -> Place:
    """Where a task instance is, as Airflow 3.4 names it."""
    return {name: row[name] for name in ("region_id", "region_index")}


def until(
    done: Callable[[], bool], within: float, otherwise: Callable[[], str], every: float = LOOK_EVERY
) -> None:
    """Look again and again until something is so.

    :param within: seconds after which it is an error.
    :param otherwise: the error's words.
    """
    end = time.monotonic() + within
    while not done():
        if time.monotonic() > end:
            raise AssertionError(f"Not within {within:.0f} s. {otherwise()}")
        time.sleep(every)


def _log_line(row: Any) -> str:
    if not isinstance(row, dict):
        return str(row)
    details = row.get("error_detail") or []
    errors = [f"{each.get('exc_type')}: {each.get('exc_value')}" for each in details]
    return "\n".join([str(row.get("event", "")), *errors])
