"""A round knows when a user's click has done its work, and how long to wait for its tasks."""

from tests.crash.play import ENDS_WITHIN, is_cancelled, is_young
from tests.crash.victim import Leg

CANCEL = "DELETE /v1/clusters/c/jobs/7"
LOOK = "GET /v1/clusters/c/jobs/7"


def test_a_job_is_cancelled_once_its_cancel_was_answered_and_it_was_looked_at():
    assert is_cancelled([LOOK, CANCEL, LOOK])
    assert not is_cancelled([LOOK, CANCEL])
    assert not is_cancelled([LOOK, LOOK])
    assert not is_cancelled([])


def test_a_round_has_time_as_long_as_its_latest_try_has():
    early, late = Leg(7, 1, began=100.0), Leg(8, 1, began=350.0)
    assert is_young([early, late], now=100.0 + ENDS_WITHIN)
    assert not is_young([early], now=100.0 + ENDS_WITHIN)
    assert not is_young([], now=0.0)
