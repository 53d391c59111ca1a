"""What a person sees in Airflow's own UI, in a headless Chromium."""

import re
from urllib.parse import urlsplit

import pytest

from airflow_provider_clusterra import CONNECTION_FORM
from tests.e2e.browser import Browser, missing_parts
from tests.e2e.rest import FINISHED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        bool(missing_parts()),
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]
RETURN = "\ue006"
ENTER = "\ue007"


@pytest.fixture
def browser():
    """A browser of its own for each test."""
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def run_id(rest):
    """A run with a deferred, a failed and a mapped task, and a sensor."""
    run_id = rest.run_dag("linked")
    for task_id in ("fails", "looks"):
        rest.wait_for_task("linked", run_id, task_id, "failed")
    rest.wait_for_task("linked", run_id, "runs", "deferred", *FINISHED)
    rest.wait_for_tasks("linked", run_id, "many", "success")
    yield run_id
    rest.set_run_state("linked", run_id, "failed")


def open_form(browser, url):
    browser.open(f"{url}/connections")
    browser.wait_for("clusterra_default")
    browser.click("//button[contains(., 'Add Connection')]")
    browser.type("//input[@role='combobox']", f"Clusterra{RETURN}")
    browser.wait_for("Extra Fields")


def unfold(browser):
    """Show our own fields as well, and return what is read before and after."""
    standard = browser.wait_for("API address")
    if "Clusterra Fields" not in standard:
        # before Airflow 3.4, they are folded up
        browser.click("//button[contains(., 'Extra Fields') and not(contains(., 'JSON'))]")
    return standard, browser.wait_for("The cluster's time zone")


def test_the_form_shows_our_fields_and_what_they_mean(airflow, browser):
    open_form(browser, airflow.url)
    standard, extra = unfold(browser)

    assert "Session" in standard
    assert "Login" not in standard
    for field in CONNECTION_FORM["conn-fields"].values():
        assert field["label"] in extra
        assert field["description"] in extra


def test_a_connection_that_was_typed_in_can_be_tested(airflow, clusterra, browser):
    place = urlsplit(clusterra.url)
    open_form(browser, airflow.url)
    for name, value in {
        "connection_id": "typed",
        "host": f"http://{place.hostname}",
        "port": str(place.port),
        "password": clusterra.token,
    }.items():
        browser.type(f"//input[@name='{name}']", value)
    browser.click("//button[contains(., 'Save')]")
    browser.click("//tr[contains(., 'typed')]//button[@aria-label='Test Connection']")
    answer = browser.wait_for("Signed in as")

    assert "Signed in as you@local.clusterra. Clusters: clusloc1. The session ends 20" in answer
    assert clusterra.token not in answer


def test_pictures_of_the_form_are_taken_for_the_docs(airflow, browser, pictures):
    open_form(browser, airflow.url)
    browser.type("//input[@name='connection_id']", "clusterra_default")
    browser.shoot(pictures / "connection.png")
    unfold(browser)
    browser.shoot(pictures / "connection-extra.png")

    for name in ("connection", "connection-extra"):
        assert 10_000 < (pictures / f"{name}.png").stat().st_size < 200_000


def test_pictures_of_a_log_show_the_output_and_the_receipt(airflow, browser, rest, pictures):
    run_id = rest.run_dag("hello")
    rest.wait_for_task("hello", run_id, "hello", "success")
    browser.open(f"{airflow.url}/dags/hello/runs/{run_id}/tasks/hello")
    log = browser.wait_for(" CPU for ")
    size = {"width": 1400, "height": 620, "deviceScaleFactor": 1, "mobile": False}
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    browser.shoot(pictures / "log.png")

    assert "Submitted as job" in log
    assert "hello from " in log
    assert re.search(r"Job \d+ (used|had) ", log)
    assert (pictures / "log.png").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("task", "map_index"), [("runs", -1), ("fails", -1), ("looks", -1), ("many", 0), ("many", 1)]
)
def test_a_task_links_to_its_job(airflow, clusterra, browser, rest, run_id, task, map_index):
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    where = "fails" if task == "looks" else task
    job_id = rest.xcom("linked", run_id, where, "job_id", map_index)
    browser.open(f"{airflow.url}/dags/linked/runs/{run_id}/tasks/{task}{mapped}/details")
    browser.follow("//a[contains(., 'Clusterra job')]")
    browser.type("//input[@name='token']", f"{clusterra.token}{ENTER}")
    page = browser.wait_for(f"Job {job_id}")

    assert browser.url == f"{clusterra.url}/manage/{clusterra.cluster_id}/jobs/{job_id}"
    assert {"runs": "RUNNING", "fails": "FAILED", "looks": "FAILED"}.get(task, "COMPLETED") in page
