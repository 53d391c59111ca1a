"""Waiting in the triggerer, for a job's end or a turn to submit, and the event that the task resumes with."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from airflow.providers.common.compat.sdk import AirflowNotFoundException, conf
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async
from msgspec.structs import asdict, replace

from airflow_provider_clusterra.api import calls
from airflow_provider_clusterra.api.client import Access, AsyncClient, Client
from airflow_provider_clusterra.api.errors import (
    ONCE,
    SUBMIT_PAUSES,
    ClusterraError,
    InputError,
    ProtocolError,
    Retry,
)
from airflow_provider_clusterra.api.jobs import ExitStatus, Job, JobState, read_job_id
from airflow_provider_clusterra.compat import (
    A_KILL_IS_A_USERS,
    MIN_DEFERRAL,
    TRIGGERS_ARE_TOLD_OF_KILLS,
)
from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.watch.arrays import (
    counts_of,
    pack_ids,
    read_indices,
    unpack_ids,
    write_indices,
)
from airflow_provider_clusterra.watch.cancel import cancel_and_confirm, state_of
from airflow_provider_clusterra.watch.verdict import (
    PATIENT,
    Outcome,
    Patience,
    Progress,
    Verdict,
    WaitSpec,
    judge,
)
from airflow_provider_clusterra.watch.wait import Wait

log = logging.getLogger(__name__)

THROUGH_AN_OUTAGE = Retry(tries=40)
"""About a quarter of an hour: no later step cancels a job that a kill has left running."""

ENDS = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""The states of a task that is not run again."""

_under_way: set[asyncio.Task[None]] = set()
"""Cancels of jobs: an event loop itself keeps no task alive."""


async def is_wanted(task_instance: Any, job_id: int) -> bool:
    """Whether the task still waits for this very job, or Airflow does not say.

    The state alone does not say it: a task that was cleared may wait again, for its next job.

    :source: the task's state, and XCom ``job_id``, which each try pushes anew.
    """
    try:
        if await sync_to_async(_state_of)(task_instance) != "deferred":
            return False
        pushed = await sync_to_async(_pushed_by)(task_instance)
        return pushed is not None and read_job_id(pushed).number == job_id
    except Exception:
        log.exception(
            "Airflow does not say whether job %s is still wanted; it is left alone.", job_id
        )
        return True


async def was_cleared(task_instance: Any) -> bool:
    """Whether another try comes, which alone can see whether the task's state was kept."""
    try:
        return await sync_to_async(_state_of)(task_instance) not in ENDS
    except Exception:
        log.exception("Airflow does not say whether the task was cleared; its job is cancelled.")
        return False


def _state_of(ti: Any) -> str | None:
    # only a kill needs it, and it is large
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if ti.map_index >= 0 else None,
    )
    # a mapped task's key has its index
    name = f"{ti.task_id}_{ti.map_index}" if ti.map_index >= 0 else ti.task_id
    state: str | None = states.get(ti.run_id, {}).get(name, "removed")
    return state


def _pushed_by(ti: Any) -> Any:
    # only a kill needs it, and it is large
    from airflow.providers.common.compat.sdk import XCom  # noqa: PLC0415

    return XCom.get_one(
        key="job_id",
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index,
    )


def min_deferral() -> float:
    """Seconds for which an event is held: ``[clusterra] min_deferral``, as ``7``, ``7.5`` or ``7s``."""
    text = str(conf.get("clusterra", "min_deferral", fallback="") or MIN_DEFERRAL).strip()
    form = re.fullmatch(r"(\d+(?:\.\d*)?)\s*s?", text)
    if form is None:
        log.warning("[clusterra] min_deferral is %r; it is a number of seconds, e.g. 7.", text)
    return float(form[1]) if form else MIN_DEFERRAL


TRIGGER_MARGIN = 120.0
"""Seconds by which Airflow's own timeout of a deferral is longer than ours, so that the trigger can
cancel the job, see it gone, read its output to the end, and return."""


