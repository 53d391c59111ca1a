"""Tests of airflow_provider_clusterra.api.sbatch and .fields.

What is expected here is what ``sbatch`` 26.05 did, or what a held job's record showed.
"""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_clusterra.api import InputError
from airflow_provider_clusterra.sbatch.job import overlooked, read_components, with_job_name

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))


def read(*lines):
    """The fields of a script with these lines behind its shebang."""
    (component,) = read_components("\n".join(["#!/bin/bash", *lines, "true", ""]))
    return component.fields(NOW)


def number(value, *, infinite=False):
    return {"set": True, "infinite": infinite, "number": value}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#SBATCH -J a", "a"),
        ("#SBATCH -Ja", "a"),
        ("#SBATCH -J=a", "=a"),
        ("#SBATCH --job-name=a", "a"),
        ("#SBATCH --job-name a", "a"),
        ("#SBATCH --job-n a", "a"),
        ("#SBATCH-J a", "a"),
        ("#SBATCH\t-J\ta", "a"),
        ("#SBATCH -J a # b", "a"),
        ("#SBATCH -J a#b", "a"),
        ("#SBATCH -J 'a b'", "a b"),
        ('#SBATCH -J "a # b"', "a # b"),
        ("#SBATCH -J a\\ b", "a b"),
        ("#SBATCH -J a'b c'd", "ab cd"),
        ("#SBATCH -J a \\", "a"),
        ("#SBATCH -J a\\\\", "a\\"),
        ('#SBATCH -J "a\\nb"', "anb"),
        ('#SBATCH -J "a\\"b"', 'a"b'),
        ("#SBATCH -J 'a\\b'", "ab"),
        ("#SBATCH -J 'a\"b'", 'a"b'),
        ("#SBATCH -J a#'b'", "a"),
        ("#SBATCH '-J' a", "a"),
        ("#SBATCH -v\v-Ja\f", "a"),
        ("#SBATCH -vJ a", "a"),
        ("#SBATCH -J b\n#SBATCH -J a", "a"),
        ("\n\n# a comment\n#SBATCH -J a", "a"),
        ("  # indented\n#SBATCH -J a", "a"),
        ("#SBATCH\n#SBATCH -J a", "a"),
    ],
    ids=repr,
)
def test_a_line_is_read_as_sbatch_reads_it(line, name):
    assert read(line) == {"name": name}


@pytest.mark.parametrize(
    "line",
    [
        "##SBATCH -J a",
        "#sbatch -J a",
        " #SBATCH -J a",
        "#",
        "set -e\n#SBATCH -J a",
        ": no-op\n#SBATCH -J a",
        "#SBATCH",
        "#SBATCH # -J a",
        "#SBATCH --quiet -v --parsable",
    ],
    ids=repr,
)
def test_what_sbatch_does_not_read_is_not_read(line):
    assert read(line) == {}


