"""One round: a run of a DAG, the fault at its moment, and how the tasks ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from threading import Event
from typing import Any

from tests.crash.judge import TaskKey, TaskRecord
from tests.crash.rig import Rig
from tests.crash.rounds import KILLS, Kind, Round
from tests.crash.victim import kill
from tests.crash.weather import Weather
from tests.e2e.rest import FINISHED
from tests.support.proxy import Proxy

ENDS_WITHIN = 240.0
"""Seconds for a round; one that takes longer is stuck."""
STORM_SECONDS = 6.0
KILL_SECONDS = 8.0
"""Seconds from a user's click on: the supervisor's heartbeat, and what ``on_kill`` may take."""
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


class Stopped(Exception):  # noqa: N818 - it is no error
    """The rounds are not to go on."""


class Play:
    """A round under way.

    :param stop: set where it is not to go on.
    """

    def __init__(self, rig: Rig, game: Round, stop: Event) -> None:
        self._rig = rig
        self._rest = rig.airflow.rest
        self._game = game
        self._stop = stop
        self._weather = Weather(game.kind, Random(game.number))
        self._played = Played(game)

    def run(self) -> Played:
        """Play it to its end."""
        begin = time.monotonic()
        game, played = self._game, self._played
        proxies = {index: self._rig.open(game, index) for index in game.indices}
        if game.moment.request:
            self._weather.at, self._weather.passed = game.moment.request, game.moment.passed
            self._weather.strike = lambda: self._strike(proxies[game.victim])
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
        self._until(self._is_over, ASK_EVERY)
        played.struck = played.struck or self._weather.has_struck
        played.tasks = [self._task(row) for row in self._rows()]
        played.seconds = time.monotonic() - begin
        return played

    def _strike(self, proxy: Proxy) -> None:
        game = self._game
        if game.kind in KILLS:
            self._kill()
        elif game.kind is Kind.STORM:
            self._weather.storms = True
            time.sleep(STORM_SECONDS)
            self._weather.storms = False
        elif game.kind is Kind.RESTART:
            self._rig.gate.restart(2 + game.moment.delay / 2)
            self._played.struck = True
        elif game.kind is Kind.CLEAR:
            self._rest.clear_task(game.dag_id, self._played.run_id, "job", game.victim)
            self._played.struck = True
        elif game.kind is Kind.MARK_FAILED:
            self._until_watched(proxy)
            # a worker has 4 s to cancel its job, which an API that is down takes from it
            self._rig.gate.stay_up(KILL_SECONDS)
            self._rest.set_task_state(
                game.dag_id, self._played.run_id, "job", "failed", game.victim
            )
            self._played.struck = True

    def _kill(self) -> None:
        game = self._game
        legs = self._rig.legs(game.number, game.victim)
        if legs and kill(legs[-1], self._rig.notes, supervisor=game.kind is Kind.KILL_BOTH):
            self._played.struck = True

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
        asked = len(proxy.requests)
        self._until(lambda: len(proxy.requests) > asked, LOOK_EVERY)

    def _is_over(self) -> bool:
        return self._rest.run_state(self._game.dag_id, self._played.run_id) in FINISHED

    def _rows(self) -> list[dict[str, Any]]:
        return self._rest.tasks(self._game.dag_id, self._played.run_id)

    def _row(self) -> dict[str, Any]:
        return next(row for row in self._rows() if row["map_index"] == self._game.victim)

    def _task(self, row: dict[str, Any]) -> TaskRecord:
        ended = row["end_date"]
        index = row["map_index"]
        return TaskRecord(
            TaskKey(self._game.number, index),
            str(row["state"]),
            datetime.fromisoformat(ended).timestamp() if ended else 0.0,
            self._game.expected(index),
            by_user=self._game.kind is Kind.MARK_FAILED and index == self._game.victim,
        )

    def _until(self, done: Callable[[], bool], every: float) -> bool:
        end = time.monotonic() + ENDS_WITHIN
        while not done():
            if time.monotonic() > end:
                return False
            if self._stop.wait(every):
                raise Stopped
        return True
