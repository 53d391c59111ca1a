"""One round: a run of a DAG, the fault at its moment, and how the tasks ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from threading import Event
from typing import Any

import httpx

from tests.crash.judge import TASK_ENDS, TaskKey, TaskRecord
from tests.crash.rig import Rig
from tests.crash.rounds import KILLS, POSTGRES_ONLY, SUCCEEDS, Kind, Round, Shape
from tests.crash.victim import Leg, kill, terminate
from tests.crash.weather import Weather
from tests.e2e.rest import FINISHED, place_of
from tests.support.proxy import Proxy

ENDS_WITHIN = 300.0
"""Seconds for a round, or for its latest try if others were ended early; one that takes longer is stuck."""
MOST_EXTENSIONS = 4
STORM_SECONDS = 6.0
KILL_SECONDS = 20.0
"""Seconds after a user's click within which the job's cancel is answered: a supervisor's heartbeat, a
triggerer that is behind, and what ``on_kill`` may take."""
WATCHED_WITHIN = 120.0
"""Seconds within which a triggerer looks at a job that is deferred."""
LOOK_EVERY = 0.05
ASK_EVERY = 1.0
"""Seconds between two questions to Airflow."""


@dataclass(slots=True)
class Played:
    """A round that is over."""

    game: Round
    run_id: str = ""
    struck: bool = False
    seconds: float = 0.0
    tasks: list[TaskRecord] = field(default_factory=list)
    error: str = ""
    """Why it could not be played to its end."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """The rounds are not to go on."""


def is_cancelled(requests: list[str]) -> bool:
    """Whether a job's cancel has been answered, and looked after."""
    return any(request.startswith("DELETE ") for request in requests[:-1])


def is_young(legs: list[Leg], now: float) -> bool:
    """Whether the latest try still has time: other rounds end the schedulers that a round's tries run under."""
    return any(now - leg.began < ENDS_WITHIN for leg in legs)


