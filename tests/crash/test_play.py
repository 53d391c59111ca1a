"""A round knows when a user's click has done its work."""

from tests.crash.play import is_cancelled

CANCEL = "DELETE /v1/clusters/c/jobs/7"
LOOK = "GET /v1/clusters/c/jobs/7"


def test_a_job_is_cancelled_once_its_cancel_was_answered_and_it_was_looked_at():
    assert is_cancelled([LOOK, CANCEL, LOOK])
    assert not is_cancelled([LOOK, CANCEL])
    assert not is_cancelled([LOOK, LOOK])
    assert not is_cancelled([])
