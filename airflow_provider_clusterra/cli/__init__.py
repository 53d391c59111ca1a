"""``airflow clusterra``: what it takes. Each ``airflow`` command reads this, so it imports nothing of ours."""

from __future__ import annotations

import argparse
import re

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ActionCommand,
    Arg,
    CLICommand,
    GroupCommand,
    lazy_load_command,
)

COMMANDS = "airflow_provider_clusterra.cli.commands"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_age(text: str) -> float:
    """An age in seconds.

    :raises argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+)([smhd]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write e.g. 90s, 30m, 1h or 2d")
    return int(found[1]) * UNITS[found[2] or "s"]


def read_id(text: str) -> int:
    """A job's number, also of one of an array's tasks, e.g. 12_3.

    :raises argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+)(?:[_+]\d+)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no job's number; write e.g. 4711 or 4711_3")
    return int(found[1])


CONNECTION = (
    Arg(("--conn-id",), help="The connection's id", default="clusterra_default"),
    Arg(("--cluster-id",), help="The cluster; otherwise the connection's"),
    ARG_OUTPUT,
    ARG_VERBOSE,
)


def get_clusterra_cli_commands() -> list[CLICommand]:
    """The commands of this provider: what Airflow's command line asks for."""
    job = ActionCommand(
        name="job",
        help="Show which task submitted a job",
        func=lazy_load_command(f"{COMMANDS}.show_job"),
        args=(Arg(("job_id",), help="Slurm's number for the job", type=read_id), *CONNECTION),
    )
    orphans = ActionCommand(
        name="orphans",
        help="List the jobs of this Airflow that no task waits for",
        func=lazy_load_command(f"{COMMANDS}.show_orphans"),
        args=(
            Arg(
                ("--older-than",),
                help="Only jobs that were submitted so long ago, e.g. 90s, 30m, 1h or 2d",
                type=read_age,
                default=0.0,
            ),
            Arg(("--cancel",), help="Cancel them, and see that they are gone", action="store_true"),
            *CONNECTION,
        ),
    )
    return [
        GroupCommand(
            name="clusterra",
            help="Jobs on Clusterra and the tasks they belong to",
            subcommands=(job, orphans),
        )
    ]
