"""Tests of clusterra_server.files: a job's files, by pattern and at signed addresses."""

import asyncio
import os
import time
from pathlib import Path

import httpx
import pytest

from clusterra_server.backend import JobFolder, OutputError, OutputPlace
from clusterra_server.files import (
    MOST_FILES,
    Place,
    Signer,
    find_files,
    folder_of,
    read_range,
)
from clusterra_server.outputs import open_output
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, headers_of, http

TOKENS = {"alice": "alice-signs-in-with-0123", "bob": "bob-signs-in-with-456789"}
CLUSTER = "/v1/clusters/clusloc1"
NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def shared(tmp_path):
    """The folder that jobs share, with one job's folder in it, and what is not that job's."""
    for name in ("run/a.txt", "run/out/model.pt", "run/out/deep/er/x.log", "run/.hidden", "other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "run/link").symlink_to(tmp_path / "other")
    (tmp_path / "run/way").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "run/pipe")
    return tmp_path


def names(folder, pattern):
    return [row["path"] for row in find_files(folder, pattern).files]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.txt", "out/deep/er/x.log", "out/model.pt"]),
        ("*", ["a.txt"]),
        ("a.txt", ["a.txt"]),
        ("out/*.pt", ["out/model.pt"]),
        ("**/*.log", ["out/deep/er/x.log"]),
        ("**/model.pt", ["out/model.pt"]),
        ("*/deep/**", ["out/deep/er/x.log"]),
        ("/mnt/efs/run/out/*", ["out/model.pt"]),
        ("**/**/**/x.log", ["out/deep/er/x.log"]),
        (".hidden", [".hidden"]),
        ("[ab].txt", ["a.txt"]),
        ("out", []),
        ("missing/*", []),
        ("link", []),
        ("way/other", []),
        ("pipe", []),
    ],
)
def test_a_pattern_finds_the_plain_files_of_a_jobs_folder(shared, pattern, found):
    assert names(JobFolder(shared, "run"), pattern) == found


def test_a_name_that_makes_two_lines_of_a_line_is_not_listed(shared):
    for name in ("b\nb", "c\u2028c", "d\x1bd", os.fsdecode(b"e\xff"), "\U0001f469\u200d\U0001f52c"):
        (shared / "run" / name).touch()

    assert names(JobFolder(shared, "run"), "*") == ["a.txt", "\U0001f469\u200d\U0001f52c"]


def test_a_file_is_listed_with_its_size_and_time(shared):
    (row,) = find_files(JobFolder(shared, "run"), "a.txt").files

    assert row == {
        "path": "a.txt",
        "size": len("run/a.txt"),
        "modified": int((shared / "run/a.txt").stat().st_mtime),
        "changed": int((shared / "run/a.txt").stat().st_ctime),
    }


@pytest.mark.parametrize(
    "path",
    ["../other", "out/../../other", "/mnt/efs/other", "/etc/passwd", "", ".", "a\nb", "x" * 2000],
)
def test_a_path_out_of_the_jobs_folder_is_refused(shared, path):
    with pytest.raises(OutputError) as caught:
        Place.of(JobFolder(shared, "run"), path)

    assert caught.value.status == 400


@pytest.mark.parametrize("path", ["link", "way/other", "missing", "out", "pipe", "a.txt/x"])
def test_what_is_no_file_of_the_jobs_is_not_given_and_nothing_else_is_said_of_it(shared, path):
    with pytest.raises(OutputError) as caught:
        Place.of(JobFolder(shared, "run"), path).open(shared)

    words = "is no plain file of the job's user; symbolic links are not followed"
    assert (caught.value.status, str(caught.value)) == (404, f"{shared}/run/{path} {words}")


@AS_ROOT
def test_another_users_file_in_the_jobs_folder_is_not_given_and_not_listed(shared):
    os.chown(shared / "run/a.txt", NOBODY, NOBODY)
    folder = JobFolder(shared, "run", owner=0)

    assert names(folder, "*") == []
    with pytest.raises(
        OutputError, match=r"run/a\.txt is no plain file of the job's user"
    ) as caught:
        Place.of(folder, "a.txt").open(shared)
    assert caught.value.status == 404


@AS_ROOT
@pytest.mark.parametrize("path", ["private", "private/project", "private/key", "private/missing"])
def test_who_asks_learns_no_names_in_folders_that_are_closed_to_him(shared, path):
    (shared / "private/project").mkdir(parents=True)
    (shared / "private/key").touch()
    (shared / "private").chmod(0o700)
    folder = JobFolder(shared, path, owner=NOBODY)

    with pytest.raises(OutputError) as caught:
        find_files(folder, "*")
    words = f"The job's folder {folder} is not there, or not open to the job's user"
    assert (caught.value.status, str(caught.value)) == (404, words)
    if path != "private":
        assert asyncio.run(open_output(OutputPlace(shared, [path], NOBODY))) is None


