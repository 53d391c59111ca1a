"""Several users of one clusterra-server, on a real Slurm."""

import httpx
import pytest

from airflow_provider_clusterra.api import AuthenticationError, Client, NotFoundError
from clusterra_server.__main__ import main
from tests.slurm.lab import OTHER, USER
from tests.support.cluster import Cluster

pytestmark = pytest.mark.slurm


def token_of(user):
    return f"what-{user}-signs-in-with"


@pytest.fixture(scope="module")
def shared_front(lab, tmp_path_factory):
    """A server for two users."""
    users = tmp_path_factory.mktemp("users") / "users"
    lines = [f"{token_of(user)} {user} {lab.token_file(user)}" for user in (USER, OTHER)]
    users.write_text("\n".join(lines))
    with lab.front(users=users) as server:
        yield server


@pytest.fixture
def two(shared_front):
    """Both users' views of it."""

    def view(user):
        return Cluster(shared_front, token_of(user))

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


async def test_a_page_shows_ones_own_job_and_its_script(shared_front, two):
    ours = two(USER)
    job_id = ours.submit("echo hello; exit 3", name="paged", comment="d/t/r/1", time_limit=5)
    array_id = ours.submit("exit 0", name="paged", array="0-3")
    site = f"/manage/{shared_front.cluster_id}/jobs"

    def page(path, user=USER):
        headers = {"Authorization": f"Bearer {token_of(user)}"}
        return httpx.get(f"{shared_front.url}{site}{path}", headers=headers, timeout=30)

    await ours.until(lambda: "FAILED" in page(f"/{job_id}").text)
    shown = page(f"/{job_id}").text
    for words in ("paged", "It failed: the script ended with exit code 3.", "hello", ">d<", ">r<"):
        assert words in shown
    # slurmdbd is a few seconds late
    await ours.until(lambda: "echo hello; exit 3" in page(f"/{job_id}").text)
    await ours.until(lambda: "COMPLETED <b>4</b>" in page(f"/{array_id}").text)
    assert "It succeeded." in page(f"/{array_id}_2").text
    assert f'/{job_id}"' in page("?name=paged").text
    for path in (f"/{job_id}", f"/{job_id}/output", f"/{array_id}_2"):
        assert page(path, OTHER).status_code == 404
    assert "paged" not in page("", OTHER).text


def test_a_user_is_told_who_they_are(two):
    for user in (USER, OTHER):
        with Client(two(user).access) as client:
            assert client.get_user().email == f"{user}@local.clusterra"


def test_slurms_own_tokens_are_shown_to_nobody(lab, tmp_path):
    given = tmp_path / "token"
    given.write_text(lab.token_file().read_text())
    token = given.read_text().strip().partition("=")[2]
    with lab.front(token_file=given) as server:
        cluster = Cluster(server)
        job_id = cluster.submit("exit 0")
        with httpx.Client(
            base_url=server.url, headers=cluster.access.headers(), timeout=60
        ) as client:
            told = [server.banner, *_answers(client, job_id)]
            # Slurm takes it no more; the server says so
            given.write_text(f"{token[:-8]}AAAAAAAA")
            told += _answers(client, job_id)
            given.unlink()
            told += _answers(client, job_id)
    told.append(server.errors)

    assert not any(token[:-8] in each for each in told)


def _answers(client, job_id):
    """What every route says, to what is right and to what is not."""
    bodies = [{}, {"job": {}}, {"script": "#!/bin/sh\n", "job": {"environment": ["A=1"]}}]
    for route in client.get("/v1/api-routes").json()["routes"]:
        if route["path"].endswith("/stream"):
            continue
        for number in (job_id, 999_999, "none"):
            path = route["path"].format(cluster_id="clusloc1", job_id=number, template_id="x")
            for body in bodies if route["method"] == "POST" else [None]:
                answer = client.request(route["method"], path, json=body)
                yield f"{path} {answer.headers} {answer.text}"


def test_what_the_server_must_not_be_given_it_does_not_take(lab, monkeypatch, capsys):
    monkeypatch.setenv("CLUSTERRA_SERVER_TOKEN", "a-token-of-mine-0123")
    status = main(
        [
            *("--backend=slurm", "--host=0.0.0.0", "--port=0", f"--slurmrestd={lab.url}"),
            *(f"--token-file={lab.token_file('root')}", f"--output-dir={lab.shared}"),
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


async def ended(cluster, job_id):
    await cluster.until(lambda: cluster.job(job_id).state.base not in ("PENDING", "RUNNING"))


async def test_an_output_goes_to_the_users_own_folder(two, lab):
    for user in (USER, OTHER):
        cluster = two(user)
        job_id = cluster.submit("echo from $SLURM_JOB_ID")
        await ended(cluster, job_id)

        assert cluster.output(job_id) == f"from {job_id}\n"
        assert (lab.shared / user / f"job_{job_id}.out").is_file()


async def test_what_another_user_plants_is_not_given(two, lab):
    ours = two(USER)
    next_id = ours.submit("exit 0", hold=True)
    ours.cancel(next_id)
    job_id = ours.submit("sleep 2; echo true")
    for folder in (lab.shared, lab.shared / USER, lab.shared / OTHER):
        for name in (f"job_{job_id}.out", f"slurm-{job_id}.out"):
            plant = f"echo forged > {folder}/{name} || true; chmod a+rw {folder}/{name} || true"
            lab.run("sh", "-c", plant, user=OTHER)
    await ended(ours, job_id)

    assert "forged" not in ours.output(job_id)


async def test_the_file_that_a_jobs_record_names_is_read(two, lab):
    ours, theirs = two(USER), two(OTHER)
    lab.run("mkdir", "-p", f"{lab.shared}/{USER}-runs/deep", user=USER)
    path = f"{lab.shared}/{USER}-runs/deep/x-%j.txt"
    job_id = ours.submit("echo found", standard_output=path)
    await ended(ours, job_id)

    assert ours.output(job_id) == "found\n"
    with Client(theirs.access) as client, pytest.raises(NotFoundError):
        client.read_output(theirs.cluster_id, job_id)


async def test_a_link_that_a_job_puts_in_its_outputs_place_leads_nowhere(two, lab):
    ours = two(USER)
    path = f"{lab.shared}/linked-{USER}.txt"
    job_id = ours.submit(f"ln -sf /etc/passwd {path}", standard_output=path)
    await ended(ours, job_id)
    with Client(ours.access) as client, pytest.raises(Exception, match=r"symbolic link|not found"):
        client.read_output(ours.cluster_id, job_id)


def test_a_token_that_can_be_guessed_is_not_taken(lab, tmp_path, capsys):
    users = tmp_path / "users"
    users.write_text(f"mine {USER} {lab.token_file()}")
    status = main(
        [
            *("--backend=slurm", "--port=0", f"--slurmrestd={lab.url}"),
            *(f"--users={users}", f"--output-dir={lab.shared}"),
        ]
    )

    assert status == 2
    assert "can be guessed" in capsys.readouterr().err