class Play:
    """A round under way.

    :param stop: set where it is not to go on.
    """

    def __init__(self, rig: Rig, game: Round, stop: Event) -> None:
        self._rig = rig
        self._rest = rig.airflow.rest
        self._game = game
        self._stop = stop
        self._weather = Weather(game.kind, Random(game.number), f"r{game.number}.")
        self._played = Played(game)

    def run(self) -> Played:
        """Play it to its end; what the rig itself cannot do ends this round only."""
        begin = time.monotonic()
        try:
            self._run()
        except (AssertionError, OSError, RuntimeError, StopIteration, httpx.HTTPError) as error:
            self._played.error = repr(error)
        self._played.seconds = time.monotonic() - begin
        return self._played

    def _run(self) -> None:
        game, played = self._game, self._played
        proxies = {index: self._rig.open(game, index) for index in game.indices}
        if game.moment.request:
            self._weather.at, self._weather.passed = game.moment.request, game.moment.passed
            self._weather.strike = lambda: self._strike(proxies[game.victim])
        if game.shape is Shape.SENSOR:
            # what submits its job is struck by nothing
            self._rig.open(game, "submit")
        for index, proxy in proxies.items():
            proxy.fault = self._weather if index == game.victim else self._weather.elsewhere
        conf = {
            "round": game.number,
            "lasts": [game.lasts_of(index) for index in game.indices],
            "stubborn": game.stubborn,
        }
        played.run_id = self._rest.run_dag(game.dag_id, conf)
        if not game.moment.request and self._until_moment():
            self._strike(proxies[game.victim])
        self._until_over()
        played.struck = played.struck or self._weather.has_struck
        played.tasks = self._tasks()

    def _strike(self, proxy: Proxy) -> None:
        game = self._game
        match game.kind:
            case kind if kind in KILLS:
                self._kill()
            case kind if kind in POSTGRES_ONLY:
                legs = self._rig.legs(game.number, game.victim)
                self._played.struck = self._rig.strike(kind, legs[-1] if legs else None)
            case Kind.STORM:
                self._weather.storms = True
                time.sleep(STORM_SECONDS)
                self._weather.storms = False
            case Kind.RESTART:
                self._rig.gate.restart(2 + game.moment.delay / 2)
                self._played.struck = True
            case Kind.REQUEUE:
                self._played.struck = self._until(
                    lambda: self._rig.clusterras.requeue(f"r{game.number}.{game.victim}."),
                    ASK_EVERY,
                )
            case Kind.CLEAR:
                self._clear()
            case Kind.MARK_FAILED:
                self._mark_failed(proxy)

    def _clear(self) -> None:
        """The next try cancels the job, whatever ends meanwhile."""
        row = self._row()
        # otherwise the moment has passed
        if row["state"] not in TASK_ENDS:
            self._rest.clear(self._game.dag_id, self._clear_of(row))
            self._played.struck = True

    def _mark_failed(self, proxy: Proxy) -> None:
        game = self._game
        self._until_watched(proxy)
        with self._rig.calm:
            # whoever cancels the job must live until it has: nobody else would. Its triggerer may have
            # been ended, and takes its time to begin again
            self._until_asked(proxy)
            self._rig.gate.stay_up(KILL_SECONDS)
            asked = len(proxy.requests)
            row = self._row()
            if row["state"] in TASK_ENDS:
                # the moment has passed
                return
            self._rest.set_task_state(
                *(game.dag_id, self._played.run_id, game.task_id, "failed", game.victim),
                where=place_of(row) if game.shape is Shape.LOOP else None,
            )
            self._played.struck = True
            self._until(lambda: is_cancelled(proxy.requests[asked:]), LOOK_EVERY, KILL_SECONDS)

    def _clear_of(self, row: dict[str, Any]) -> dict[str, Any]:
        """As the UI clears one task instance."""
        index = self._game.victim
        what = {"task_ids": [[self._game.task_id, index] if index >= 0 else self._game.task_id]}
        if self._game.shape is Shape.LOOP:
            what = {"task_instance_ids": [row["id"]]}
        run = {"dag_run_id": self._played.run_id, "dry_run": False, "only_failed": False}
        return {**run, **what, "reset_dag_runs": True}

    def _kill(self) -> None:
        game, notes = self._game, self._rig.notes
        legs = self._rig.legs(game.number, game.victim)
        if not legs:
            return
        if game.kind is Kind.TERM_WORKER:
            hit = terminate(legs[-1], notes)
        else:
            hit = kill(legs[-1], notes, supervisor=game.kind is Kind.KILL_BOTH)
        self._played.struck = self._played.struck or hit

    def _until_moment(self) -> bool:
        """Wait for the fault's moment; whether it came before the round's end."""
        moment, began = self._game.moment, 0.0

        def come() -> bool:
            nonlocal began
            legs = self._rig.legs(self._game.number, self._game.victim)
            if len(legs) >= moment.leg:
                began = legs[moment.leg - 1].began
            return began > 0

        if not self._until(come, LOOK_EVERY):
            return False
        time.sleep(max(0.0, began + moment.delay - time.time()))
        return True

    def _until_watched(self, proxy: Proxy) -> None:
        """Airflow tells a trigger nothing of a user who comes before it has begun."""
        if not self._game.deferrable:
            return
        self._until(lambda: self._row()["state"] == "deferred", LOOK_EVERY)
        self._until_asked(proxy)

    def _until_asked(self, proxy: Proxy) -> None:
        if self._game.deferrable:
            asked = len(proxy.requests)
            self._until(lambda: len(proxy.requests) > asked, LOOK_EVERY, WATCHED_WITHIN)

    def _until_over(self) -> None:
        for _ in range(MOST_EXTENSIONS):
            if self._until(self._is_over, ASK_EVERY):
                return
            game = self._game
            legs = [leg for index in game.indices for leg in self._rig.legs(game.number, index)]
            if not is_young(legs, time.time()):
                return

    def _is_over(self) -> bool:
        self._rig.revive()
        return self._rest.run_state(self._game.dag_id, self._played.run_id) in FINISHED

    def _rows(self) -> list[dict[str, Any]]:
        return self._rest.task_rows(self._game.dag_id, self._played.run_id, self._game.task_id)

    def _row(self) -> dict[str, Any]:
        """The struck one; in a loop the latest iteration's."""
        rows = self._rows()
        if self._game.shape is Shape.LOOP:
            return max(rows, key=lambda row: row["region_index"])
        return next(row for row in rows if row["map_index"] == self._game.victim)

    def _tasks(self) -> list[TaskRecord]:
        rows = self._rows()
        if self._game.shape is Shape.LOOP:
            worst = min(rows, key=lambda row: row["state"] == "success")
            last = max((row["end_date"] or "" for row in rows), default="")
            iterations = 1 if self._game.kind in (Kind.MARK_FAILED, Kind.ERROR_WITH_ID) else 2
            rows = [{**worst, "map_index": -1, "end_date": last}]
            return [replace(self._task(row), iterations=iterations) for row in rows]
        return [self._task(row) for row in rows]

    def _expected(self, row: dict[str, Any]) -> frozenset[str]:
        """How a task may end; it may succeed if what was to fail it never came.

        A click waits while another round restarts a part of Airflow, and may come after the job's end. A kill
        of another round may come before a submit's refusal, and the next submit is not refused.
        """
        game = self._game
        late = game.kind is Kind.MARK_FAILED and not self._played.struck
        forestalled = game.kind is Kind.ERROR_WITH_ID and row["try_number"] > 1
        expected = game.expected(row["map_index"])
        return expected | SUCCEEDS if late or forestalled else expected

    def _task(self, row: dict[str, Any]) -> TaskRecord:
        ended = row["end_date"]
        game, index = self._game, row["map_index"]
        return TaskRecord(
            TaskKey(game.number, index),
            str(row["state"]),
            datetime.fromisoformat(ended).timestamp() if ended else 0.0,
            self._expected(row),
            by_user=game.kind is Kind.MARK_FAILED and index == game.victim,
            cleared=game.kind is Kind.CLEAR and index == game.victim,
            terminated=game.kind in (Kind.TERM_WORKER, Kind.TERM_SCHEDULER)
            or self._rig.was_terminated(game.number, index),
            may_leave_its_job=game.shape in (Shape.BLIND, Shape.SENSOR),
        )

    def _until(self, done: Callable[[], bool], every: float, within: float = ENDS_WITHIN) -> bool:
        end = time.monotonic() + within
        while not done():
            if time.monotonic() > end:
                return False
            if self._stop.wait(every):
                raise Stopped
        return True