def test_one_line_may_hold_several_options():
    assert read("#SBATCH -N 2 -n4 --ntasks-per-node=2") == {
        "nodes": "2",
        "tasks": 4,
        "tasks_per_node": 2,
    }


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("-A acc -p gpu -q high", {"account": "acc", "partition": "gpu", "qos": "high"}),
        ("-N 2-4", {"nodes": "2-4"}),
        ("-N 1-15:4", {"nodes": "1-15:4"}),
        ("-c 2", {"cpus_per_task": 2, "tres_per_task": "cpu=2"}),
        ("--mem=4G", {"memory_per_node": number(4096)}),
        ("--mem=0", {"memory_per_node": number(0)}),
        ("--mem=0G", {"memory_per_node": number(0)}),
        ("--mem-per-cpu=500", {"memory_per_cpu": number(500)}),
        ("--mem=4G --mem=2G", {"memory_per_node": number(2048)}),
        ("--mem-per-gpu=1G", {"memory_per_tres": "gres/gpu:1024"}),
        ("--tmp=1G", {"temporary_disk_per_node": 1024}),
        ("-t 5", {"time_limit": number(5)}),
        ("-t 0:90", {"time_limit": number(2)}),
        ("-t 1:30:00", {"time_limit": number(90)}),
        ("-t 1-12", {"time_limit": number(2160)}),
        ("-t 1-12:30", {"time_limit": number(2190)}),
        ("-t 1-12:30:30", {"time_limit": number(2191)}),
        ("-t 0", {"time_limit": number(0, infinite=True)}),
        ("-t 00:00:00", {"time_limit": number(0, infinite=True)}),
        ("-t -1", {"time_limit": number(0, infinite=True)}),
        ("-t 7-", {"time_limit": number(10080)}),
        ("-t UNLIMITED", {"time_limit": number(0, infinite=True)}),
        ("--time-min=3", {"time_minimum": number(3)}),
        ("--gres=gpu:1", {"tres_per_node": "gres/gpu:1"}),
        ("--gres=gpu:a10g:2,nvme:1", {"tres_per_node": "gres/gpu:a10g:2,gres/nvme:1"}),
        ("--gres=gpu:1 --gres=none", {}),
        ("-G 2", {"tres_per_job": "gres/gpu:2"}),
        ("--gpus=a10g:2", {"tres_per_job": "gres/gpu:a10g:2"}),
        (
            "--gpus-per-node=1",
            {"tres_per_node": "gres/gpu:1", "environment": {"SLURM_GPUS_PER_NODE": "1"}},
        ),
        (
            "--gpus-per-task=t4:1 -c 2",
            {"cpus_per_task": 2, "tres_per_task": "cpu=2,gres/gpu:t4=1"},
        ),
        ("-G 2080ti:1,a100", {"tres_per_job": "gres/gpu:2080ti:1,gres/gpu:a100"}),
        (
            "--gpus-per-node=3g.20gb:1 --gres=none",
            {"environment": {"SLURM_GPUS_PER_NODE": "3g.20gb:1"}},
        ),
        ("--gpus-per-task=a100", {}),
        ("--gpus-per-task=a100:1,v100:2", {"tres_per_task": "gres/gpu:v100=2,gres/gpu:a100=1"}),
        ("--tres-per-task=cpu:2", {"tres_per_task": "cpu:2", "cpus_per_task": 2}),
        ("--tres-per-task=gres:gpu:1", {"tres_per_task": "gres/gpu:1"}),
        ("--gpu-bind=closest", {"tres_bind": "gres/gpu:closest"}),
        ("--gpu-freq=high", {"tres_freq": "gpu:high"}),
        ("--gres-flags=disable-binding", {"flags": ["GRES_BINDING_DISABLED"]}),
        (
            "--ntasks-per-gpu=2",
            {"ntasks_per_tres": 2, "environment": {"SLURM_NTASKS_PER_GPU": "2"}},
        ),
        ("--tasks-per-node=2", {"tasks_per_node": 2}),
        ("--tasks=2", {"tasks_per_node": 2}),
        ("--cluster=lab", {"clusters": "lab"}),
        ("-N 1k-2K", {"nodes": "1024-2048"}),
        ("-B 2:*:1", {"sockets_per_node": 2, "threads_per_core": 1, "tasks": 2}),
        ("--switches=1@1:00:00", {"required_switches": number(1), "wait_for_switch": 3600}),
        ("--delay-boot=5", {"delay_boot": 300}),
        ("--delay-boot=infinite", {"delay_boot": 4294967295}),
        ("--use-min-nodes", {"flags": ["PREFER_MINIMUM_NODE_COUNT"]}),
        ("--profile=Energy,task", {"profile": ["ENERGY", "TASK"]}),
        ("--profile=none,task", {"profile": ["NONE"]}),
        ("--propagate=STACK,NOFILE", {}),
        ("--priority=TOP", {"priority": number(4294967293)}),
        ("--requeue=expedite", {"requeue": True, "flags": ["EXPEDITED_REQUEUE"]}),
        ("--wait-all-nodes=1", {"wait_all_nodes": True}),
        ("--no-kill=off", {"kill_on_node_fail": True}),
        ("--oom-kill-step", {"oom_kill_step": 1}),
        ("--cpu-freq=low-HIGH:ondemand", {"cpu_frequency": "Low-High:OnDemand"}),
        ("-m Plane=4", {"distribution": "plane=4"}),
        (
            "--mem-bind=verbose,map_mem:0,1",
            {
                "memory_binding_type": ["VERBOSE", "MAP"],
                "memory_binding": "0,1",
                "environment": {
                    "SLURM_MEM_BIND": "verbose,map_mem:0,1",
                    "SLURM_MEM_BIND_VERBOSE": "verbose",
                },
            },
        ),
        ("--container=/x --network=y", {"container": "/x", "network": "y"}),
        ("--exclusive=allocation", {"shared": ["none"]}),
        ("--exclusive=EXCLUSIVE", {"shared": ["none"]}),
        ("--cpus-per-gpu=2", {"cpus_per_tres": "gres/gpu:2"}),
        ("-a 0-9%2", {"array": "0-9%2"}),
        ("-a [0-4]", {"array": "0-4"}),
        ("-a [1-20]%5", {"array": "1-20%5"}),
        ("-a [0-3%2]", {"array": "0-3%2"}),
        ("-a 1-5%2,8", {"array": "1-5,8%2"}),
        ("-a 0-8:2,9%0", {"array": "0-8:2,9"}),
        ("-a ,1,,2,", {"array": "1,2"}),
        ("-d afterok:12:13,afterany:14", {"dependency": "afterok:12:13,afterany:14"}),
        ("-D /mnt/efs/me", {"current_working_directory": "/mnt/efs/me"}),
        ("-o none -e None", {"standard_output": "/dev/null", "standard_error": "/dev/null"}),
        ("-i none", {"standard_input": "/dev/null"}),
        ("-o %j.out -e %j.err", {"standard_output": "%j.out", "standard_error": "%j.err"}),
        ("-C 'a100&nvme'", {"constraints": "a100&nvme"}),
        ("-x n1,n2", {"excluded_nodes": ["n1", "n2"]}),
        ("-w 'n[1,3-5],m1'", {"required_nodes": ["n[1,3-5]", "m1"]}),
        ("--exclusive", {"shared": ["none"]}),
        ("--exclusive=user", {"shared": ["user"]}),
        ("-s", {"shared": ["oversubscribe"]}),
        ("--nice", {"nice": 100}),
        ("--nice=-5", {"nice": -5}),
        ("--requeue", {"requeue": True}),
        ("--no-requeue", {"requeue": False}),
        (
            "--signal=B:USR1@120",
            {
                "kill_warning_signal": "USR1",
                "kill_warning_delay": number(120),
                "kill_warning_flags": ["BATCH_JOB"],
            },
        ),
        (
            "--signal=SIGTERM",
            {
                "kill_warning_signal": "TERM",
                "kill_warning_delay": number(60),
            },
        ),
        ("--signal=10@", {"kill_warning_signal": "10", "kill_warning_delay": number(60)}),
        (
            "--mail-type=ALL --mail-user=me",
            {
                "mail_type": [
                    "BEGIN",
                    "END",
                    "FAIL",
                    "INVALID_DEPENDENCY",
                    "REQUEUE",
                    "STAGE_OUT",
                ],
                "mail_user": "me",
            },
        ),
        ("--mail-type=end,FAIL", {"mail_type": ["END", "FAIL"]}),
        ("--mail-type=NONE", {"mail_type": []}),
        (
            "--mail-type=time_limit,TIME_LIMIT_50,",
            {"mail_type": ["TIME=100%", "TIME=50%"]},
        ),
        ("--comment='a b' -L matlab:2", {"comment": "a b", "licenses": "matlab:2"}),
        ("--reservation=r1 -H", {"reservation": "r1", "hold": True}),
        (
            "--hint=nomultithread",
            {"threads_per_core": 1, "environment": {"SLURM_HINT": "nomultithread"}},
        ),
        (
            "--hint=Compute_bound",
            {"threads_per_core": 1, "environment": {"SLURM_HINT": "Compute_bound"}},
        ),
        (
            "--hint=memory_bound",
            {"threads_per_core": 1, "environment": {"SLURM_HINT": "memory_bound"}},
        ),
        (
            "--hint=multithread",
            {"environment": {"SLURM_HINT": "multithread", "SLURM_NTASKS_PER_CORE": "65535"}},
        ),
        ("--hint=nomultithread --ntasks-per-core=1", {"tasks_per_core": 1}),
        ("--kill-on-invalid-dep=yes", {"flags": ["KILL_INVALID_DEPENDENCY"]}),
        (
            "--kill-on-invalid-dep=yes --spread-job --kill-on-invalid-dep=no",
            {"flags": ["SPREAD_JOB", "NO_KILL_INVALID_DEPENDENCY"]},
        ),
        ("--open-mode=append", {"open_mode": ["APPEND"]}),
        ("--export=ALL", {}),
        ("--export=all", {}),
        (
            "--export=none",
            {"environment": {"SLURM_EXPORT_ENV": "none", "SLURM_GET_USER_ENV": "1"}},
        ),
        ("--export=NIL", {"environment": {"SLURM_EXPORT_ENV": "NIL"}}),
        (
            "--export=\"ALL,A=1,B='x,y',C=\"",
            {
                "environment": {
                    "A": "1",
                    "B": "'x,y'",
                    "C": "",
                    "SLURM_EXPORT_ENV": "ALL,A=1,B='x,y',C=",
                    "SLURM_GET_USER_ENV": "1",
                }
            },
        ),
        (
            "--export=NONE",
            {"environment": {"SLURM_EXPORT_ENV": "NONE", "SLURM_GET_USER_ENV": "1"}},
        ),
        ("--begin=now+1hour", {"begin_time": number(int(NOW.timestamp()) + 3600)}),
        ("-b 2027-01-20T12:34:00", {"begin_time": number(1800444840)}),
        ("--deadline=2027-01-20", {"deadline": 1800399600}),
    ],
    ids=repr,
)
def test_an_option_is_the_field_that_sbatch_sends(options, fields):
    assert read(f"#SBATCH {options}") == fields


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#SBATCH --nosuch=1", "--nosuch is not known to sbatch"),
        (
            "#SBATCH --mem-p=1",
            "--mem-p is not known to sbatch (it may be --mem-per-cpu, --mem-per-gpu)",
        ),
        ("#SBATCH -Z", "-Z is not known to sbatch"),
        ("#SBATCH foo", "'foo' is no option"),
        ("#SBATCH -J a foo", "'foo' is no option"),
        ("#SBATCH -J 'a", "a quotation mark is missing"),
        ("#SBATCH -J 'a\\'", "a quotation mark is missing"),
        ('#SBATCH -J "a\\', "a quotation mark is missing"),
        ("#SBATCH '' -J a", "'' is no option"),
        ("#SBATCH: -J a", "there is a ':' behind #SBATCH"),
        ("#SBATCH -J", "--job-name needs a value"),
        ("#SBATCH --hold=yes", "--hold takes no value"),
        ("#SBATCH -n many", "--ntasks=many: it takes a whole number of at least 1"),
        ("#SBATCH -n 0", "--ntasks=0: it takes a whole number of at least 1"),
        ("#SBATCH --mem=lots", "--mem=lots: memory: 'lots' is no amount"),
        ("#SBATCH -t soon", "--time=soon: time_limit: 'soon' is no time"),
        ("#SBATCH --delay-boot=soon", "--delay-boot=soon: it takes a time, e.g. 5 or 5:30"),
        ("#SBATCH --gpus=1:2:3", "--gpus=1:2:3: it takes a number, a type, or a type and a number"),
        ("#SBATCH -a 0-9:x", "--array=0-9:x: it takes indices"),
        ("#SBATCH -N two", "--nodes=two: it takes a count or a range"),
        (
            "#SBATCH --exclusive=me",
            "--exclusive=me: it takes nothing, exclusive, allocation, user, mcs, topo",
        ),
        ("#SBATCH --mail-type=SOMETIMES", "it takes BEGIN, END"),
        ("#SBATCH --export=HOME", "there is no shell here to take HOME from"),
        ("#SBATCH --begin=later", "--begin=later: it takes e.g. now+1hour"),
        ("#SBATCH --hint=fast", "it takes compute_bound, memory_bound, multithread, nomultithread"),
        ("#SBATCH --signal=USR3", "it takes a signal and seconds"),
        ("#SBATCH --signal=USR1@65536", "it takes at most 65535 seconds"),
        (
            "#SBATCH --gres=gpu:1 --gpus-per-node=1",
            "--gres=gpu and --gpus-per-node exclude each other",
        ),
        ("#SBATCH -c 2 --cpus-per-gpu=1", "--cpus-per-task and --cpus-per-gpu exclude each other"),
        ("#SBATCH -c 2 --tres-per-task=cpu=2", "--cpus-per-task and --tres-per-task=cpu exclude"),
        ("#SBATCH --ntasks-per-gpu=1 --ntasks-per-node=2", "exclude each other"),
        ("#SBATCH --bbf=x", "--bbf=x cannot be honoured: give what the file says with job="),
        ("#SBATCH --container-type=x", "the API has no field for it"),
        ("#SBATCH --uid=1", "a job runs as the user that the API signs in"),
        (
            "#SBATCH --cores-per-socket=2",
            "--cores-per-socket=2 cannot be honoured: the API has no field",
        ),
        ("#SBATCH --wait", "--wait cannot be honoured: use wait_for_completion=True"),
        ("#SBATCH -B 1:1", "the API has no field for the cores of a socket: write * for it"),
        ("#SBATCH -F hosts", "--nodefile=hosts cannot be honoured: name the nodes with job="),
        ("#SBATCH --mem=4G --mem-per-cpu=1G", "--mem and --mem-per-cpu exclude each other"),
        ("#SBATCH --mem-per-gpu=1G --mem=4G", "--mem-per-gpu and --mem exclude each other"),
        ("#SBATCH -s --exclusive=user", "--oversubscribe and --exclusive exclude each other"),
    ],
    ids=repr,
)
def test_an_option_that_cannot_be_honoured_is_named_with_its_line(line, words):
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        read("# a comment", line)

    assert str(caught.value).startswith("Line 3 of the script, #SBATCH: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "first"),
    [
        ("#!/bin/bash\n# c\n\nset -e\na\n", "export SLURM_JOB_NAME='my job'; set -e"),
        ("#!/usr/bin/env bash\nif x; then\n  y\nfi", "export SLURM_JOB_NAME='my job'; if x; then"),
        ("#!/bin/sh -l\n  indented\n", "export SLURM_JOB_NAME='my job';   indented"),
        ("#!/bin/tcsh -f\nif (1) then\n", "setenv SLURM_JOB_NAME 'my job'"),
    ],
)
def test_a_shells_script_finds_its_authors_name(script, first):
    changed = with_job_name(script, "my job")

    assert first in changed.split("\n")
    assert changed.count("\n") - script.count("\n") == ("tcsh" in script)


