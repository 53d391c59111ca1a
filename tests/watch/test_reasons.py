"""Tests of airflow_provider_clusterra.watch.verdict."""

import pytest

from airflow_provider_clusterra.watch.verdict import reason_of


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
        "QOSMaxCpuPerNode",
        "AssocMaxMemPerNode",
        "AccountNotAllowed",
        "QOSNotAllowed",
    ],
)
def test_reasons_that_need_a_persons_hand_are_told_in_words(reason):
    assert reason_of(reason).stuck


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
        "AssocGrpNodeLimit",
        "QOSMaxNodePerUserLimit",
        "MaxNodePerAccount",
        "JobArrayTaskLimit",
    ],
)
def test_what_other_jobs_or_an_autoscaler_resolve_is_normal(reason):
    assert reason_of(reason).stuck == ""
