"""Tests of airflow_provider_clusterra.links.jobs."""

from airflow_provider_clusterra.hooks.clusterra import ClusterraHook
from airflow_provider_clusterra.links.jobs import ClusterraJobLink
from tests.support.airflow_side import TaskInstance


def test_a_task_without_a_job_has_no_link():
    assert ClusterraJobLink().get_link(None, ti_key=TaskInstance()) == ""


def test_a_tasks_link_leads_to_its_job(connected):
    ti = TaskInstance()
    link = ClusterraJobLink()
    ti.xcom_push(link.xcom_key, ClusterraHook().settings().job_url("clusloc1", 7))

    assert link.get_link(None, ti_key=ti) == f"{connected.url}/manage/clusloc1/jobs/7"
