"""Tests of airflow_provider_clusterra.submit.protocol: every row of its rules."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from airflow_provider_clusterra.api.calls import User
from airflow_provider_clusterra.api.errors import (
    AuthenticationError,
    InputError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RequestError,
    ServerError,
    TransportError,
)
from airflow_provider_clusterra.api.jobs import Job, one_job, read_state
from airflow_provider_clusterra.submit.protocol import (
    Action,
    Failure,
    Record,
    SubmitOutcome,
    Tag,
    TaggedJob,
    decide,
    decide_gone,
    find_jobs,
    find_named,
    find_new,
    is_replaced,
    keep_own,
    outcome_of,
    pause_before_resend,
    tagged_name,
    whole_id,
)
from airflow_provider_clusterra.watch.verdict import is_same_job

OURS = Tag("0123abcd", "89ef4567", "00ff", max_tries=2, try_number=2)
BEFORE = replace(OURS, try_number=1)
CLEARED = replace(OURS, max_tries=0, try_number=1)
CHANGED = replace(OURS, body="1111", try_number=1)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def job(*state, tag=BEFORE, job_id=7, **fields):
    return Job(job_id, read_state(list(state)), name=tagged_name("train", tag), **fields)


def found(*state, tag=BEFORE, **fields):
    return TaggedJob(job(*state, tag=tag, **fields), tag)


def record(tag=BEFORE, job_id=7, **fields):
    return Record(str(tag), tag.max_tries, tagged_name("train", tag), job_id, **fields)


FIRST = replace(OURS, try_number=1)
NAMELESS = replace(record(CHANGED, job_id=None), name="")
ROWS = {
    "an intent without a name is asked about, also with another body": (
        OURS,
        NAMELESS,
        [],
        Action.ASK,
    ),
    "a first try of which nothing is known submits": (FIRST, None, [], Action.SUBMIT),
    "a retry adopts a job that runs": (OURS, record(), [found("RUNNING")], Action.ADOPT),
    "a retry adopts a job that is pending": (OURS, record(), [found("PENDING")], Action.ADOPT),
    "a retry adopts a job that Slurm has put back": (
        OURS,
        record(),
        [found("NODE_FAIL", "REQUEUED")],
        Action.ADOPT,
    ),
    "a retry adopts a job that has succeeded": (OURS, record(), [found("COMPLETED")], Action.ADOPT),
    "a retry follows a job that failed with a new one": (
        OURS,
        record(),
        [found("FAILED")],
        Action.SUBMIT,
    ),
    "but not while anything of it still runs": (
        OURS,
        record(),
        [found("CANCELLED", "COMPLETING")],
        Action.CANCEL,
    ),
    "an array whose failed tasks Slurm has forgotten has not succeeded": (
        OURS,
        record(failure=Failure("FAILED", states=("FAILED",))),
        [found("COMPLETED")],
        Action.SUBMIT,
    ),
    "a job that ended well after all is adopted": (
        OURS,
        record(failure=Failure("CANCELLED")),
        [found("COMPLETED")],
        Action.ADOPT,
    ),
    "behind a failed job, the last submit is asked for": (
        replace(OURS, try_number=3),
        record(tag=OURS, job_id=None),
        [found("FAILED")],
        Action.ASK,
    ),
    "a retry finds a job by its tag alone": (OURS, None, [found("RUNNING")], Action.ADOPT),
    "a retry finds the job of an intent": (
        OURS,
        record(job_id=None),
        [found("RUNNING")],
        Action.ADOPT,
    ),
    "a clear cancels a job that runs": (
        OURS,
        record(CLEARED),
        [found("RUNNING", tag=CLEARED)],
        Action.CANCEL,
    ),
    "a clear is known from the tag alone": (
        OURS,
        None,
        [found("PENDING", tag=CLEARED)],
        Action.CANCEL,
    ),
    "a clear does not return an old success": (
        OURS,
        record(CLEARED),
        [found("COMPLETED", tag=CLEARED)],
        Action.SUBMIT,
    ),
    "a clear of a job that is gone asks nobody": (OURS, record(CLEARED), [], Action.SUBMIT),
    "a changed script cancels the old job": (
        OURS,
        record(CHANGED),
        [found("RUNNING", tag=CHANGED)],
        Action.CANCEL,
    ),
    "a changed script does not return an old success": (
        OURS,
        record(CHANGED),
        [found("COMPLETED", tag=CHANGED)],
        Action.SUBMIT,
    ),
    "a changed script asks nobody about an old job that is gone": (
        OURS,
        record(CHANGED),
        [],
        Action.SUBMIT,
    ),
    "the job of a killed try is unwanted": (
        OURS,
        record(unwanted=True),
        [found("RUNNING")],
        Action.CANCEL,
    ),
    "so is that of a killed try which had only an intent": (
        OURS,
        record(job_id=None, unwanted=True),
        [found("RUNNING")],
        Action.CANCEL,
    ),
    "a killed try's job that is gone is gone": (OURS, record(unwanted=True), [], Action.SUBMIT),
    "a killed try's job that its cancel did not reach is cancelled": (
        OURS,
        record(killed=True),
        [found("RUNNING")],
        Action.CANCEL,
    ),
    "or has succeeded in spite of it": (
        OURS,
        record(killed=True),
        [found("COMPLETED")],
        Action.ADOPT,
    ),
    "or ended badly": (OURS, record(killed=True), [found("FAILED")], Action.SUBMIT),
    "or is gone, and asked for": (OURS, record(killed=True), [], Action.ASK),
    "what Slurm did not take as it was asked is no success, killed or not": (
        OURS,
        record(killed=True, unwanted=True),
        [found("COMPLETED")],
        Action.SUBMIT,
    ),
    "a failure that is remembered needs no accounting": (
        OURS,
        record(failure=Failure("FAILED")),
        [],
        Action.SUBMIT,
    ),
    "a job that is gone is asked for": (OURS, record(), [], Action.ASK),
    "an intent without a job is asked for": (OURS, record(job_id=None), [], Action.ASK),
    "a retry that remembers nothing asks for its earlier names": (OURS, None, [], Action.ASK),
}


@pytest.mark.parametrize(("ours", "remembered", "shown", "action"), ROWS.values(), ids=ROWS)
def test_a_try_begins_as_the_rules_say(ours, remembered, shown, action):
    assert decide(ours, remembered, shown).action is action


def test_of_two_jobs_that_run_the_newest_is_kept():
    newer = replace(OURS, max_tries=2, try_number=3)
    jobs = [found("RUNNING"), found("RUNNING", tag=newer, job_id=8)]
    decision = decide(replace(OURS, try_number=4), record(), jobs)

    assert decision.action is Action.CANCEL
    assert [each.job.job_id for each in decision.found] == [7]
    jobs[0] = found("CANCELLED")
    decision = decide(replace(OURS, try_number=4), record(), jobs)
    assert (decision.action, decision.found[0].job.job_id) == (Action.ADOPT, 8)


def test_the_words_of_a_cancel_say_why():
    assert (
        decide(OURS, None, [found("RUNNING", tag=CLEARED)]).reason == "because the task was cleared"
    )
    assert "has changed" in decide(OURS, None, [found("RUNNING", tag=CHANGED)]).reason
    assert "killed" in decide(OURS, record(unwanted=True), [found("RUNNING")]).reason


DONE = record(done=True)
GONE = {
    "a success that Slurm has forgotten is adopted": (record(), [job("COMPLETED")], Action.ADOPT),
    "a failure that Slurm has forgotten is followed": (record(), [job("FAILED")], Action.SUBMIT),
    "running in accounting is no end": (record(), [job("RUNNING")], Action.FAIL),
    "a job that accounting does not know cannot be told": (record(), [], Action.FAIL),
    "nor can one without accounting": (record(), None, Action.FAIL),
    "what its task was finished with is known without accounting": (DONE, None, Action.ADOPT),
    "nor need accounting know its end": (DONE, [job("RUNNING")], Action.ADOPT),
    "but an end in accounting counts": (DONE, [job("FAILED")], Action.SUBMIT),
    "a later submit under the id of a nameless job is another one": (
        replace(record(sent_at=NOON.timestamp()), name=""),
        [job("COMPLETED", submitted_at=NOON.replace(hour=13))],
        Action.FAIL,
    ),
    "unless a requeue made it": (
        replace(record(sent_at=NOON.timestamp()), name=""),
        [job("COMPLETED", submitted_at=NOON.replace(hour=13), restarts=1)],
        Action.ADOPT,
    ),
    "an intent that accounting does not know was never submitted": (
        record(job_id=None),
        [],
        Action.SUBMIT,
    ),
    "an intent without accounting cannot be told": (record(job_id=None), None, Action.FAIL),
    "an intent's success is found by its name": (
        record(job_id=None),
        [job("COMPLETED")],
        Action.ADOPT,
    ),
    "without a memory, what accounting does not know was never submitted": (
        None,
        [],
        Action.SUBMIT,
    ),
    "without a memory and accounting, what is not shown does not count": (
        None,
        None,
        Action.SUBMIT,
    ),
    "without a memory, a job that runs in accounting is no end either": (
        None,
        [job("RUNNING")],
        Action.FAIL,
    ),
    "nor is one that is pending there": (None, [job("PENDING")], Action.FAIL),
    "without a memory, a success is found by its name": (None, [job("COMPLETED")], Action.ADOPT),
    "of a requeued job the last record tells": (
        record(),
        [
            job("COMPLETED", submitted_at=NOON),
            job("NODE_FAIL", submitted_at=NOON.replace(hour=11)),
        ],
        Action.ADOPT,
    ),
    "an array counts as a whole": (
        record(),
        [
            job("COMPLETED", job_id=7, array_job_id=7, array_task_id=1),
            job("FAILED", job_id=8, array_job_id=7, array_task_id=0),
        ],
        Action.SUBMIT,
    ),
}

RESCHEDULED = replace(record(job_id=None), sent_at=NOON.timestamp(), known=(7,))
"""An intent of a try that Airflow had rescheduled, so that its first job has the same tag."""
EARLIER = job("FAILED", job_id=7, submitted_at=NOON.replace(hour=11))
LATER = job("COMPLETED", job_id=8, submitted_at=NOON)


@pytest.mark.parametrize(
    ("told", "action"),
    [
        ([EARLIER, LATER], Action.ADOPT),
        ([LATER, EARLIER], Action.ADOPT),
        ([EARLIER], Action.SUBMIT),
        ([replace(EARLIER, state=LATER.state)], Action.SUBMIT),
    ],
)
@pytest.mark.parametrize("known", [(), (7,)])
def test_only_a_job_that_was_not_there_before_a_submit_is_of_it(told, action, known):
    assert decide_gone(replace(RESCHEDULED, known=known), told, "fail").action is action


def test_a_job_that_was_there_before_leaves_a_submit_unsettled():
    shown = [found("FAILED", job_id=7)]

    assert decide(OURS, RESCHEDULED, shown).action is Action.ASK
    assert decide(OURS, replace(RESCHEDULED, job_id=8), shown).action is Action.ASK
    assert decide(OURS, RESCHEDULED, [*shown, found("FAILED", job_id=8)]).action is Action.SUBMIT


@pytest.mark.parametrize(("remembered", "told", "action"), GONE.values(), ids=GONE)
def test_an_earlier_submit_that_is_not_shown_is_judged_as_the_rules_say(remembered, told, action):
    assert decide_gone(remembered, told, "fail").action is action


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "had already taken its result"),
        ([], "had already taken its result"),
        ([job("COMPLETED")], "succeeded"),
    ],
)
def test_a_job_that_nothing_shows_any_more_is_not_said_to_have_succeeded(told, words):
    """Its task may not have waited for its end."""
    assert words in decide_gone(DONE, told, "fail").reason


def strangers_het_job(*offsets):
    """Another job that came to id 7 a month later, with a component of id 8."""
    state, since = read_state(["COMPLETED"]), NOON + timedelta(days=30)
    fields = {"name": "other", "submitted_at": since, "het_job_id": 7}
    return [Job(7 + each, state, het_job_offset=each, **fields) for each in offsets]


@pytest.mark.parametrize("offsets", [(0, 1), (0,), (1,)], ids=repr)
@pytest.mark.parametrize("name", ["", tagged_name("train", BEFORE)])
def test_a_strangers_het_job_that_came_to_an_id_is_not_the_job_of_a_record(name, offsets):
    remembered = replace(record(), name=name, sent_at=NOON.timestamp())

    assert decide_gone(remembered, strangers_het_job(*offsets), "fail").action is Action.FAIL
    shown = one_job(strangers_het_job(*offsets), 7)
    assert not is_same_job(shown, name, remembered.sent_job)


def test_a_het_job_whose_leader_is_not_shown_is_still_the_job_of_its_record():
    (part,) = strangers_het_job(1)
    remembered = record(sent_at=NOON.timestamp())
    shown = one_job([replace(part, submitted_at=NOON)], 7)

    assert is_same_job(shown, remembered.name, remembered.sent_job)


@pytest.mark.parametrize(
    ("remembered", "told"),
    [(record(), None), (record(), []), (record(), [job("RUNNING")]), (None, [job("RUNNING")])],
)
def test_a_user_may_have_the_job_run_again_where_nothing_can_tell(remembered, told):
    decision = decide_gone(remembered, told, "submit")

    assert decision.action is Action.SUBMIT
    assert "it runs again" in decision.reason


def test_what_cannot_be_told_is_said_with_what_to_look_for():
    assert "job_7.out" in decide_gone(record(), None, "fail").reason
    assert record().name in decide_gone(record(job_id=None), None, "fail").reason
    nameless = replace(record(job_id=None), name="")
    assert "carries no name of ours" in decide_gone(nameless, None, "fail").reason
    for remembered in (None, record(job_id=None)):
        words = decide_gone(remembered, [job("RUNNING")], "fail").reason
        assert "submitted job 7; Slurm no longer shows it" in words
        assert "accounting still says that it is RUNNING" in words


def test_only_jobs_of_this_task_of_this_run_are_found():
    others = [replace(OURS, run="ffffffff"), replace(OURS, task="ffffffff")]
    listed = [job("RUNNING", tag=tag, job_id=20 + at) for at, tag in enumerate(others)]
    listed += [Job(30, read_state(["RUNNING"]), name="somebody else's"), job("RUNNING")]

    assert [(each.job.job_id, each.tag) for each in find_jobs(listed, OURS)] == [(7, BEFORE)]


def test_an_arrays_records_are_one_job():
    listed = [
        job("COMPLETED", job_id=8, array_job_id=7, array_task_id=0),
        job("RUNNING", job_id=7, array_job_id=7, array_task_id=1),
    ]
    (whole,) = find_jobs(listed, OURS)

    assert whole.job.job_id == 7
    assert [whole_id(each) for each in find_named(listed, listed[0].name)] == [7, 7]
    assert find_named(listed, "another") == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TransportError("refused", may_have_arrived=False), SubmitOutcome.NOT_ARRIVED),
        (TransportError("reset"), SubmitOutcome.LOST),
        (ProtocolError("half an answer"), SubmitOutcome.LOST),
        (RateLimitedError("slow down", status=429), SubmitOutcome.NOT_ARRIVED),
        (ServerError("unavailable", status=503, in_own_words=True), SubmitOutcome.NOT_ARRIVED),
        (ServerError("a gateway's 503", status=503), SubmitOutcome.LOST),
        (ServerError("a gateway's 511", status=511), SubmitOutcome.LOST),
        (ServerError("no slurmctld", status=502, number=1800), SubmitOutcome.NOT_ARRIVED),
        (ServerError("a key was changed", status=511, number=1007), SubmitOutcome.NOT_ARRIVED),
        (ServerError("slurmctld's answer was lost", status=502, number=1802), SubmitOutcome.LOST),
        (ServerError("the same, rewritten", status=503, number=1802), SubmitOutcome.LOST),
        (ServerError("a socket's timeout", status=503, number=5004), SubmitOutcome.LOST),
        (
            ServerError("unspecified", status=511, number=-1, in_own_words=True),
            SubmitOutcome.LOST,
        ),
        (ServerError("bad gateway", status=502), SubmitOutcome.LOST),
        (ServerError("gateway timeout", status=504), SubmitOutcome.LOST),
        (ServerError("oops", status=500), SubmitOutcome.LOST),
        (RequestError("took too long", status=408), SubmitOutcome.LOST),
        (RequestError("too early", status=425), SubmitOutcome.LOST),
        (RequestError("bad partition", status=500, number=2000), SubmitOutcome.REFUSED),
        (RequestError("a policy", status=422, number=2050), SubmitOutcome.QUEUE_FULL),
        (RequestError("AssocMaxSubmitJobLimit", status=422, number=2050), SubmitOutcome.QUEUE_FULL),
        (
            RequestError("QOSMaxWallDurationPerJobLimit", status=422, number=2050),
            SubmitOutcome.REFUSED,
        ),
        (ServerError("try again", status=500, number=11), SubmitOutcome.QUEUE_FULL),
        (
            ServerError("MaxJobCount limit reached", status=500, number=2007),
            SubmitOutcome.QUEUE_FULL,
        ),
        (ServerError("Rate limit exceeded", status=500, number=1805), SubmitOutcome.NOT_ARRIVED),
        (RequestError("bad request", status=400), SubmitOutcome.REFUSED),
        (AuthenticationError("who", status=401), SubmitOutcome.REFUSED),
        (InputError("no shebang"), SubmitOutcome.REFUSED),
    ],
    ids=str,
)
def test_a_submits_error_says_what_became_of_it(error, outcome):
    assert outcome_of(error) is outcome


def test_a_job_without_our_name_may_be_any_that_is_new():
    old = Job(1, read_state(["RUNNING"]), submitted_at=NOON.replace(hour=11))
    new = Job(2, read_state(["RUNNING"]), submitted_at=NOON)

    assert find_new([old, new], NOON.timestamp()) == [new]


ADA, BOB = job("RUNNING", user="ada"), job("RUNNING", user="bob", job_id=8)
NAMELESS = job("RUNNING", job_id=9)


@pytest.mark.parametrize(
    ("user", "shown", "own"),
    [
        (User("ada@example.org"), [ADA, BOB, NAMELESS], [ADA, NAMELESS]),
        (User("a.b@example.org", slurm_user="ada"), [BOB], []),
        (User("a.b@example.org", slurm_user="ada"), [ADA, BOB], [ADA]),
        (User("a.b@example.org"), [ADA, BOB], [ADA, BOB]),
    ],
    ids=["by address", "by Slurm's name", "by Slurm's name, both", "nothing to go by"],
)
def test_jobs_of_other_slurm_users_are_not_ours(user, shown, own):
    assert keep_own(shown, shown, lambda: user) == own


def test_a_job_whose_id_is_remembered_says_who_we_are():
    assert keep_own([ADA, BOB], [ADA, BOB], lambda: User("x"), record(job_id=8)) == [BOB]


def test_nobody_is_asked_who_we_are_if_no_user_is_shown():
    assert keep_own([NAMELESS], [ADA, NAMELESS], lambda: pytest.fail("asked")) == [NAMELESS]


def test_an_api_that_does_not_say_who_we_are_tells_nobody_apart():
    def get_user():
        raise NotFoundError("no such route", status=404)

    assert keep_own([ADA, BOB], [ADA, BOB], get_user) == [ADA, BOB]


def test_a_job_that_was_there_before_the_submit_is_not_of_it():
    assert find_named([ADA, BOB], ADA.name, known={7}) == [BOB]


def test_a_list_may_be_older_than_a_submit_that_was_answered_with_503():
    answer = ServerError("unavailable", status=503, in_own_words=True)

    assert pause_before_resend(answer, 1) >= 5
    assert pause_before_resend(RateLimitedError("slow", status=429, retry_after=7.0), 1) == 7
    assert pause_before_resend(TransportError("refused", may_have_arrived=False), 1) <= 1


KEPT = record(CLEARED)


@pytest.mark.parametrize(
    ("remembered", "shown", "action"),
    [
        (KEPT, found("RUNNING", tag=CLEARED), Action.ADOPT),
        (KEPT, found("PENDING", tag=CLEARED), Action.ADOPT),
        (KEPT, found("COMPLETED", tag=CLEARED), Action.SUBMIT),
        (KEPT, found("FAILED", tag=CLEARED), Action.SUBMIT),
        (KEPT, found("RUNNING", tag=replace(CLEARED, body="1111")), Action.CANCEL),
        (replace(KEPT, unwanted=True), found("RUNNING", tag=CLEARED), Action.CANCEL),
        (None, found("RUNNING", tag=CLEARED), Action.CANCEL),
        (replace(KEPT, max_tries=2), found("COMPLETED", tag=CLEARED), Action.ADOPT),
    ],
)
def test_a_clear_that_keeps_the_tasks_state_reconnects_to_a_living_job(remembered, shown, action):
    assert decide(OURS, remembered, [shown], clears_forget=True).action is action


@pytest.mark.parametrize(
    ("state", "after", "adopted", "replaced"),
    [
        ("CANCELLED", 60, True, True),
        ("CANCELLED", 180, True, False),
        ("CANCELLED", 60, False, False),
        ("FAILED", 60, True, False),
    ],
)
def test_an_adopted_job_that_is_cancelled_soon_is_replaced(state, after, adopted, replaced):
    ended = job(state, ended_at=datetime.fromtimestamp(NOON.timestamp() + after, UTC))

    assert is_replaced(ended, NOON.timestamp() if adopted else None) is replaced