@AS_ROOT
def test_what_is_the_users_own_is_listed_wherever_it_is(shared):
    (shared / "private").mkdir(mode=0o700)
    (shared / "private/mine").touch()
    os.chown(shared / "private/mine", NOBODY, NOBODY)

    assert names(JobFolder(shared, "private", owner=NOBODY), "*") == ["mine"]


@AS_ROOT
@pytest.mark.parametrize(("mode", "group"), [(0o711, 0), (0o750, NOBODY)])
def test_a_folder_that_is_open_to_the_user_and_empty_has_no_files(shared, mode, group):
    (shared / "open").mkdir()
    (shared / "open").chmod(mode)
    os.chown(shared / "open", 0, group)

    assert names(JobFolder(shared, "open", owner=NOBODY), "*") == []


def test_a_folder_that_has_become_a_link_is_not_listed(shared):
    with pytest.raises(OutputError, match="The job's folder"):
        find_files(JobFolder(shared, "run/way"), "*")


@pytest.mark.parametrize("path", ["/srv", "/", "/mnt/efs-other", "{shared}/../x"])
def test_a_job_that_works_elsewhere_has_no_folder_here(shared, path):
    with pytest.raises(OutputError, match="not in the folder that the jobs share"):
        folder_of(shared, path.format(shared=shared))


@pytest.mark.parametrize(("count", "truncated"), [(9, False), (10, False), (11, True)])
def test_a_list_ends_somewhere_and_says_so_if_there_is_more(shared, monkeypatch, count, truncated):
    (shared / "run/parts").mkdir()
    for number in range(count):
        (shared / f"run/parts/{number:02}.dat").touch()
    monkeypatch.setattr("clusterra_server.files.MOST_FILES", 10)
    found = find_files(JobFolder(shared, "run"), "parts/*")

    assert (len(found.files), found.truncated) == (min(count, 10), truncated)
    assert MOST_FILES > 10


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("", None),
        ("bytes=0-", (0, 10)),
        ("bytes=3-", (3, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=1-2,4-5", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("bytes=5-3", None),
        ("bytes=99-3", None),
    ],
)
def test_a_range_is_a_part_of_the_file(header, part):
    assert read_range(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10)])
def test_a_range_beyond_the_end_is_none(header, size):
    with pytest.raises(OutputError) as caught:
        read_range(header, size)

    assert caught.value.status == 416


def test_an_address_is_for_one_file_an_hour_and_one_server(monkeypatch):
    signer, place = Signer(b"k" * 32), Place("run/a b&c", 1000)
    query = dict(httpx.URL(signer.sign(place)).params)

    assert signer.read(dict(query)) == place
    assert Signer(b"o" * 32).read(dict(query)) is None
    for name, other in {
        "name": "run/x",
        "owner": "",
        "expires": "9999999999",
        "signature": "",
    }.items():
        assert signer.read({**query, name: other}) is None
    assert signer.read({}) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert signer.read(dict(query)) is None


def slurmrestd(request):
    """As one whose job 7 is Alice's, and 8 Bob's."""
    line = request.partition(b"\r\n")[0].decode()
    if line.startswith("GET /openapi"):
        return http(200, {"paths": {"/slurm/v0.0.44/jobs/": {}}})
    users = {"/job/7": "alice", "/job/8": "bob"}
    user = next((user for part, user in users.items() if part in line), None)
    if user is None:
        return http(
            511 if headers_of(request)["x-slurm-user-name"] == "root" else 404, {"jobs": []}
        )
    number = 7 if user == "alice" else 8
    place = {"current_working_directory": f"/mnt/efs/{user}".replace("/mnt/efs", FOLDER["path"])}
    place["stdout_expanded"] = f"{place['current_working_directory']}/x.txt"
    record = {"job_id": number, "user_name": user, "user_id": os.getuid(), **place}
    return http(200, {"jobs": [record]})


