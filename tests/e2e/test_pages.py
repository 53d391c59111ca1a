"""The pages of clusterra-server in a headless Chromium: at three widths, dark and light, without script."""

import time

import httpx
import pytest

from tests.e2e.browser import Browser, missing_parts
from tests.support.servers import ClusterraServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        bool(missing_parts()),
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]
WIDTHS = (360, 900, 1400)
RETURN = "\ue007"
TASK = {
    "AIRFLOW_CTX_DAG_ID": "nightly_forecast",
    "AIRFLOW_CTX_TASK_ID": "simulate",
    "AIRFLOW_CTX_DAG_RUN_ID": "scheduled__2026-11-26T02:00:00+00:00",
    "AIRFLOW_CTX_TRY_NUMBER": "1",
}
TAG = ".af-0123abcd-4567cdef-89ab-2.1"
TRAIN = """\
echo "reading 1200 files"
for epoch in $(seq 1 24); do
  printf 'epoch %2d  loss %d.%03d\\n' $epoch $((3 - epoch / 9)) $((997 - 37 * epoch))
done
python3 -c 'block = bytearray(700 << 20)
for _ in range(60_000_000): pass'
echo "written to model.pt"
"""
CONTRAST = """
const channel = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const parse = text => text.match(/[\\d.]+/g).map(Number);
const behind = e => { for (; e; e = e.parentElement) {
  const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
  return [255, 255, 255]; };
const low = [];
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  if (!e.getClientRects().length || e.closest(".hidden, .skip, svg, option")) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
  if ((a + .05) / (b + .05) < 4.5) low.push(e.tagName + " " + e.className + ": " + e.textContent.trim());
}
return low;
"""
UNNAMED = """
return [...document.querySelectorAll("a, button, input, select, [role=img], [role=region]")].filter(e =>
  !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length)).map(e => e.outerHTML);
"""


