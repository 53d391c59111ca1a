"""What the server says when it is ready: where it is, and how Airflow gets there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from clusterra_server import __version__
from clusterra_server.options import is_loopback
from clusterra_server.sign_in import Account


def tell(options: argparse.Namespace, port: int, folder: Path, accounts: Sequence[Account]) -> None:
    """Print it.

    :param port: the one that it listens on.
    """
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(
        f"clusterra-server {__version__}: cluster {options.cluster_id}, {_jobs(options, accounts)}",
        f"files        {folder}",
        f"API          http://{host}:{port}/v1",
        sep="\n",
    )
    session = accounts[0].session
    if not is_loopback(options.host):
        print(f"sign-in      with the token in {session.source}", flush=True)
        return
    # a journal is no place for a token that whoever started it knows
    token, where = quote(session.token, safe=""), ""
    if session.source:
        token, where = "TOKEN", f", with the one in {session.source} for TOKEN"
    uri = f"clusterra://:{token}@{host}:{port}/http?cluster_id={options.cluster_id}"
    print(
        f"connection   paste this line where Airflow runs{where}:",
        f"export AIRFLOW_CONN_CLUSTERRA_DEFAULT='{uri}'",
        sep="\n",
        flush=True,
    )


def warn(words: str) -> None:
    """Say on standard error what whoever started the server should know."""
    print(f"clusterra-server: {words}", file=sys.stderr, flush=True)


def _jobs(options: argparse.Namespace, accounts: Sequence[Account]) -> str:
    if options.backend == "processes":
        return f"jobs run as processes of this machine on {options.cpus} CPUs"
    whose = ", ".join(account.session.user for account in accounts)
    return f"jobs go to the Slurm behind {options.slurmrestd} as {whose}; output in {options.output_dir}"
