"""Tests of clusterra_server.ledger: what is left when the file is damaged."""

from contextlib import closing

import pytest

from clusterra_server.jobs import Job
from clusterra_server.ledger import Ledger
from clusterra_server.requests import read_request

BODY = {"script": "#!/bin/sh", "job": {"environment": ["A=1"], "current_working_directory": "/"}}
DAMAGES = {
    "no JSON": "update jobs set job = 'x' where submit = 2",
    "cut off": "update jobs set job = substr(job, 1, 30) where submit = 2",
    "another type": """update jobs set job = replace(job, '"job_id":2', '"job_id":"2"') where submit = 2""",
    "a value less": """update jobs set job = replace(job, '"state"', '"s"') where submit = 2""",
    "a list": "update jobs set job = '[]' where submit = 2",
    "bytes": "update jobs set job = x'ff00' where submit = 2",
    "no request": "delete from requests where submit = 2",
    "a damaged request": "update requests set request = '{}' where submit = 2",
    "a request of another type": "update requests set request = '[1]' where submit = 2",
}


@pytest.fixture
def path(tmp_path):
    """A ledger of three jobs."""
    path = tmp_path / "jobs.sqlite"
    with closing(Ledger(path)) as ledger:
        for number in (1, 2, 3):
            ledger.add([Job(number, read_request(BODY, 1), 1.5)])
    return path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_row_costs_that_row(path, damage, caplog):
    with closing(Ledger(path)) as ledger:
        ledger._database.execute(damage)
        found = ledger.read()

        assert [job.job_id for jobs in found for job in jobs] == [1, 3]
        assert ledger.last_id() == 3
    assert "2 is damaged" in caplog.text


def test_the_last_id_is_not_given_again_if_its_job_is_damaged(path):
    with closing(Ledger(path)) as ledger:
        ledger._database.execute("update jobs set job = 'x' where submit = 3")

        assert ledger.last_id() == 3


def test_a_submit_is_remembered_whole_or_not_at_all(path):
    with closing(Ledger(path)) as ledger:
        job = Job(4, read_request(BODY, 1), 1.5)
        with pytest.raises(TypeError):
            ledger.add([job, Job(4, job.request, object())])
        ledger.add([job])

        assert len(ledger.read()) == 4
