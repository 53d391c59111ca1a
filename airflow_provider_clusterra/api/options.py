"""The options of ``sbatch``: what each takes, and what it is in a job of slurmrestd v0.0.44.

:source: ``sbatch(1)``; every row's field was compared with the record of a held job of ``sbatch``
    26.05.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from airflow_provider_clusterra.api import fields, gpus
from airflow_provider_clusterra.api.dependencies import put_dependency
from airflow_provider_clusterra.api.fields import (
    Apply,
    as_,
    as_count,
    as_file,
    as_text,
    put_nothing,
)


class Option(NamedTuple):
    """One option."""

    takes: Literal["value", "perhaps", "nothing"]
    """Whether it takes a value; ``"perhaps"`` takes one only behind ``=``."""
    apply: Apply | None = None
    """Puts it into a job's fields. None: it cannot be honoured here."""
    letter: str = ""
    why: str = ""
    """Why it cannot be honoured, or what to do instead."""


TIMES = {"begin": "begin_time", "deadline": "deadline"}
"""Options whose value is a time, which a clock and a zone are needed for."""
OPTIONS: dict[str, Option] = {
    "account": Option("value", as_text("account"), "A"),
    "array": Option("value", fields.put_array, "a"),
    "begin": Option("value", put_nothing, "b"),
    "chdir": Option("value", as_text("current_working_directory"), "D"),
    "comment": Option("value", as_text("comment")),
    "constraint": Option("value", as_text("constraints"), "C"),
    "contiguous": Option("nothing", as_("contiguous", value=True)),
    "cpus-per-gpu": Option("value", gpus.put_cpus_per_gpu),
    "cpus-per-task": Option("value", fields.put_cpus_per_task, "c"),
    "deadline": Option("value", put_nothing),
    "dependency": Option("value", put_dependency, "d"),
    "distribution": Option("value", as_text("distribution"), "m"),
    "error": Option("value", as_file("standard_error"), "e"),
    "exclude": Option("value", fields.as_hosts("excluded_nodes"), "x"),
    "exclusive": Option("perhaps", fields.as_word("shared", fields.EXCLUSIVE)),
    "export": Option("value", fields.put_export),
    "get-user-env": Option("perhaps", fields.put_user_environment),
    "gpus": Option("value", gpus.as_gpus("tres_per_job"), "G"),
    "gpus-per-node": Option("value", gpus.as_gpus("tres_per_node")),
    "gpus-per-socket": Option("value", gpus.as_gpus("tres_per_socket")),
    "gpus-per-task": Option("value", gpus.put_gpus_per_task),
    "gres": Option("value", fields.as_gres("tres_per_node")),
    "hint": Option("value", fields.put_hint),
    "hold": Option("nothing", as_("hold", value=True), "H"),
    "ignore-pbs": Option("nothing", put_nothing),
    "input": Option("value", as_file("standard_input"), "i"),
    "job-name": Option("value", as_text("name"), "J"),
    "kill-on-invalid-dep": Option("value", fields.put_invalid_dependency),
    "licenses": Option("value", as_text("licenses"), "L"),
    "mail-type": Option("value", fields.put_mail_type),
    "mail-user": Option("value", as_text("mail_user")),
    "mem": Option("value", fields.as_memory("memory_per_node")),
    "mem-per-cpu": Option("value", fields.as_memory("memory_per_cpu")),
    "mem-per-gpu": Option("value", fields.as_memory("memory_per_tres")),
    "mincpus": Option("value", as_count("minimum_cpus_per_node")),
    "nice": Option("perhaps", fields.put_nice),
    "no-kill": Option("perhaps", as_("kill_on_node_fail", value=False), "k"),
    "no-requeue": Option("nothing", as_("requeue", value=False)),
    "nodelist": Option("value", fields.as_hosts("required_nodes"), "w"),
    "nodes": Option("value", fields.put_nodes, "N"),
    "ntasks": Option("value", as_count("tasks"), "n"),
    "ntasks-per-core": Option("value", as_count("tasks_per_core")),
    "ntasks-per-node": Option("value", as_count("tasks_per_node")),
    "ntasks-per-socket": Option("value", as_count("tasks_per_socket")),
    "open-mode": Option("value", fields.as_word("open_mode", fields.OPEN_MODES)),
    "output": Option("value", as_file("standard_output"), "o"),
    "overcommit": Option("nothing", as_("overcommit", value=True), "O"),
    "oversubscribe": Option("nothing", as_("shared", ["oversubscribe"]), "s"),
    "parsable": Option("nothing", put_nothing),
    "partition": Option("value", as_text("partition"), "p"),
    "prefer": Option("value", as_text("prefer")),
    "priority": Option("value", fields.put_priority),
    "qos": Option("value", as_text("qos"), "q"),
    "quiet": Option("nothing", put_nothing, "Q"),
    "requeue": Option("nothing", as_("requeue", value=True)),
    "reservation": Option("value", as_text("reservation")),
    "signal": Option("value", fields.put_signal),
    "sockets-per-node": Option("value", as_count("sockets_per_node")),
    "spread-job": Option("nothing", fields.put_flag("SPREAD_JOB")),
    "test-only": Option("nothing", why="it submits nothing"),
    "threads-per-core": Option("value", as_count("threads_per_core")),
    "time": Option("value", fields.as_minutes("time_limit"), "t"),
    "time-min": Option("value", fields.as_minutes("time_minimum")),
    "tmp": Option("value", fields.put_temporary_disk),
    "verbose": Option("nothing", put_nothing, "v"),
    "wait": Option("nothing", letter="W", why="use wait_for_completion=True"),
    "wckey": Option("value", as_text("wckey")),
    "wrap": Option("value", why="give the command as the script"),
}
OTHERS = """
    acctg-freq batch bb cluster-constraint clusters consolidate-segments container container-id
    core-spec cpu-freq delay-boot extra extra-node-info gpu-bind gpu-freq gres-flags mcs-label
    mem-bind network ntasks-per-gpu oom-kill-step power profile propagate reboot resv-ports segment
    spread-segments stepmgr switches thread-spec tres-bind tres-per-task use-min-nodes wait-all-nodes
"""
"""Options of ``sbatch`` that few scripts hold; the API's own field does what they do."""
UNKNOWN_TO_API = """
    bbf container-type cores-per-socket export-file ext-launcher gid help nodefile resources uid
    usage version
"""
"""Options of ``sbatch`` that the API has no field for."""
LETTERS = {
    "clusters": "M",
    "core-spec": "S",
    "extra-node-info": "B",
    "help": "h",
    "nodefile": "F",
    "version": "V",
}
OPTIONS |= {
    name: Option("perhaps", letter=LETTERS.get(name, ""), why=why)
    for names, why in (
        (OTHERS, "give the API's own field with job="),
        (UNKNOWN_TO_API, "the API has no field for it"),
    )
    for name in names.split()
}
SHORT = {option.letter: name for name, option in OPTIONS.items() if option.letter}
FOLLOWING = """
    account array begin chdir comment deadline dependency error exclude get-user-env hint hold
    ignore-pbs input job-name kill-on-invalid-dep mem nice no-kill no-requeue open-mode output
    prefer priority qos requeue reservation signal time time-min wckey
"""
"""What a component of a heterogeneous job has from the one before it, unless it says otherwise.

:source: ``sbatch -vv`` 26.05 with each option in the first of two components; its source marks the
    others ``reset_each_pass``.
"""
CARRIED = frozenset(FOLLOWING.split())
RIVALS = (
    frozenset({"mem", "mem-per-cpu", "mem-per-gpu"}),
    frozenset({"exclusive", "oversubscribe"}),
)
"""Options of which ``sbatch`` takes one: of two, slurmrestd would drop one without a word."""
SAME = (*RIVALS, frozenset({"requeue", "no-requeue"}))


def rivals(names: Iterable[str]) -> list[str]:
    """Those of some options that exclude each other; empty where all of them go together.

    :param names: long ones, in their order.
    """
    given = list(dict.fromkeys(names))
    found = [[name for name in given if name in group] for group in RIVALS]
    return next((each for each in found if len(each) > 1), [])


def same(name: str) -> frozenset[str]:
    """The options that say what this one says: itself, and those in whose place it stands.

    :param name: a long one.
    """
    return next((group for group in SAME if name in group), frozenset({name}))