class Site:
    """A server with jobs in each state, and a browser that looks at its pages."""

    def __init__(self, server, browser):
        self.server, self.browser = server, browser
        self.url = f"{server.url}/manage/{server.cluster_id}/jobs"
        self.api = httpx.Client(
            base_url=f"{server.url}/v1/clusters/{server.cluster_id}/jobs",
            headers={"Authorization": f"Bearer {server.token}"},
        )

    def submit(self, script, *until, **fields):
        variables = [f"{name}={value}" for name, value in TASK.items()]
        job = {
            "environment": ["PATH=/usr/local/bin:/usr/bin:/bin", *variables],
            "current_working_directory": "/mnt/efs",
            **fields,
        }
        body = {"script": f"#!/bin/bash\n{script}\n", "job": job}
        job_id = self.api.post("/submit", json=body).json()["job_id"]
        end = time.monotonic() + 60
        while until and time.monotonic() < end:
            jobs = self.api.get(f"/{job_id}").json()["jobs"]
            if {state for job in jobs for state in job["job_state"]} <= set(until):
                return job_id
            time.sleep(0.05)
        assert not until, jobs
        return job_id

    def open(self, path=""):
        self.browser.open(self.url + path)
        if self.browser.run("return !!document.querySelector('#token')"):
            self.browser.type("//input[@name='token']", self.server.token + RETURN)
        self.browser.find("//a[contains(., 'Jobs')]")

    def sign_out(self):
        self.browser.command("Network.clearBrowserCookies")

    def show(self, width, *, dark=False, height=900, script=True):
        self.browser.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.command("Emulation.setEmulatedMedia", features=[scheme])
        self.browser.command("Emulation.setScriptExecutionDisabled", value=not script)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of a server with jobs in many states."""
    folder = tmp_path_factory.mktemp("pages")
    with ClusterraServer(dir=folder, cpus=4) as server, Browser() as browser:
        site = Site(server, browser)
        # it is first in the queue
        site.submit("sleep 3", "RUNNING", name=f"warm-up{TAG}", cpus_per_task=4)
        site.good = site.submit(
            TRAIN,
            "COMPLETED",
            name=f"train-model{TAG}",
            cpus_per_task=2,
            memory_per_node=2048,
            time_limit=10,
        )
        site.array = site.submit(
            "[ $((SLURM_ARRAY_TASK_ID % 13)) -ne 5 ]",
            *("COMPLETED", "FAILED"),
            name=f"ensemble{TAG}",
            array="0-119",
        )
        site.bad = site.submit(
            "echo no such file: input.csv; exit 2", "FAILED", name=f"prepare{TAG}"
        )
        site.long = site.submit("sleep 600", "RUNNING", name=f"simulate{TAG}", time_limit=60)
        site.waits = site.submit("exit", name=f"render{TAG}", dependency=f"afterok:{site.long}")
        yield site
        site.api.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_is_named_and_can_be_read(site, width, dark):
    site.show(width, dark=dark)
    pages = [f"/{job}" for job in (site.good, site.array, site.bad, site.long, site.waits)]
    for path in ["", "?name=nothing", *pages, f"/{site.array}_5", "/99999"]:
        site.open(path)
        too_wide = (
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert site.browser.run(too_wide) == 0, path
        assert site.browser.run(UNNAMED) == [], path
        assert site.browser.run(CONTRAST) == [], path


def test_the_sign_in_fits_and_can_be_read(site):
    for width in WIDTHS:
        site.show(width, dark=width == 360)
        site.sign_out()
        site.browser.open(site.url)
        site.browser.find("//label[@for='token']")
        assert site.browser.run(UNNAMED) == []
        assert site.browser.run(CONTRAST) == []
        site.browser.type("//input[@name='token']", f"wrong{RETURN}")
        site.browser.wait_for("This token is not known")
        assert site.browser.run(CONTRAST) == []


def test_pictures_are_taken_for_the_docs(site, pictures):
    for name, path, height in (
        ("job", f"/{site.good}", 1000),
        ("array", f"/{site.array}", 600),
        ("jobs", "", 600),
    ):
        site.show(1200, height=height)
        site.open(path)
        site.browser.shoot(pictures / f"{name}.png")
        assert 10_000 < (pictures / f"{name}.png").stat().st_size < 200_000


def test_a_pages_output_grows_and_its_state_changes_while_it_is_open(site, tmp_path):
    go = tmp_path / "go"
    job_id = site.submit(
        f"echo first; until [ -e {go} ]; do sleep 0.1; done; echo second", "RUNNING"
    )
    site.show(900)
    site.open(f"/{job_id}")
    site.browser.wait_for("first")
    site.browser.run("window.same = true")
    go.touch()

    assert "second" in site.browser.wait_for("COMPLETED")
    assert "It succeeded" in site.browser.text()
    assert site.browser.run("return window.same")


def test_without_script_a_page_shows_as_much_and_loads_itself_again(site, tmp_path):
    go = tmp_path / "go"
    job_id = site.submit(
        f"echo first; until [ -e {go} ]; do sleep 0.1; done; echo second", "RUNNING"
    )
    site.show(900)
    site.open(f"/{job_id}")
    site.show(900, script=False)
    try:
        site.browser.open(f"{site.url}/{job_id}")
        # the driver's own reading needs no page's script
        site.browser.find("//pre[contains(., 'first')]")
        site.browser.find("//a[.='Refresh']")
        go.touch()
        site.browser.find("//pre[contains(., 'second')]")
        site.browser.click("//summary")
        site.browser.find("//details[@open]//pre[contains(., 'echo first')]")
        site.browser.open(site.url)
        site.browser.type("//input[@name='name']", f"train{RETURN}")
        site.browser.find("//td[contains(., 'train-model')]")
    finally:
        site.show(900)


def test_a_page_is_used_with_the_keyboard(site):
    site.show(900)
    site.open(f"/{site.good}")
    seen = []
    for _ in range(12):
        site.browser.press("\ue004")
        seen.append(
            site.browser.run(
                "const e = document.activeElement; return [e.textContent.trim().slice(0, 30), "
                "getComputedStyle(e).outlineStyle]"
            )
        )
    names = [name for name, _ in seen]

    assert names[0] == "Skip to the content"
    assert {"Jobs", "Sign out", "All of it as text", "Script"} <= set(names)
    assert {outline for name, outline in seen if name in ("Jobs", "Script")} == {"solid"}
    site.browser.run("document.querySelector('summary').focus()")
    site.browser.press("\ue006")
    site.browser.find("//details[@open]")


def test_signing_out_ends_it(site):
    site.open(f"/{site.good}")
    site.browser.wait_for("train-model")
    site.browser.click("//button[.='Sign out']")
    site.browser.find("//input[@name='token']")
    site.browser.open(f"{site.url}/{site.good}")
    site.browser.find("//input[@name='token']")
