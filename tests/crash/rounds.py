"""What happens in each round: which task, which fault, when. The same seed gives the same rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tests.support.versions import HAS_LOOPS

CONFIRMED = 8.0
"""Seconds for which a submit whose answer is lost is looked for."""
TIMEOUT = 3.0
"""Seconds after which the client gives up a request."""
LATE = 5.0
"""Seconds by which a late answer is late: longer than the client waits."""
MIN_JOB_AGE = 5.0
"""Seconds for which the forgetful server remembers a job that has ended."""
LONGEST = 12.0
"""Seconds for which jobs run that are to succeed."""
SLOW_RETRY = 15.0
"""Seconds before a retry: by then the forgetful server has forgotten."""


class Kind(StrEnum):
    """The faults."""

    KILL_TASK = "kill-task"
    KILL_BOTH = "kill-both"
    CUT_BEFORE = "cut-before"
    CUT_AFTER = "cut-after"
    CUT_WITHIN = "cut-within"
    LATE_BEFORE = "late-before"
    LATE_AFTER = "late-after"
    ERROR_WITH_ID = "error-with-id"
    STORM = "storm"
    RESTART = "restart-api"
    CLEAR = "clear"
    MARK_FAILED = "mark-failed"
    FORGOTTEN = "forgotten"
    FORGOTTEN_BLIND = "forgotten-blind"
    GATEWAY_BEFORE = "gateway-before"
    GATEWAY_AFTER = "gateway-after"
    TERM_WORKER = "term-worker"
    TERM_SCHEDULER = "term-scheduler"
    KILL_TRIGGERER = "kill-triggerer"
    STALL_TRIGGERER = "stall-triggerer"
    RESTART_DATABASE = "restart-db"
    REQUEUE = "requeue"


class Shape(StrEnum):
    """The tasks."""

    SCRIPT = "script"
    ARRAY = "array"
    TEMPLATE = "template"
    BLIND = "nameless"
    """A template without a name of ours, of which nobody can tell whose it is."""
    UPLOAD = "upload"
    FUNCTION = "function"
    SENSOR = "sensor"
    LOOP = "loop"
    """Two iterations, one after the other; of Airflow 3.4."""


MAPPED = frozenset({Shape.SCRIPT, Shape.ARRAY})
"""Shapes of which there are mapped tasks, too."""
SLURM_ONLY = frozenset({Kind.REQUEUE})
POSTGRES_ONLY = frozenset(
    {Kind.TERM_SCHEDULER, Kind.KILL_TRIGGERER, Kind.STALL_TRIGGERER, Kind.RESTART_DATABASE}
)
"""They need two schedulers and two triggerers."""
OF_SUBMITS = frozenset(
    {
        *(Kind.CUT_BEFORE, Kind.CUT_AFTER, Kind.CUT_WITHIN, Kind.LATE_BEFORE, Kind.LATE_AFTER),
        *(Kind.ERROR_WITH_ID, Kind.GATEWAY_BEFORE, Kind.GATEWAY_AFTER),
    }
)
"""What happens to a submit, which a sensor has none of."""
NEEDS_LONG_JOBS = frozenset({Kind.MARK_FAILED, Kind.ERROR_WITH_ID, Kind.REQUEUE})
KILLS = (
    *(Kind.KILL_TASK, Kind.KILL_BOTH, Kind.TERM_WORKER),
    *(Kind.FORGOTTEN, Kind.FORGOTTEN_BLIND),
)
FORGETS = (Kind.FORGOTTEN, Kind.FORGOTTEN_BLIND)
FAILS = frozenset({"failed"})
SUCCEEDS = frozenset({"success"})
EXPECTED = {
    Kind.ERROR_WITH_ID: FAILS,
    Kind.MARK_FAILED: FAILS,
    # what nobody remembers may not be submitted again
    Kind.FORGOTTEN_BLIND: FAILS | SUCCEEDS,
}
"""How a struck task may end; all others succeed."""


def kinds_here(*, slurm: bool, postgres: bool) -> list[Kind]:
    """The faults that can be had."""
    missing = (frozenset() if slurm else SLURM_ONLY) | (frozenset() if postgres else POSTGRES_ONLY)
    return [kind for kind in Kind if kind not in missing]


def shapes_here(*, slurm: bool = False) -> list[Shape]:
    """The tasks that can be had."""
    missing = set() if HAS_LOOPS else {Shape.LOOP}
    if slurm:
        # accounting shows no seed of a template's
        missing.add(Shape.BLIND)
    return [shape for shape in Shape if shape not in missing]


def _suits(shape: Shape, kind: Kind) -> bool:
    if shape is Shape.SENSOR:
        # it asks for two minutes, at each try, for what nobody remembers
        return kind not in OF_SUBMITS | {Kind.MARK_FAILED, Kind.FORGOTTEN_BLIND}
    return shape is not Shape.BLIND or kind not in NEEDS_LONG_JOBS | {Kind.CLEAR}


@dataclass(frozen=True, slots=True)
class Moment:
    """When the fault strikes."""

    leg: int
    """1: while ``execute`` runs, or later; 2: after the deferral."""
    delay: float
    """Seconds after the leg's beginning."""
    request: int = 0
    """At this request of the task's instead, where it is not 0; the submit is the first or second."""
    passed: bool = False
    """Whether that request still reaches the server."""


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a DAG, and what strikes it."""

    number: int
    kind: Kind
    shape: Shape
    deferrable: bool
    mapped: bool
    victim: int
    """The map index that is struck; -1 in a task that is not mapped."""
    lasts: float
    """Seconds for which the victim's jobs run."""
    stubborn: bool
    """Whether its jobs ignore SIGTERM."""
    moment: Moment

    @property
    def dag_id(self) -> str:
        """The DAG that has such a task."""
        return dag_id(
            self.shape,
            deferrable=self.deferrable,
            mapped=self.mapped,
            slow_retry=self.kind in FORGETS,
        )

    @property
    def task_id(self) -> str:
        """The struck task."""
        return "again.job" if self.shape is Shape.LOOP else "job"

    @property
    def indices(self) -> tuple[int, ...]:
        """The map indices of its tasks."""
        return (0, 1) if self.mapped else (-1,)

    def lasts_of(self, index: int) -> float:
        """Seconds for which a task's jobs run."""
        return self.lasts if index == self.victim else min(self.lasts, LONGEST)

    def expected(self, index: int) -> frozenset[str]:
        """The states in which a task may end."""
        if self.shape is Shape.BLIND:
            # a job that may be its own is not submitted again
            return FAILS | SUCCEEDS
        struck = index == self.victim or self.kind is Kind.FORGOTTEN_BLIND
        return EXPECTED.get(self.kind, SUCCEEDS) if struck else SUCCEEDS

    def __str__(self) -> str:
        how = "deferred" if self.deferrable else "waiting"
        at = (
            f"at request {self.moment.request}{' once passed' if self.moment.passed else ''}"
            if self.moment.request
            else f"{self.moment.delay:.1f} s into leg {self.moment.leg}"
        )
        extra = " mapped" * self.mapped + " stubborn" * self.stubborn
        return (
            f"{self.number:>4}  {self.kind:<15} {self.shape:<8} {how}{extra}, "
            f"{self.lasts:.0f} s jobs, {at}"
        )