FOLDER = {"path": ""}


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Asks a server in front of a Slurm with two users."""
    made, users = tmp_path_factory.mktemp("outputs"), tmp_path_factory.mktemp("users") / "users"
    FOLDER["path"] = str(made)
    for user in TOKENS:
        (made / user).mkdir()
        (made / user / "x.txt").write_text(f"of {user}")
    (made / "alice/to_bob").symlink_to(made / "bob/x.txt")
    (users.parent / "token").write_text("e30.e30.c2VjcmV0")
    users.write_text("\n".join(f"{token} {user} token" for user, token in TOKENS.items()))
    options = {"backend": "slurm", "users": users, "output_dir": made}
    with Wire(slurmrestd) as wire, ClusterraServer(slurmrestd=wire.url, **options) as server:

        def asking(method, path, user="alice", **how):
            signed_in = {"Authorization": f"Bearer {TOKENS[user]}"} if user else {}
            return httpx.request(
                method, server.url + path, headers={**signed_in, **how.pop("headers", {})}, **how
            )

        asking.url = server.url
        yield asking


def test_the_files_of_a_job_are_listed_for_whose_job_it_is(ask):
    answer = ask("GET", f"{CLUSTER}/jobs/7/files?pattern=*.txt")

    assert answer.json()["folder"] == f"{FOLDER['path']}/alice"
    assert [row["path"] for row in answer.json()["files"]] == ["x.txt"]
    assert answer.json()["truncated"] is False


@pytest.mark.parametrize("job_id", ["8", "9"])
def test_the_files_of_anothers_job_are_not_there(ask, job_id):
    assert ask("GET", f"{CLUSTER}/jobs/{job_id}/files").status_code == 404
    url = f"{CLUSTER}/jobs/{job_id}/files/download-url"
    assert ask("POST", url, json={"path": "x.txt"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("x.txt", 200),
        ("../bob/x.txt", 400),
        ("/mnt/efs/bob/x.txt", 400),
        ("to_bob", 404),
        ("y", 404),
    ],
)
def test_an_address_is_given_for_a_file_of_the_job(ask, path, status):
    answer = ask("POST", f"{CLUSTER}/jobs/7/files/download-url", json={"path": path})

    assert answer.status_code == status
    assert ("download_url" in answer.json()) is (status == 200)


@pytest.fixture
def address(ask):
    """Where Alice's file is."""
    answer = ask("POST", f"{CLUSTER}/jobs/7/files/download-url", json={"path": "x.txt"})
    return answer.json()["download_url"]


def test_an_address_needs_no_session_and_gives_the_file_or_a_part(ask, address):
    whole = ask("GET", address, user=None)
    part = ask("GET", address, user=None, headers={"Range": "bytes=3-"})

    assert (whole.status_code, whole.text) == (200, "of alice")
    assert (part.status_code, part.text) == (206, "alice")
    assert part.headers["content-range"] == "bytes 3-7/8"
    assert part.headers["etag"] == whole.headers["etag"]
    assert whole.headers["content-disposition"] == "attachment"


def test_a_head_is_answered_without_a_look_into_the_file(ask, address):
    with (Path(FOLDER["path"]) / "alice/x.txt").open("r+b") as file:
        file.truncate(50 * 2**30)
    size = ask("POST", f"{CLUSTER}/jobs/7/files/download-url", json={"path": "x.txt"}).json()
    with httpx.Client(base_url=ask.url, timeout=30) as client:
        heads = [client.head(address, headers={"Range": "bytes=9-3"}) for _ in range(3)]
    (Path(FOLDER["path"]) / "alice/x.txt").write_text("of alice")

    assert size["size"] == 50 * 2**30
    assert [head.status_code for head in heads] == [200] * 3
    assert {head.headers["content-length"] for head in heads} == {str(50 * 2**30)}


def test_a_head_of_a_stream_ends(ask):
    with httpx.Client(base_url=ask.url, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {TOKENS['alice']}"
        for _ in range(3):
            head = client.head(f"{CLUSTER}/jobs/7/output/stream")
            assert head.headers["content-type"].startswith("text/event-stream")
        assert client.get("/v1/users/me").status_code == 200


def test_a_part_beyond_the_end_is_refused_with_the_files_size(ask, address):
    answer = ask("GET", address, user=None, headers={"Range": "bytes=99-"})

    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */8")


def test_a_part_of_what_has_changed_is_the_whole(ask, address):
    headers = {"Range": "bytes=3-", "If-Range": '"another"'}

    assert ask("GET", address, user=None, headers=headers).text == "of alice"


def test_an_address_that_was_changed_is_refused(ask, address):
    for other in (address.replace("alice", "bob"), address[:-1], "/v1/files"):
        assert ask("GET", other, user=None).status_code == 403


def test_the_api_says_that_it_offers_a_jobs_files(ask):
    routes = {(row["method"], row["path"]) for row in ask("GET", "/v1/api-routes").json()["routes"]}
    job = "/v1/clusters/{cluster_id}/jobs/{job_id}"

    assert {("GET", f"{job}/files"), ("POST", f"{job}/files/download-url")} <= routes
