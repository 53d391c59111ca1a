"""Tests of airflow_provider_clusterra.watch.verdict."""

import pytest

from airflow_provider_clusterra.api.jobs import Job
from airflow_provider_clusterra.api.slurm import read_state
from airflow_provider_clusterra.watch.verdict import never_starts


def pending(reason):
    return Job(9, read_state("PENDING"), reason=reason)


@pytest.mark.parametrize(
    "reason",
    [
        "DependencyNeverSatisfied",
        "BadConstraints",
        "PartitionConfig",
        "PartitionTimeLimit",
        "InvalidQOS",
        "JobHeldUser",
        "JobHeldAdmin",
        "JobHoldMaxRequeue",
        "launch failed requeued held",
        "user_env_retrieval_failed_requeued_held",
        "AssocMaxCpuPerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMinGRES",
    ],
)
def test_reasons_that_need_a_persons_hand_are_told_in_words(reason):
    assert never_starts(pending(reason))


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "Resources",
        "Priority",
        "ReqNodeNotAvail, UnavailableNodes:cloud-tpl-gpu",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
        "BeginTime",
        "Dependency",
        "Licenses",
        "PartitionDown",
        "QOSMaxCpuPerUserLimit",
        "AssocGrpCpuLimit",
        "JobArrayTaskLimit",
    ],
)
def test_what_other_jobs_or_an_autoscaler_resolve_is_normal(reason):
    assert never_starts(pending(reason)) == ""


def test_only_a_pending_job_is_stuck():
    assert never_starts(Job(9, read_state("RUNNING"), reason="JobHeldUser")) == ""
