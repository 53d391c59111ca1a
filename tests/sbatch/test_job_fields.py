"""Tests of airflow_provider_clusterra.sbatch.job."""

import re

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import check_fields, job_fields


def test_the_table_has_the_fields_of_the_api():
    assert len(job_fields()) > 100
    assert job_fields()["time_limit"] == "no_val"
    assert job_fields()["shared"] == ["none", "oversubscribe", "user", "mcs", "topo"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"comment": "x"}, {"comment": "x"}),
        ({"priority": 5}, {"priority": {"set": True, "infinite": False, "number": 5}}),
        (
            {"priority": {"set": True, "number": 5}},
            {"priority": {"set": True, "number": 5}},
        ),
        ({"shared": "user"}, {"shared": ["user"]}),
        ({"flags": ("SPREAD_JOB",)}, {"flags": ["SPREAD_JOB"]}),
        ({"excluded_nodes": ["n1"]}, {"excluded_nodes": ["n1"]}),
        ({"requeue": False}, {"requeue": False}),
        ({"nodes": "1k-2k"}, {"nodes": "1024-2048"}),
        ({"array": "[0-3]%2"}, {"array": "0-3%2"}),
        ({"dependency": ""}, {"dependency": ""}),
        ({"tres_per_node": "gres/gpu:a100:2"}, {"tres_per_node": "gres/gpu:a100:2"}),
        ({"tres_per_node": "gres/gpu"}, {"tres_per_node": "gres/gpu"}),
        ({"tres_per_node": "gres:gpu:a100:2"}, {"tres_per_node": "gres:gpu:a100:2"}),
        ({"tres_per_job": "gres/gpu:1k,gres/nvme=2"}, {"tres_per_job": "gres/gpu:1k,gres/nvme=2"}),
        ({"tres_per_task": "cpu=2,license/matlab:1"}, {"tres_per_task": "cpu=2,license/matlab:1"}),
        ({"memory_per_tres": "gres/gpu:1024"}, {"memory_per_tres": "gres/gpu:1024"}),
        ({"array": " 1, 3 ,5\n"}, {"array": "1,3,5"}),
        ({"nodes": " 2\n"}, {"nodes": "2"}),
        ({"nodes": "1 - 3"}, {"nodes": "1-3"}),
        ({"dependency": "afterok:1, afterany:2"}, {"dependency": "afterok:1,afterany:2"}),
        ({"dependency": "12,13_4"}, {"dependency": "afterany:12,afterany:13_4"}),
        (
            {"dependency": "afterok:12_[1-3,5]:13,7"},
            {"dependency": "afterok:12_1:12_2:12_3:12_5:13,afterany:7"},
        ),
        ({"dependency": "0"}, {"dependency": ""}),
        ({"tres_per_node": "gres/gpu:1, gres/nvme:2"}, {"tres_per_node": "gres/gpu:1,gres/nvme:2"}),
        ({"tres_per_job": " "}, {"tres_per_job": ""}),
    ],
    ids=repr,
)
def test_a_field_is_sent_in_the_form_that_the_api_takes(given, sent):
    assert check_fields(given) == sent


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"time_limt": 5}, "no field 'time_limt'. Did you mean time_limit?"),
        ({"zzzzzz": 5}, "no field 'zzzzzz'."),
        ({"script": "x"}, "script cannot be given here: give it as the script"),
        ({"user_id": "0"}, "user_id cannot be given here: the API sets it"),
        ({"flags": ["SPREAD"]}, "flags is ['SPREAD']; it holds KILL_INVALID_DEPENDENCY"),
        ({"shared": 5}, "shared is 5; it holds none, oversubscribe"),
        ({"comment": 5}, "comment is 5; it is of type string"),
        ({"tasks": "five"}, "tasks is 'five'; it is of type integer"),
        ({"tasks": True}, "tasks is True; it is of type integer"),
        ({"hold": "yes"}, "hold is 'yes'; it is of type boolean"),
        ({"priority": "high"}, "priority is 'high'; it is a whole number"),
        ({"priority": {"number": 5}}, 'priority is ignored by Slurm without "set": true'),
        ({"excluded_nodes": "n1"}, "excluded_nodes is 'n1'; it is a list of texts"),
        (
            {"dependency": "afterok:12_[1-9000000000000000000000]"},
            "names more than 100,000 tasks; 12 alone names the whole array",
        ),
        ({"dependency": "12_[3-1]"}, "dependency is '12_[3-1]': it takes e.g. afterok:12:13"),
        ({"array": "0-1k"}, "array is '0-1k': it takes indices, e.g. 0-9"),
        ({"array": "1 3"}, "array is '1 3': it takes indices"),
        ({"array": "0-3%1k"}, "array is '0-3%1k': it takes indices"),
        ({"dependency": "12_[3"}, "dependency is '12_[3': it takes e.g. afterok:12:13"),
        ({"dependency": "afterok"}, "dependency is 'afterok': it takes e.g. afterok:12:13"),
        ({"nodes": "1g"}, "nodes is '1g': it takes a count or a range"),
        ({"tres_per_job": "4k"}, "tres_per_job is '4k': it takes resources with whole numbers"),
        ({"tres_per_node": "1"}, "tres_per_node is '1': it takes resources with whole numbers"),
        ({"tres_per_node": "gpu:1"}, "tres_per_node is 'gpu:1': it takes resources"),
        ({"tres_per_task": "gres/gpu=4x"}, "tres_per_task is 'gres/gpu=4x': it takes resources"),
        ({"tres_per_task": "cpu=2,gpu:1"}, "tres_per_task is 'cpu=2,gpu:1': it takes resources"),
        ({"tres_per_socket": "1.5"}, "tres_per_socket is '1.5': it takes resources"),
        ({"cpus_per_tres": "2"}, "cpus_per_tres is '2': it takes resources"),
        ({"memory_per_tres": "1G"}, "memory_per_tres is '1G': it takes resources"),
    ],
    ids=repr,
)
def test_a_field_that_cannot_be_is_named(job, words):
    with pytest.raises(InputError, match=re.escape(words)):
        check_fields(job)