@pytest.mark.parametrize(
    "script", ["#!/usr/bin/python3\nimport os\n", "#!/bin/bash\n# nothing\n", "#!/opt/fish\na\n"]
)
def test_another_programs_script_is_left_as_it_is(script):
    assert with_job_name(script, "x") == script


@pytest.mark.parametrize(
    "first", ['"exec" "python3" "$0" "$@"', "''':'", ": 'sh'", "eval 'exec perl -wS $0'"]
)
def test_a_shells_script_that_another_language_reads_as_well_stays_as_it_is(first):
    script = f"#!/bin/sh\n{first}\nprint(1)\n"

    assert with_job_name(script, "x") == script


def test_what_looks_like_an_option_and_is_none_is_told():
    script = "#!/bin/bash\n#SBATCH -n 1\n  #SBATCH -n 2\nset -e\n#SBATCH -n 3\n"

    assert overlooked(script) == [
        "Line 3 of the script, '#SBATCH -n 2', is not read, as by sbatch: it is indented.",
        "Line 5 of the script, '#SBATCH -n 3', is not read, as by sbatch: it stands behind the first "
        "command.",
    ]


def test_the_options_of_a_script_that_this_one_writes_are_its_own():
    script = "#!/bin/bash\ncat > sub.sh <<E\n#!/bin/bash\n#SBATCH -n 4\nE\n"

    assert overlooked(script) == []