def dag_id(shape: Shape, *, deferrable: bool, mapped: bool, slow_retry: bool) -> str:
    """The DAG for a kind of task."""
    words = ["crash", shape, "deferred" if deferrable else "waiting"]
    return "_".join(words + ["mapped"] * mapped + ["slow"] * slow_retry)


def plan(
    count: int, seed: int, kinds: Iterable[Kind] = Kind, shapes: Iterable[Shape] = Shape
) -> list[Round]:
    """So many rounds; every kind comes before any comes again."""
    random = Random(seed)
    kinds, shapes = list(kinds), list(shapes)
    dealt: list[Kind] = []
    while len(dealt) < count:
        random.shuffle(kinds)
        dealt += kinds
    return [_round(random, number, kind, shapes) for number, kind in enumerate(dealt[:count], 1)]


def _round(random: Random, number: int, kind: Kind, shapes: list[Shape]) -> Round:
    shape = random.choice([each for each in shapes if _suits(each, kind)])
    deferrable = random.random() < 0.5
    mapped = shape in MAPPED and random.random() < 0.5
    return Round(
        number,
        kind,
        shape,
        deferrable,
        mapped,
        victim=random.choice((0, 1)) if mapped else -1,
        lasts=_lasts(random, kind),
        stubborn=kind is Kind.CLEAR and random.random() < 0.5,
        moment=_moment(random, kind, deferrable=deferrable),
    )


def _lasts(random: Random, kind: Kind) -> float:
    if kind in (Kind.MARK_FAILED, Kind.ERROR_WITH_ID):
        return 90.0  # long enough to show that nobody has cancelled it
    if kind is Kind.REQUEUE:
        return 20.0  # long enough to be running when it is requeued
    return random.uniform(1, 4) if kind in FORGETS else random.uniform(1, LONGEST)


def _moment(random: Random, kind: Kind, *, deferrable: bool) -> Moment:
    way = random.random()
    by_user = kind is Kind.CLEAR or (kind is Kind.MARK_FAILED and not deferrable)
    if by_user and way < 0.3:
        return Moment(1, 0, random.randint(1, 3), passed=random.random() < 0.5)
    if kind in KILLS and way < 0.45:
        # of a deferred task's requests the third is its trigger's, which has no process of its own
        request = random.randint(1, 2 if deferrable else 5)
        return Moment(1, 0, request, passed=random.random() < 0.5)
    if kind in KILLS and deferrable and way < 0.7:
        return Moment(2, random.uniform(0, 0.15))
    if deferrable and kind in KILLS:
        return Moment(1, random.uniform(0, 0.5))  # then it is deferred
    if way < 0.8:
        return Moment(1, random.uniform(0, 1.2))
    return Moment(1, random.uniform(1.2, 8))