def deferral_timeout(deadline: float | None) -> float | None:
    """Airflow's timeout of a deferral, in seconds: the trigger itself ends at the deadline."""
    return None if deadline is None else max(0.0, deadline - time.time()) + TRIGGER_MARGIN


LATE = 15.0
"""Seconds after the deferral. A trigger that begins later has probably begun before, elsewhere."""


SAME_ARGUMENTS = (
    "clusterra_conn_id",
    "pending_timeout",
    "max_restarts",
    "on_stuck",
    "follow_output",
)
"""What an operator and the sensor have under the trigger's own names."""


class ClusterraJobTrigger(BaseTrigger):
    """Waits for one job, together with all others of its connection and cluster.

    :param job_id: Slurm's number for the job.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param clusterra_conn_id: the connection's id.
    :param job_name: the name that the job was submitted under; ``""`` if that is not known.
    :param since: seconds since 1970 from which on it is waited for; otherwise now.
    :param array: the indices that were submitted, e.g. ``"0-99%10"``; ``""`` if it is no array,
        or nobody knows.
    :param poll_interval: seconds between two looks at the most, or None.
    :param deadline: seconds since 1970 at which patience ends, or None.
    :param limit: which limit the deadline is, in words, e.g. ``"timeout=3600 s"``.
    :param pending_timeout: seconds for which the job may be pending at a time, or None.
    :param max_restarts: how often Slurm may start the job again, or None.
    :param on_stuck: ``"fail"`` or ``"warn"``: what a job means that will never start.
    :param follow_output: whether the job's output goes into the task's log meanwhile.
    :param owns_job: whether the job is the task's own, and is cancelled when the wait is given up.
        A sensor's never is.
    :param cancel_on_kill: whether the job is cancelled when a user ends the task.
    :param kept_on_clear: whether a clear leaves the job to the task's next try (Airflow 3.4).
    :param adopted_at: when the task took the job over from an earlier try, in seconds since 1970.
    """

    patience = PATIENT
    """Not an argument: Airflow stores a trigger's arguments, and this one is the same for all."""

    def __init__(
        self,
        *,
        cancel_on_kill: bool = False,
        kept_on_clear: bool = False,
        adopted_at: float | None = None,
        **fields: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spec = WaitSpec(**fields)
        self.cancel_on_kill = cancel_on_kill
        self.kept_on_clear = kept_on_clear
        self.adopted_at = adopted_at
        self._is_over = False

    @cached_property
    def _hook(self) -> ClusterraHook:
        return ClusterraHook(self.spec.clusterra_conn_id, self.spec.cluster_id)

    @cached_property
    def the_wait(self) -> Wait:
        """The wait itself, which remembers what was seen between a sensor's pokes."""
        return Wait(
            self.spec,
            partial(_read_connection, self._hook, self.patience),
            self.log,
            may_be_renewed=lambda: not self._hook.is_in_the_environment,
            patience=self.patience,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as Airflow stores it: plain values, no secret."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        own = ("cancel_on_kill", "kept_on_clear", "adopted_at")
        return path, asdict(self.spec) | {name: getattr(self, name) for name in own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: a :class:`JobEvent` as its payload."""
        begun, spec = time.monotonic(), self.spec
        late = time.time() - spec.since
        if late > LATE:
            again = " Its output begins again here." if spec.follow_output else ""
            words = "The wait for job %s goes on here, %.0f s after it began.%s"
            self.log.info(words, spec.job_id, late, again)
        end = begun + min_deferral()
        try:
            event = await self.wait()
            await asyncio.sleep(max(0.0, end - time.monotonic()))
        except asyncio.CancelledError:
            if not TRIGGERS_ARE_TOLD_OF_KILLS:
                await self.on_kill()
            raise
        # from here on the task may resume, and a kill is the worker's business
        self._is_over = True
        # an array of thousands takes its time to pack
        yield TriggerEvent(await asyncio.to_thread(event.to_payload))

    async def on_kill(self) -> None:
        """Cancel the job of a task that a user has ended while it was deferred."""
        if not self.cancel_on_kill or self._is_over:
            return
        name = f"clusterra-kill-{self.spec.job_id}"
        task = asyncio.create_task(self._cancel_unwanted(), name=name)
        _under_way.add(task)
        task.add_done_callback(_under_way.discard)
        # the triggerer cancels an on_kill again after a second
        await asyncio.shield(task)

    async def wait(self) -> JobEvent:
        """The end of the wait. A worker that does not defer runs this, too."""
        return self._event(await self.the_wait.run())

    async def look(self, *, catch_up: bool = False) -> JobEvent | None:
        """One look, as a sensor pokes: the end, or None while the job goes on.

        :param catch_up: whether what is new of the output is written.
        :raises ClusterraError: what no waiting can heal.
        """
        verdict = await self.the_wait.look(catch_up=catch_up)
        return None if verdict.outcome is Outcome.WAIT else self._event(verdict)

    def first_look(self, client: Client, seen: Job | None = None) -> JobEvent | None:
        """One look before a deferral: a job that has ended already needs no triggerer.

        :param client: the task's.
        :param seen: the job, if it was just seen.
        """
        spec = self.spec
        try:
            job = seen or client.send(calls.get_job(spec.cluster_id, spec.job_id), retry=ONCE)
        except ClusterraError as error:
            self.log.debug("The first look at job %s: %s", spec.job_id, error)
            return None
        _, verdict = judge(spec, Progress(), time.time(), job)
        return self._event(verdict) if verdict.outcome is Outcome.ENDED else None

    async def _cancel_unwanted(self) -> None:
        job_id = self.spec.job_id
        if A_KILL_IS_A_USERS:
            if self.kept_on_clear and await was_cleared(self.task_instance):
                self.log.info("Job %s is left to the task's next try.", job_id)
                return
        elif await is_wanted(self.task_instance, job_id):
            self.log.info("Job %s is left alone: its task still waits for it.", job_id)
            return
        try:
            access = await _read_connection(self._hook, self.patience)
            made = await asyncio.to_thread(AsyncClient, access, retry=THROUGH_AN_OUTAGE)
            async with made as client:
                job = await cancel_and_confirm(client, self.spec.cluster_id, job_id)
        except ClusterraError as error:
            self.log.error(  # noqa: TRY400 - the words say it all
                "The task was ended, and job %s could not be cancelled: %s", job_id, error
            )
            return
        words = "The task was ended, so job %s was cancelled: it is %s."
        self.log.info(words, job_id, state_of(job))

    def _event(self, verdict: Verdict) -> JobEvent:
        return JobEvent(
            str(verdict.outcome),
            self.spec.job_id,
            self.spec.cluster_id,
            verdict.job,
            verdict.message,
            adopted_at=self.adopted_at,
        )


async def _read_connection(hook: ClusterraHook, patience: Patience) -> Access:
    """Airflow says that there is no such connection, too, if its own API or database is away."""
    end = time.monotonic() + patience.undefined
    attempt = 0
    while True:
        attempt += 1
        try:
            return await hook.async_access()
        except AirflowNotFoundException as error:
            if time.monotonic() >= end:
                raise InputError(
                    f"The connection {hook.clusterra_conn_id} cannot be read: {error}"
                ) from error
        await asyncio.sleep(patience.backoff.pause(attempt))


class SubmitTurns:
    """A full queue: one of all waiting tasks may submit, then two, four … as long as none comes back.

    A task that was let go has submitted its job after ``settled_after`` seconds, or is back.
    """

    def __init__(self, pauses: Retry = SUBMIT_PAUSES, settled_after: float = 30.0) -> None:
        self._pauses = pauses
        self._settled_after = settled_after
        self._waiting: list[asyncio.Future[None]] = []
        self._one_is_back = False
        self._letting_go: asyncio.Task[None] | None = None

    async def wait(self, *, is_back: bool, until: float | None = None) -> None:
        """Wait for a turn, for so many seconds at the most; ``is_back`` after a submit in vain."""
        self._one_is_back |= is_back
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._letting_go is None or self._letting_go.done():
            self._letting_go = asyncio.create_task(self._let_go())
        try:
            await asyncio.wait([turn], timeout=until)
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    async def _let_go(self) -> None:
        at_once, failures = 1, 1
        await asyncio.sleep(self._pauses.pause(failures))
        while self._waiting:
            self._one_is_back = False
            now, self._waiting = self._waiting[:at_once], self._waiting[at_once:]
            for turn in now:
                turn.set_result(None)
            await asyncio.sleep(self._settled_after)
            if self._one_is_back:
                at_once, failures = 1, failures + 1
                await asyncio.sleep(self._pauses.pause(failures))
            else:
                at_once, failures = 2 * at_once, 1


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], SubmitTurns]] = (
    WeakKeyDictionary()
)
"""Of each event loop, by connection and cluster."""


class ClusterraQueueTrigger(BaseTrigger):
    """Waits for a task's turn to submit again, because the queue is full.

    :param clusterra_conn_id: the connection's id.
    :param cluster_id: the cluster, e.g. ``"clusde74"``.
    :param tries: how often the task has found the queue full.
    :param deadline: seconds since 1970 at which patience ends, or None.
    :param limit: which limit the deadline is, in words.
    :param keys: the keys of what the task has uploaded, by the names of its inputs.
    """

    def __init__(
        self,
        *,
        clusterra_conn_id: str,
        cluster_id: str,
        tries: int = 0,
        deadline: float | None = None,
        limit: str = "",
        keys: dict[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.clusterra_conn_id = clusterra_conn_id
        self.cluster_id = cluster_id
        self.tries = tries
        self.deadline = deadline
        self.limit = limit
        self.keys = keys or {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as Airflow stores it: plain values, no secret."""
        queue = {"clusterra_conn_id": self.clusterra_conn_id, "cluster_id": self.cluster_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", queue | self._so_far()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: what the task needs to go on."""
        all_turns = _turns.setdefault(asyncio.get_running_loop(), {})
        turns = all_turns.setdefault((self.clusterra_conn_id, self.cluster_id), SubmitTurns())
        left = None if self.deadline is None else max(0.0, self.deadline - time.time())
        await turns.wait(is_back=self.tries > 1, until=left)
        yield TriggerEvent(self._so_far())

    def _so_far(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("tries", "deadline", "limit", "keys")}


LARGEST = 3600
"""Bytes of an event: Airflow logs it, and stores it, in a longer form of JSON."""
ROOMS = ((400, 1200), (100, 1200), (100, 0))
"""Characters of any one text (twice as many of the words), and of an array's tasks and their ids: if
these need more room, the resumed task asks again."""
NAME_KEPT = 255
"""Bytes that accounting keeps of a name, by which its records are known."""
LONGEST_TRES = 100
"""Of what the usage has been read from already."""


class JobEvent(msgspec.Struct, frozen=True):
    """The end of a wait."""

    outcome: str
    """``"ended"``, ``"lost"``, ``"stuck"``, ``"overdue"``, ``"timed_out"``, or ``"refused"`` (no
    waiting can heal it)."""
    job_id: int
    cluster_id: str
    job: Job | None = None
    """The job as last seen."""
    message: str = ""
    tasks: dict[str, str] = msgspec.field(default_factory=dict)
    """How an array's tasks or a het job's components ended, e.g. ``{"COMPLETED 0 -": "0-7,9",
    "FAILED 3 -": "8"}``: state, exit code and signal, to the indices."""
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    """How many of them are in each state, e.g. ``{"COMPLETED": 9, "FAILED": 1}``."""
    task_ids: dict[str, str] = msgspec.field(default_factory=dict)
    """Their own job ids: what to add to an index, to the indices."""
    failed_nodes: dict[str, int] = msgspec.field(default_factory=dict)
    """The last nodes that failed under them, to an index each."""
    adopted_at: float | None = None
    """When the task took the job over from an earlier try, in seconds since 1970."""

    def to_payload(self) -> dict[str, Any]:
        """The event as plain JSON values, under 4 KB however large the job is."""
        whole = self
        if self.job is not None:
            tasks = self.job.tasks
            whole = replace(
                self,
                tasks=pack_tasks(tasks),
                counts=counts_of(self.job),
                task_ids=pack_ids(tasks),
                failed_nodes=pack_nodes(tasks),
            )
        payload: dict[str, Any] = {}
        for text, most in ROOMS:
            payload = msgspec.to_builtins(whole.cut_to(text, most))
            if len(msgspec.json.encode(payload)) <= LARGEST:
                break
        return payload

    def cut_to(self, text: int, most: int) -> JobEvent:
        """As much of it as has room: see :data:`ROOMS`."""
        left = most - _size(self.tasks)
        return replace(
            self,
            message=self.message[: 2 * text],
            job=self.job and _shortened(self.job, text),
            tasks=self.tasks if left >= 0 else {},
            task_ids=self.task_ids if left >= _size(self.task_ids) else {},
            failed_nodes=self.failed_nodes if left >= 0 else {},
        )


def read_event(payload: Any) -> JobEvent:
    """The event, checked: it came through the metadata database.

    :raises ProtocolError: it is something else.
    """
    try:
        event = msgspec.convert(payload, JobEvent)
    except msgspec.ValidationError as exc:
        raise ProtocolError(
            f"The event with which this task was resumed cannot be read ({exc}). Was the provider "
            "upgraded while it was deferred? Clear the task."
        ) from exc
    if event.job is None or not event.tasks:
        return event
    tasks = unpack_tasks(event.tasks, event.job, event.task_ids)
    node_of = {index: node for node, index in event.failed_nodes.items()}
    with_nodes = [replace(task, failed_node=node_of.get(task.place, "")) for task in tasks]
    return replace(event, job=replace(event.job, tasks=tuple(with_nodes)))


def pack_tasks(tasks: Iterable[Job]) -> dict[str, str]:
    """How tasks or components ended, as :attr:`JobEvent.tasks` has it."""
    groups: dict[str, set[int]] = {}
    for task in tasks:
        if task.place >= 0:
            words = (task.state.base, _word(task.exit.code), _word(task.exit.signal))
            groups.setdefault(" ".join(words), set()).add(task.place)
    return {words: write_indices(indices) for words, indices in groups.items()}


def pack_nodes(tasks: Iterable[Job]) -> dict[str, int]:
    """The nodes that failed under them, as :attr:`JobEvent.failed_nodes` has them."""
    # of an array's end alone, and not for whoever only imports the trigger
    from airflow_provider_clusterra.submit.protocol import (  # noqa: PLC0415
        MOST_NODES,
        failed_nodes,
    )

    failed = [*failed_nodes(tasks).items()][-MOST_NODES:]
    return {node: task.place for node, task in failed if task.place >= 0}


def unpack_tasks(packed: dict[str, str], whole: Job, task_ids: dict[str, str]) -> tuple[Job, ...]:
    """The tasks again, as far as they were packed."""
    ids = unpack_ids(task_ids)
    place = "het_job_offset" if whole.het_job_id else "array_task_id"
    tasks: list[Job] = []
    for words, indices in packed.items():
        base, code, number = words.split(" ")
        task = Job(
            0,
            JobState(base),
            exit=ExitStatus(_number(code), _number(number)),
            array_job_id=whole.array_job_id,
            het_job_id=whole.het_job_id,
        )
        tasks += [
            replace(task, job_id=ids.get(index, 0), **{place: index})
            for index in read_indices(indices)
        ]
    return tuple(sorted(tasks, key=lambda task: task.place))


def _size(packed: dict[str, str]) -> int:
    return sum(len(words) + len(indices) for words, indices in packed.items())


def _shortened(job: Job, longest: int) -> Job:
    texts = ("nodes", "description", "comment", "standard_output", "working_directory")
    read = ("tres_allocated", "tres_requested", "admin_comment")
    most = {"name": NAME_KEPT, **dict.fromkeys((*texts, "array_task_string"), longest)}
    most |= dict.fromkeys(read, LONGEST_TRES)
    return replace(job, tasks=(), **{name: getattr(job, name)[:end] for name, end in most.items()})


def _word(number: int | None) -> str:
    return "-" if number is None else str(number)


def _number(word: str) -> int | None:
    return None if word == "-" else int(word)
