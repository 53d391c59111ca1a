"""Several users of one clusterra-local, on a real Slurm."""

import httpx
import pytest

from airflow_provider_clusterra.api import AuthenticationError, Client, NotFoundError
from airflow_provider_clusterra.local.__main__ import main
from tests.cluster import Cluster
from tests.slurm.lab import OTHER, USER

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def shared_front(lab, tmp_path_factory):
    """A server for two users."""
    users = tmp_path_factory.mktemp("users") / "users"
    lines = [f"{user}s-token {user} {lab.token_file(user)}" for user in (USER, OTHER)]
    users.write_text("\n".join(lines))
    with lab.front(users=users) as server:
        yield server


@pytest.fixture
def two(shared_front):
    """Both users' views of it."""

    def view(user):
        return Cluster(shared_front, f"{user}s-token")

    return view


async def test_each_user_has_their_own_jobs(two):
    ours = two(USER)
    job_id = ours.submit("id -un; sleep 60")
    await ours.until_running(job_id)
    await ours.until(lambda: USER in ours.output(job_id))
    theirs = two(OTHER)

    assert theirs.job(job_id).user == USER
    with pytest.raises(AuthenticationError):
        theirs.cancel(job_id)
    with Client(theirs.access) as client, pytest.raises(NotFoundError):
        client.read_output(theirs.cluster_id, job_id)
    assert ours.cancel(job_id)


def test_a_user_is_told_who_they_are(two):
    for user in (USER, OTHER):
        with Client(two(user).access) as client:
            assert client.get_user().email == f"{user}@local.clusterra"


def test_slurms_own_tokens_are_shown_to_nobody(lab, cluster, front):
    token = lab.token_file().read_text().strip().partition("=")[2]
    routes = httpx.get(f"{front.url}/v1/api-routes", headers=cluster.access.headers()).json()
    job_id = cluster.submit("exit 0")
    for route in routes["routes"]:
        if route["method"] == "GET" and not route["path"].endswith("/stream"):
            path = route["path"].format(cluster_id=front.cluster_id, job_id=job_id, template_id="x")
            answer = httpx.get(front.url + path, headers=cluster.access.headers(), timeout=30)

            assert token not in answer.text, path
            assert answer.status_code in (200, 404), path
    assert token not in front.banner


def test_what_the_server_must_not_be_given_it_does_not_take(lab, monkeypatch, capsys):
    monkeypatch.setenv("CLUSTERRA_LOCAL_TOKEN", "mine")
    status = main(
        [
            *("--backend=slurm", "--host=0.0.0.0", "--port=0", f"--slurmrestd={lab.url}"),
            f"--token-file={lab.token_file('root')}",
        ]
    )

    assert status == 2
    assert "the Slurm token of root may do anything" in capsys.readouterr().err


def test_a_token_is_taken_from_its_file_each_time(lab, tmp_path):
    token = tmp_path / "token"
    token.write_text(lab.token_file().read_text())
    with lab.front(token_file=token) as server:
        made = Cluster(server)

        assert made.job(made.submit("exit 0")).user == USER
        token.write_text(lab.token_file(OTHER).read_text())
        # it was started for the one, and goes on for no other
        answer = httpx.get(
            f"{server.url}/v1/clusters/{server.cluster_id}/jobs", headers=made.access.headers()
        )
        assert answer.status_code == 511
        token.write_text(lab.token_file().read_text())
        assert made.job(made.submit("exit 0")).user == USER


def test_the_version_may_be_an_older_one(lab):
    with lab.front(api_version="v0.0.42") as server:
        made = Cluster(server)

        assert made.job(made.submit("exit 0", hold=True)).state.base == "PENDING"
