"""Tests of clusterra_server.pages: what a browser is shown, over a real socket, and what it cannot be made to do."""

import os
import re
import time
from html.parser import HTMLParser

import httpx
import pytest
from starlette.datastructures import Headers

from clusterra_server.sign_in import A_DAY, Session, is_of_another_site
from tests.support.servers import ClusterraServer
from tests.support.wire import Wire, headers_of, http

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
HOSTILE = f"{EVIL}\u202e\u2028"
PATHS = ["", "/{id}", "/{id}/output"]
USERS = {"alice": "alice-signs-in-with-0123", "bob": "bob-signs-in-with-456789"}


class Elements(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def site(local):
    """Where the pages are."""
    return f"{local.url}/manage/{local.cluster_id}/jobs"


@pytest.fixture
def browser(local):
    """A client that is signed in as a browser is."""
    with httpx.Client() as client:
        answer = client.post(f"{local.url}/manage/", data={"token": local.token})
        assert answer.status_code == 303
        yield client


@pytest.fixture
def submit(local):
    """Submits a job, and waits until it is over."""
    api = f"{local.url}/v1/clusters/{local.cluster_id}/jobs"
    headers = {"Authorization": f"Bearer {local.token}"}

    def sent(script, until="COMPLETED", **fields):
        job = {"environment": ["A=1"], "current_working_directory": "/mnt/efs", **fields}
        body = {"script": f"#!/bin/bash\n{script}\n", "job": job}
        job_id = httpx.post(f"{api}/submit", json=body, headers=headers).json()["job_id"]
        end = time.monotonic() + 30
        while time.monotonic() < end:
            jobs = httpx.get(f"{api}/{job_id}", headers=headers).json()["jobs"]
            if all(job["job_state"] == [until] for job in jobs):
                return job_id
            time.sleep(0.02)
        raise AssertionError(jobs)

    return sent


def assert_harmless(answer):
    """That an answer forbids the browser what a page could be misused for, and has nothing of its own."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")
    if answer.headers["content-type"].startswith("text/html"):
        for tag, attributes in Elements(answer.text).found:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert tag not in ("style", "iframe", "object", "embed", "base")
            assert attributes.get("src", "/manage/static/").startswith("/manage/static/")
            if tag == "script":
                assert "src" in attributes


@pytest.mark.parametrize("path", PATHS)
def test_who_is_not_signed_in_sees_a_form_and_nothing_of_a_job(site, submit, path):
    job_id = submit("echo secret", name="secret")
    for asked in (job_id, 99999):
        answer = httpx.get(site + path.format(id=asked))
        assert answer.status_code == 401
        assert 'name="token"' in answer.text
        assert "secret" not in answer.text
        assert "www-authenticate" not in answer.headers
        assert_harmless(answer)


def test_a_sign_in_gives_a_cookie_that_opens_the_pages_and_not_the_api(local, site, browser):
    cookie = httpx.post(site, data={"token": local.token}).headers["set-cookie"]

    assert browser.get(site).status_code == 200
    assert browser.get(f"{local.url}/v1/users/me").status_code == 401
    assert local.token not in cookie
    for word in ("HttpOnly", "SameSite=strict", "Path=/manage/", "Max-Age="):
        assert word.lower() in cookie.lower()
    assert "secure" not in cookie.lower()


def test_behind_tls_the_cookie_is_for_tls_only(local, site):
    headers = {"X-Forwarded-Proto": "https"}
    answer = httpx.post(site, data={"token": local.token}, headers=headers)

    assert "secure" in answer.headers["set-cookie"].lower()


def test_a_sign_in_leads_to_the_page_that_was_asked_for(local, site):
    answer = httpx.post(f"{site}/7?live=1", data={"token": local.token})

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/manage/{local.cluster_id}/jobs/7?live=1"


@pytest.mark.parametrize("token", ["", "wrong", "é", "\0", "x" * 10_000])
def test_a_wrong_token_is_refused_and_asked_for_again(site, token):
    answer = httpx.post(site, data={"token": token}, timeout=30)

    assert answer.status_code == 401
    assert "is not known" in answer.text
    assert "set-cookie" not in answer.headers
    assert_harmless(answer)


def test_a_form_that_is_too_long_is_refused(site):
    assert httpx.post(site, data={"token": "x" * 20_000}).status_code == 413


def test_guesses_of_the_form_are_refused_ever_later():
    with ClusterraServer() as server:
        begin = time.monotonic()
        for _ in range(7):
            httpx.post(f"{server.url}/manage/", data={"token": "guess"})

        assert time.monotonic() - begin > 0.6


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/manage/", "/manage/sign-out"])
def test_another_sites_form_signs_nobody_in_or_out(local, browser, headers, path):
    answer = browser.post(local.url + path, data={"token": local.token}, headers=headers)

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert_harmless(answer)


@pytest.mark.parametrize(
    ("headers", "other"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://h:1", "host": "h:1"}, False),
        ({"origin": "http://h:2", "host": "h:1"}, True),
        ({"origin": "null", "host": "null"}, True),
    ],
)
def test_a_browser_says_whose_form_it_is(headers, other):
    assert is_of_another_site(Headers(headers)) is other


def test_who_follows_a_link_of_another_site_comes_in_with_the_cookie(site, browser):
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    # a browser holds a strict cookie back
    answer = httpx.get(f"{site}/7?a=\"'>", headers=elsewhere)

    assert answer.status_code == 200
    (refresh,) = [a for tag, a in Elements(answer.text).found if a.get("http-equiv") == "refresh"]
    assert refresh["content"].startswith("0; url=/manage/")
    assert_harmless(answer)
    assert browser.get(site, headers=elsewhere).status_code == 200


def test_signing_out_takes_the_cookie_away(local, site, browser):
    answer = browser.post(f"{local.url}/manage/sign-out")

    assert answer.status_code == 303
    assert browser.get(site).status_code == 401


def test_a_page_cookie_is_for_one_session_and_a_while():
    session, now = Session("a-token-of-one-user"), 1000.0
    cookie = session.page_cookie(2000)

    assert session.accepts_page_cookie(cookie, now)
    assert not session.accepts_page_cookie(cookie, 2000)
    assert not Session("a-token-of-another").accepts_page_cookie(cookie, now)
    assert not session.accepts_page_cookie(session.page_cookie(1000 + 365 * A_DAY), now)
    for bad in ("", ".", cookie + "0", cookie.replace("2000", "2001"), "é", "9" * 5000, "-1.00"):
        assert not session.accepts_page_cookie(bad, now)


def test_a_job_is_shown_with_all_that_is_known(site, browser, submit):
    variables = [f"AIRFLOW_CTX_{name}" for name in ("DAG_ID=d1", "TASK_ID=t1", "DAG_RUN_ID=r1")]
    fields = {"cpus_per_task": 2, "memory_per_node": 512, "time_limit": 5}
    job_id = submit(
        "echo out; exit 3",
        until="FAILED",
        name="train.af-01234567-89abcdef-0123-2.3",
        environment=[*variables, "AIRFLOW_CTX_TRY_NUMBER=2"],
        **fields,
    )
    page = browser.get(f"{site}/{job_id}")

    assert page.status_code == 200
    assert_harmless(page)
    assert "<h1>train</h1>" in page.text
    for words in (
        f"Job {job_id}. It failed: the script ended with exit code 3.",
        *("d1", "t1", "r1", "512 MB", "5 min", "Waited in the queue", "Ran", "echo out; exit 3"),
    ):
        assert words in page.text
    assert re.search(r'<pre id="log" data-live>\nout\n</pre>', page.text)


@pytest.mark.parametrize("asked", [99999, "99999_1", "1_99999", "x", "1+1", "%2e%2e", "1%20"])
@pytest.mark.parametrize("path", ["/{id}", "/{id}/output"])
def test_a_job_that_is_nobodys_is_not_found(site, browser, asked, path):
    answer = browser.get(site + path.format(id=asked))

    assert answer.status_code == 404
    assert_harmless(answer)


@pytest.mark.parametrize("asked", ["1%00", "9" * 300, "x" * 5000])
def test_an_id_with_a_nul_or_of_any_length_is_refused_on_a_page(site, browser, asked):
    answer = browser.get(f"{site}/{asked}")

    assert answer.status_code == 400
    assert_harmless(answer)


def test_another_cluster_has_no_pages(local, browser):
    answer = browser.get(f"{local.url}/manage/other/jobs")

    assert answer.status_code == 404
    assert_harmless(answer)


def test_nothing_that_a_job_says_acts_on_a_page(site, browser, submit):
    job_id = submit(
        "printf '%s\\n' \"$TEXT\"; printf '\\033[31m\\0</pre><script>alert(3)</script>'",
        name=HOSTILE,
        comment=f"{EVIL}/{EVIL}/{EVIL}/1",
        environment=[f"TEXT={EVIL}", f"AIRFLOW_CTX_DAG_ID={EVIL}", f"AIRFLOW_CTX_TASK_ID={EVIL}"],
    )
    for path in ("", f"?name={EVIL}", f"/{job_id}", f"/{job_id}?state={EVIL}"):
        page = browser.get(site + path)
        assert page.status_code == 200
        assert_harmless(page)
        assert "\u202e" not in page.text
        assert "\x1b" not in page.text
        assert not [tag for tag, at in Elements(page.text).found if "x" in (at.get("src"), tag)]
        assert "49" not in page.text or "{{7*7}}" in page.text
    raw = browser.get(f"{site}/{job_id}/output")
    assert raw.headers["content-type"] == "text/plain; charset=utf-8"
    assert EVIL.encode() in raw.content
    assert_harmless(raw)


def test_of_a_large_output_its_end_is_shown_and_the_rest_is_a_link_away(site, browser, submit):
    job_id = submit("head -c 10000000 /dev/zero | tr '\\0' x; yes line | head -n 20000; echo end")
    begin = time.monotonic()
    page = browser.get(f"{site}/{job_id}")
    took = time.monotonic() - begin

    assert len(page.content) < 100_000
    assert "The last 64 KB of 9.6 MB." in page.text
    assert page.text.count("line\n") > 10_000
    assert "\nend\n</pre>" in page.text
    assert took < 5
    assert len(browser.get(f"{site}/{job_id}/output").content) == 10_100_004


def test_an_array_is_a_grid_of_its_tasks_by_state(site, browser, submit):
    api_id = submit("exit 0", array="0-4")
    page = browser.get(f"{site}/{api_id}")
    links = [a["href"] for tag, a in Elements(page.text).found if tag == "a" and "href" in a]

    assert page.status_code == 200
    assert_harmless(page)
    assert f"Array {api_id} of 5 tasks." in page.text
    for index in range(5):
        (link,) = [each for each in links if each.endswith(f"/{api_id}_{index}")]
        task = browser.get(httpx.URL(site).join(link))
        assert f"Job {api_id}_{index}. It succeeded." in task.text
    assert browser.get(f"{site}/{api_id}?state=FAILED").text.count('title="') == 0
    assert browser.get(f"{site}/{api_id}?state=COMPLETED").text.count('title="') == 5


def test_a_list_shows_jobs_by_state_name_and_time(site, browser, submit):
    good = submit("exit 0", name="list-good")
    bad = submit("exit 1", until="FAILED", name="list-bad")

    def listed(**query):
        page = browser.get(site, params=query)
        assert page.status_code == 200
        return {number for number in (good, bad) if f'/jobs/{number}"' in page.text}

    assert listed() == listed(name="LIST-") == {good, bad}
    assert listed(name="list-", state="failed") == {bad}
    assert listed(name="list-good", hours="0") == {good}
    assert listed(name="nothing like this") == set()
    assert listed(state="x", hours="y", **{"from": "z"}) == {good, bad}
    assert "None of your jobs" in browser.get(site, params={"name": "nothing"}).text


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS"])
def test_the_pages_only_show(site, browser, submit, method):
    job_id = submit("exit 0")

    assert browser.request(method, f"{site}/{job_id}").status_code == 405


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("page.css", 200, "text/css"),
        ("page.js", 200, "text/javascript"),
        ("icon.svg", 200, "image/svg+xml"),
        ("job.html", 404, "text/html"),
        ("..%2fapp.py", 404, ""),
        ("nothing.css", 404, "text/html"),
    ],
)
def test_what_pages_look_like_is_for_everybody(local, name, status, kind):
    answer = httpx.get(f"{local.url}/manage/static/{name}")

    assert answer.status_code == status
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


def number(value):
    return {"set": True, "infinite": False, "number": value}


def record(job_id, user, **fields):
    """As slurmctld has it."""
    facts = {"job_id": job_id, "user_name": user, "user_id": os.getuid(), "name": f"of-{user}"}
    times = {"submit_time": number(int(time.time()) - 50), "start_time": number(1)}
    return {**facts, **times, "nodes": "n1", "job_state": ["RUNNING"], **fields}


RECORDS = {7: record(7, "alice"), 8: record(8, "bob")}


def slurmrestd(request):
    """As one with a job of each user, and an older one of each in accounting."""
    line = request.partition(b"\r\n")[0].decode()
    if line.startswith("GET /openapi"):
        return http(200, {"paths": {"/slurm/v0.0.44/jobs/": {}}})
    if headers_of(request).get("x-slurm-user-name") == "root":
        return http(511, {})
    if "/slurmdb/" in line:
        past = [
            {
                "job_id": number,
                "user": user,
                "name": f"past-of-{user}",
                "script": f"echo {user}",
                "state": {"current": ["COMPLETED"]},
                "time": {"submission": int(time.time()) - 500},
            }
            for number, user in ((17, "alice"), (18, "bob"))
        ]
        step = re.search(r"step=(\d+)", line)
        return http(200, {"jobs": [j for j in past if not step or j["job_id"] == int(step[1])]})
    if found := re.search(r"/job/(\d+)", line):
        job = RECORDS.get(int(found[1]))
        return http(200, {"jobs": [job]}) if job else http(404, {"jobs": []})
    return http(200, {"jobs": list(RECORDS.values())})


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A server in front of a Slurm with two users, and a browser of each."""
    folder = tmp_path_factory.mktemp("outputs")
    users = tmp_path_factory.mktemp("users") / "users"
    (users.parent / "token").write_text("e30.e30.c2VjcmV0")
    users.write_text("".join(f"{token} {user} token\n" for user, token in USERS.items()))
    for job_id, user in ((7, "alice"), (8, "bob")):
        (folder / user).mkdir()
        (folder / user / f"job_{job_id}.out").write_text(f"printed by {user}")
    options = {"backend": "slurm", "users": users, "output_dir": folder}
    with Wire(slurmrestd) as wire, ClusterraServer(slurmrestd=wire.url, **options) as server:
        yield wire, server


@pytest.fixture
def page(team):
    """What a user sees."""
    _, server = team

    def shown(path, user="alice"):
        with httpx.Client() as client:
            client.post(f"{server.url}/manage/", data={"token": USERS[user]})
            answer = client.get(f"{server.url}/manage/clusloc1/jobs{path}")
        assert_harmless(answer)
        return answer

    return shown


@pytest.mark.parametrize(("job_id", "status"), [(7, 200), (8, 404), (9, 404), (17, 200), (18, 404)])
def test_a_page_is_shown_to_whose_job_it_is(page, job_id, status):
    answer = page(f"/{job_id}")

    assert answer.status_code == status
    assert "bob" not in answer.text
    if status == 200:
        assert "alice" in answer.text


@pytest.mark.parametrize(("job_id", "status"), [(7, 200), (8, 404), (9, 404), (18, 404)])
def test_a_whole_output_is_given_to_whose_job_it_is(page, job_id, status):
    answer = page(f"/{job_id}/output")

    assert answer.status_code == status
    assert ("printed by alice" in answer.text) is (status == 200)
    assert "bob" not in answer.text


@pytest.mark.parametrize("user", USERS)
def test_a_list_holds_ones_own_jobs_only(page, user):
    (other,) = set(USERS) - {user}
    text = page("", user).text

    assert f"of-{user}" in text
    assert f"past-of-{user}" in text
    assert f"of-{other}" not in text


def test_a_script_comes_from_accounting(page):
    assert "echo alice" in page("/17").text
    assert "AccountingStoreFlags=job_script" in page("/7").text


def test_while_slurm_is_down_a_page_says_so(team, page):
    wire, _ = team
    wire.says(None)
    try:
        for path in ("", "/7", "/7/output"):
            answer = page(path)
            assert answer.status_code in (502, 503)
            assert "slurmrestd" in answer.text
    finally:
        wire.says(slurmrestd)
