"""What the network does to the requests of a round's tasks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from tests.crash.rounds import KILLS, LATE, Kind
from tests.support.proxy import Fault, Pass, Send, is_cut, is_late, says

Strike = Callable[[], object]
STRIKES = ThreadPoolExecutor(32)
"""A gate's end waits for its event loop's own threads; a strike may wait for the gate to come back."""
SUBMIT = "/jobs/submit"
HAZY = 4.0
"""Seconds after a gateway's answer in which lists fail or are old: less than a submit is looked for."""
HELD_UP = 2.0
"""Seconds in which a user does something and Airflow's supervisor hears of it. Less than the client
waits: a submit that reached the server once its task is gone would be no fault of the task's."""


class Weather:
    """Decides what becomes of each request; what a :class:`~tests.support.proxy.Proxy` asks.

    :param kind: the round's; it may break the first submit.
    :param random: for what a storm does, and a gateway.
    :param names: how the names of the round's jobs begin.
    """

    def __init__(self, kind: Kind, random: Random, names: str = "") -> None:
        self.has_struck = False
        self.storms = False
        self.strike: Strike | None = None
        """What is to be done at request number ``at``."""
        self.at = 0
        self.passed = False
        """Whether that request still reaches the server."""
        self._kind = kind
        self._random = random
        self._heard = 0
        self._hazy_until = 0.0
        self._names = names

    def __call__(self, request: str) -> Fault | None:
        """The fault that a request of the victim meets, where it meets one."""
        if (always := self.elsewhere(request)) is not None:
            return always
        self._heard += 1
        if self.strike is not None and self._heard == self.at:
            if self._kind in KILLS:
                return kills(self.strike, passed=self.passed)
            return interrupts(self.strike, passed=self.passed)
        if self.storms:
            self.has_struck = True
            return self._random.choice((*STORM, None, None, None))
        if SUBMIT in request and not self.has_struck:
            return self._of_a_submit()
        hazy = request.endswith("/jobs") and time.monotonic() < self._hazy_until
        haze = (says(503, b"upstream connect error"), is_old(self._names))
        return self._random.choice(haze) if hazy else None

    def _of_a_submit(self) -> Fault | None:
        if self._kind in GATEWAYS:
            self._hazy_until = time.monotonic() + HAZY
            fault = GATEWAYS[self._kind](self._random.choice((502, 503, 504, 511)))
        else:
            fault = OF_A_SUBMIT.get(self._kind)
        self.has_struck = fault is not None
        return fault

    def elsewhere(self, request: str) -> Fault | None:
        """The fault that a request of any task meets."""
        blind = self._kind is Kind.FORGOTTEN_BLIND and "/accounting/" in request
        return says(404, {"error": "not found"}) if blind else None


async def cut(send: Send, passed: Pass) -> None:
    """A reset before the request is read."""
    await _reset(send)


async def lost(send: Send, passed: Pass) -> None:
    """A reset once the server has answered, before any of it is passed on."""
    async for _ in passed():
        pass
    await _reset(send)


async def overdue(send: Send, passed: Pass) -> None:
    """The server's answer, later than the client waits."""
    messages = [message async for message in passed()]
    await asyncio.sleep(LATE)
    for message in messages:
        await send(message)


async def error_with_id(send: Send, passed: Pass) -> None:
    """A submitted job under status 500 with an error, as a real slurmrestd was seen to answer."""
    body = b"".join([message.get("body", b"") async for message in passed()])
    answer: dict[str, Any] = json.loads(body)
    answer["errors"] = [
        {"error_number": 1, "error": "Unspecified error", "description": "crash", "source": "rig"}
    ]
    await says(500, answer)(send, passed)


def answers_itself(status: int) -> Fault:
    """A gateway that finds nobody behind it."""
    return says(status, b"<html>no healthy upstream</html>")


def loses(status: int) -> Fault:
    """A gateway whose upstream dies once it has taken the request."""

    async def fault(send: Send, passed: Pass) -> None:
        async for _ in passed():
            pass
        await answers_itself(status)(send, passed)

    return fault


def is_old(names: str) -> Fault:
    """A list from before there were jobs of such names."""

    async def fault(send: Send, passed: Pass) -> None:
        body = b"".join([message.get("body", b"") async for message in passed()])
        answer: dict[str, Any] = json.loads(body)
        answer["jobs"] = [
            job for job in answer.get("jobs", ()) if not job["name"].startswith(names)
        ]
        await says(200, answer)(send, passed)

    return fault


def kills(strike: Strike, *, passed: bool) -> Fault:
    """A process that dies while its request is under way, and never hears the answer.

    :param passed: whether the request has reached the server before.
    """

    async def fault(send: Send, passes: Pass) -> None:
        if not passed:
            strike()
        async for _ in passes():
            pass
        if passed:
            strike()
        await _reset(send)

    return fault


def interrupts(strike: Strike, *, passed: bool) -> Fault:
    """Something that Airflow does to a process while it waits for an answer, which it hears.

    :param passed: whether the request has reached the server before.
    """

    async def fault(send: Send, passes: Pass) -> None:
        messages = [message async for message in passes()] if passed else []
        striking = asyncio.get_running_loop().run_in_executor(STRIKES, strike)
        await asyncio.sleep(HELD_UP)
        messages = messages or [message async for message in passes()]
        for message in messages:
            await send(message)
        await striking

    return fault


OF_A_SUBMIT: dict[Kind, Fault] = {
    Kind.CUT_BEFORE: cut,
    Kind.CUT_AFTER: lost,
    Kind.CUT_WITHIN: is_cut(40),
    Kind.LATE_BEFORE: is_late(LATE),
    Kind.LATE_AFTER: overdue,
    Kind.ERROR_WITH_ID: error_with_id,
}
GATEWAYS: dict[Kind, Callable[[int], Fault]] = {
    Kind.GATEWAY_BEFORE: answers_itself,
    Kind.GATEWAY_AFTER: loses,
}
STORM = (
    cut,
    lost,
    is_cut(40),
    overdue,
    says(500, b"oops"),
    says(503, b"busy", {"Retry-After": "1"}),
    says(504, b"gateway timeout"),
)


async def _reset(send: Any) -> None:
    # ASGI has no word for it: uvicorn would answer 500
    send.__self__.transport.abort()
    # let it see that the connection is gone
    await asyncio.sleep(0)
