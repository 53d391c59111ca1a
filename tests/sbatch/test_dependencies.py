"""Tests of airflow_provider_clusterra.sbatch.options."""

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.options import job_id_of, read_dependency, settle_dependency


@pytest.mark.parametrize(
    ("text", "ends", "left"),
    [
        ("afterok:1", {"1": True}, ""),
        ("afterok:1:2", {"1": True}, "afterok:2"),
        ("afterok:1,afterany:2", {"2": False}, "afterok:1"),
        ("afterany:1,singleton", {"1": False}, "singleton"),
        ("afternotok:1", {"1": False}, ""),
        ("after:1+10,aftercorr:3_4", {"1+10": False, "3_4": True}, ""),
        ("afterok:1?afterok:2", {"1": True}, ""),
        ("afterok:1?afterok:2", {"1": False}, "afterok:2"),
        ("afterok:1", {}, "afterok:1"),
        ("AFTEROK:1_*", {}, "afterok:1_*"),
    ],
)
def test_what_has_ended_as_it_should_is_no_longer_waited_for(text, ends, left):
    assert settle_dependency(text, ends) == left


@pytest.mark.parametrize(
    ("text", "ends", "words"),
    [
        ("afterok:1:2", {"1": False}, "afterok:1:2 can never hold: job 1 failed"),
        ("afternotok:1", {"1": True}, "job 1 succeeded"),
        ("afterok:1?afterok:2", {"1": False, "2": False}, "job 1 failed, job 2 failed"),
    ],
)
def test_what_can_never_hold_is_told(text, ends, words):
    with pytest.raises(InputError, match=words):
        settle_dependency(text, ends)


@pytest.mark.parametrize("text", ["", "12", "afterok", "afterok:x", "ok:12", "afterok:1;afterok:2"])
def test_what_is_no_dependency_is_refused(text):
    with pytest.raises(ValueError, match=r"it takes e\.g\. afterok:12:13"):
        read_dependency(text)


@pytest.mark.parametrize("written", ["12", "12_3", "12_*", "12+5"])
def test_a_job_is_known_by_its_number(written):
    assert job_id_of(written) == 12
