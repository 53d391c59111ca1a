"""The faults are what their names say: seen from a client, and from the server behind."""

from random import Random

import httpx
import pytest

from tests.crash.gate import Gate
from tests.crash.rounds import Kind
from tests.crash.weather import Weather, interrupts, kills

BODY = {
    "script": "#!/bin/sh\ntrue\n",
    "job": {"name": "weather", "environment": ["A=1"], "current_working_directory": "/mnt/efs"},
}


class Through:
    """A client whose requests go through the gate, under one session of two."""

    def __init__(self, gate, local):
        self.proxy = gate.open("ours", local.url, local.token)
        gate.open("other", local.url, local.token)
        self._jobs = f"{gate.url}/v1/clusters/{local.cluster_id}/jobs"

    def submit(self, session="ours"):
        cookie = {"Cookie": f"clusterra_session={session}"}
        return httpx.post(f"{self._jobs}/submit", json=BODY, headers=cookie)

    def ids(self):
        answer = httpx.get(self._jobs, headers={"Cookie": "clusterra_session=other"})
        return {job["job_id"] for job in answer.json()["jobs"]}


@pytest.fixture
def gate():
    with Gate() as gate:
        yield gate


@pytest.fixture
def through(gate, local):
    return Through(gate, local)


def weather(kind):
    return Weather(kind, Random(1))


@pytest.mark.parametrize(
    ("kind", "jobs"), [(Kind.CUT_BEFORE, 0), (Kind.CUT_AFTER, 1), (Kind.CUT_WITHIN, 1)]
)
def test_a_cut_submit_has_no_answer_and_a_job_or_none(through, kind, jobs):
    before = through.ids()
    through.proxy.fault = weather(kind)
    with pytest.raises(httpx.RemoteProtocolError):
        through.submit()

    assert len(through.ids() - before) == jobs
    assert through.submit().status_code == 200


def test_an_error_with_an_id_is_of_a_job_that_is_there(through):
    through.proxy.fault = weather(Kind.ERROR_WITH_ID)
    answer = through.submit()

    assert answer.status_code == 500
    assert answer.json()["errors"]
    assert answer.json()["job_id"] in through.ids()


def test_the_weather_of_one_session_is_not_that_of_another(through):
    through.proxy.fault = weather(Kind.CUT_BEFORE)

    assert through.submit(session="other").status_code == 200


@pytest.mark.parametrize("passed", [False, True])
def test_a_process_that_is_killed_during_its_request_hears_nothing_and_has_submitted(
    through, passed
):
    seen = []
    before = through.ids()
    strike = kills(lambda: seen.append(len(through.proxy.requests)), passed=passed)
    through.proxy.fault = lambda request: strike
    with pytest.raises(httpx.RemoteProtocolError):
        through.submit()

    assert seen == [1]
    assert len(through.ids() - before) == 1


@pytest.mark.parametrize(("passed", "jobs"), [(False, 0), (True, 1)])
def test_a_user_may_come_before_a_request_is_read_or_after(through, monkeypatch, passed, jobs):
    monkeypatch.setattr("tests.crash.weather.HELD_UP", 1.0)
    before = through.ids()
    seen = []
    strike = interrupts(lambda: seen.append(len(through.ids() - before)), passed=passed)
    through.proxy.fault = lambda request: strike

    assert through.submit().status_code == 200
    assert seen == [jobs]


def test_a_restart_refuses_and_then_serves_again_at_the_same_address(gate, through):
    url = gate.url
    gate.restart(0.0)

    assert gate.url == url
    assert through.submit().status_code == 200
