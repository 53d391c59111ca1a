"""Two users of one clusterra-server: what is whose, on each route that gives something away."""

import json
import os
import re

import httpx
import pytest

from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, headers_of, http

TOKENS = {"alice": "alice-signs-in-with-0123", "bob": "bob-signs-in-with-456789"}
JOBS = {7: "alice", 8: "bob"}
CLUSTER = "/v1/clusters/clusloc1"


def slurmrestd(request):
    """As one with a job of each user."""
    line = request.partition(b"\r\n")[0].decode()
    found = re.search(r"/job/(\d+)|step=(\d+)", line)
    if line.startswith("GET /openapi"):
        return http(200, {"paths": {"/slurm/v0.0.44/jobs/": {}}})
    if not found:
        return http(511 if headers_of(request)["x-slurm-user-name"] == "root" else 200, {})
    number = int(found[1] or found[2])
    if number not in JOBS:
        return http(404, {"jobs": []})
    record = {"job_id": number, "user_name": JOBS[number], "user_id": os.getuid(), "name": "run"}
    return http(200, {"jobs": [record]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the outputs of both are."""
    made = tmp_path_factory.mktemp("outputs")
    for number, user in JOBS.items():
        (made / user).mkdir()
        (made / user / f"job_{number}.out").write_text(f"of {user}")
    return made


@pytest.fixture(scope="module")
def ask(folder, tmp_path_factory):
    """Asks as Alice."""
    users = tmp_path_factory.mktemp("users") / "users"
    (users.parent / "token").write_text("e30.e30.c2VjcmV0")
    lines = [f"{TOKENS['alice']} alice token admin", f"{TOKENS['bob']} bob token"]
    users.write_text("\n".join(lines))
    options = {"backend": "slurm", "users": users, "output_dir": folder}
    with Wire(slurmrestd) as wire, ClusterraServer(slurmrestd=wire.url, **options) as server:

        def asking(method, path, body=None, user="alice"):
            headers = {"Authorization": f"Bearer {TOKENS[user]}"}
            with httpx.stream(
                method, server.url + path, json=body, headers=headers, timeout=30
            ) as answer:
                return answer.status_code, next(answer.iter_text(), "")

        yield asking


@pytest.mark.parametrize(("job_id", "given"), [(7, True), (8, False), (9, False)])
@pytest.mark.parametrize("route", ["output", "output/stream"])
def test_an_output_is_given_to_whose_job_it_is(ask, route, job_id, given):
    status, text = ask("GET", f"{CLUSTER}/jobs/{job_id}/{route}")

    assert (status, "of alice" in text) == ((200, True) if given else (404, False))
    assert "of bob" not in text


@pytest.mark.parametrize(("job_id", "status"), [(7, 200), (8, 404), (9, 404)])
def test_a_page_is_shown_to_whose_job_it_is(ask, job_id, status):
    assert ask("GET", f"/manage/clusloc1/jobs/{job_id}")[0] == status


FILES = {
    "data/alice/x": 200,
    "scripts/alice/x": 200,
    "outputs/alice/deep/x": 200,
    "data/bob/x": 403,
    "scripts/bob/x": 403,
    "outputs/bob/x": 403,
    "data/nobody/x": 403,
    "data/alice2/x": 403,
    "data/Alice/x": 403,
    "shared/x": 200,
    "shared/bob/x": 200,
    "data/alice/../bob/x": 400,
    "shared/../data/bob/x": 400,
    "data/x": 400,
    "data//x": 400,
    "shared/": 400,
    "shared": 400,
    "elsewhere/alice/x": 400,
    "/data/alice/x": 400,
    "data/alice/x\0": 400,
    f"data/alice/{'x' * 256}": 400,
}


@pytest.mark.parametrize(("key", "status"), FILES.items())
def test_a_file_is_given_to_whose_it_is(ask, key, status):
    answered, text = ask("POST", f"{CLUSTER}/storage/download-url", {"key": key})

    assert answered == status
    assert ("download_url" in json.loads(text)) is (status == 200)


@pytest.mark.parametrize(("user", "status"), [("alice", 200), ("bob", 403)])
def test_what_everybody_reads_an_administrator_writes(ask, user, status):
    body = {"filename": "a/x", "location": "shared"}
    answered, text = ask("POST", f"{CLUSTER}/storage/presigned-url", body, user)

    assert answered == status
    assert json.loads(text).get("key", "shared/a/x") == "shared/a/x"


@pytest.mark.parametrize("location", ["data", "scripts", "outputs"])
@pytest.mark.parametrize("user", TOKENS)
def test_a_file_goes_to_whose_it_is(ask, user, location):
    body = {"filename": "a/x", "location": location}
    _, text = ask("POST", f"{CLUSTER}/storage/presigned-url", body, user)

    assert json.loads(text)["key"] == f"{location}/{user}/a/x"


def test_each_is_told_who_they_are(ask):
    for user in TOKENS:
        assert json.loads(ask("GET", "/v1/users/me", user=user)[1])["id"] == user
