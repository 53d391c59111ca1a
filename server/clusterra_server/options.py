"""The options of ``clusterra-server``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from pathlib import Path

import httpx

from clusterra_server import __version__

DEFAULT_PORT = 8765
DEFAULT_HOST = "127.0.0.1"
TOKEN_VARIABLE = "CLUSTERRA_SERVER_TOKEN"  # noqa: S105 - a variable's name


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options, checked as far as they can be before anything is tried.

    :param arguments: instead of the command line's.
    """
    parser = argparse.ArgumentParser(
        prog="clusterra-server", description="a Clusterra on your own machine"
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_server(parser)
    _add_processes(parser)
    _add_slurm(parser)
    options = parser.parse_args(arguments)
    if why := _why_not(options):
        parser.error(why)
    return options


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help=f"the address to listen on ({DEFAULT_HOST}); any other than loopback needs --users, "
        f"or a token of your own in {TOKEN_VARIABLE}",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="another host name that clients use, such as that of a proxy that passes it on; may be "
        "repeated",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"0 takes any free port ({DEFAULT_PORT})"
    )
    parser.add_argument(
        "--dir",
        help="the folder that keeps jobs, uploads and the session, for this user alone; without it, a "
        "temporary one that is removed at the end",
    )
    parser.add_argument("--cluster-id", default="clusloc1", help="the cluster's id (clusloc1)")
    parser.add_argument(
        "--s3",
        metavar="URL",
        help="an S3 bucket for uploads, https://HOST/BUCKET, with the credentials that AWS's own "
        "programs would find; without it, the server runs an S3 endpoint on loopback",
    )
    parser.add_argument(
        "--backend",
        choices=("processes", "slurm"),
        default="processes",
        help="what runs the jobs: processes of this machine (the default), or a real Slurm",
    )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --backend processes")
    group.add_argument(
        "--cpus", type=_positive, default=os.cpu_count() or 1, help="CPU slots for jobs (all)"
    )
    group.add_argument(
        "--min-job-age",
        type=float,
        default=300.0,
        help="seconds for which an ended job stays in the list of jobs (300)",
    )
    group.add_argument(
        "--kill-wait", type=float, default=30.0, help="seconds between SIGTERM and SIGKILL (30)"
    )
    group.add_argument(
        "--minute",
        type=float,
        default=60.0,
        help="seconds that a minute of a time limit lasts, to try time limits out quickly (60)",
    )


def _add_slurm(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --backend slurm")
    group.add_argument(
        "--slurmrestd", type=_address, metavar="URL", help="e.g. http://127.0.0.1:6820"
    )
    group.add_argument(
        "--api-version",
        type=_version,
        help="e.g. v0.0.44; without it, the newest that slurmrestd offers",
    )
    whose = group.add_mutually_exclusive_group()
    whose.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="the file with the Slurm token, as `scontrol token` prints it; it is read for each "
        "request. Without it, the token is in SLURM_JWT",
    )
    whose.add_argument(
        "--users",
        type=Path,
        metavar="FILE",
        help="for several users, a file with a line for each: the token to sign in with, the Slurm "
        "user, the file with that user's Slurm token, and admin if they may upload to shared/",
    )
    group.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/mnt/efs"),
        metavar="DIR",
        help="the folder for the jobs' output, under the same path on the nodes and on this machine "
        "(/mnt/efs)",
    )


def _why_not(options: argparse.Namespace) -> str:
    """What is wrong with options that are each right."""
    if options.backend == "slurm" and (why := _why_not_slurm(options)):
        return why
    slurms = (options.slurmrestd, options.token_file, options.users)
    if options.backend != "slurm" and any(slurms):
        return "--slurmrestd, --token-file and --users need --backend slurm"
    if not is_loopback(options.host) and not (options.users or os.environ.get(TOKEN_VARIABLE)):
        return (
            f"--host {options.host} can be reached from other machines: set {TOKEN_VARIABLE} to a token of "
            "your own, or give --users"
        )
    return ""


def _why_not_slurm(options: argparse.Namespace) -> str:
    if not options.slurmrestd:
        return "--backend slurm needs --slurmrestd with slurmrestd's address"
    if not options.output_dir.is_absolute():
        return f"--output-dir: {options.output_dir} is not absolute"
    if not os.path.isdir(options.output_dir):  # noqa: PTH112 - it raises nothing
        return f"--output-dir: {options.output_dir} is not a folder, or cannot be reached"
    return ""


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _address(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    # a password would be shown
    is_one = url.scheme in ("http", "https") and url.host and not (url.userinfo or url.query)
    port = 80 if url.port is None else url.port
    if not is_one or not 0 < port <= 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address such as http://127.0.0.1:6820"
        )
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"v0\.0\.[0-9]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as v0.0.44")
    return text
