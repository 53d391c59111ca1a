"""The two backends, each from its start to its end, with the accounts that it serves."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from airflow_provider_clusterra.local.banner import warn
from airflow_provider_clusterra.local.family import Family
from airflow_provider_clusterra.local.options import TOKEN_VARIABLE, is_loopback
from airflow_provider_clusterra.local.processes import Processes
from airflow_provider_clusterra.local.scheduler import Limits, Scheduler
from airflow_provider_clusterra.local.session import USER, Session, fits_cookie, new_session
from airflow_provider_clusterra.local.sign_in import Account
from airflow_provider_clusterra.local.slurm import Slurm
from airflow_provider_clusterra.local.slurmrestd import Slurmrestd, UnavailableError
from airflow_provider_clusterra.local.tokens import SlurmToken, SlurmUser, TokenError, read_users


@asynccontextmanager
async def processes(
    options: argparse.Namespace, folder: Path, family: Family, variables: dict[str, str]
) -> AsyncIterator[list[Account]]:
    """Jobs as processes of this machine.

    :param variables: more of the jobs' environment.
    """
    limits = Limits(options.cpus, options.min_job_age, options.kill_wait, options.minute)
    scheduler = Scheduler(folder, limits, family, variables)
    scheduler.schedule()
    try:
        yield [Account(_session(), Processes(scheduler))]
    finally:
        await scheduler.stop()


@asynccontextmanager
async def slurm(options: argparse.Namespace) -> AsyncIterator[list[Account]]:
    """Jobs of a real Slurm.

    :raises TokenError: there is no Slurm token, or one that may not be used.
    """
    slurmrestd = Slurmrestd(options.slurmrestd, options.api_version or "")
    try:
        users = _users(options)
        for user in users:
            await _check_privileges(slurmrestd, user.slurm, options.host)
        yield [
            Account(
                Session(user.token, user.slurm.user, str(options.users))
                if user.token
                else _session(user.slurm.user or USER),
                Slurm(slurmrestd, user.slurm, options.output_dir, own_only=bool(options.users)),
            )
            for user in users
        ]
    finally:
        await slurmrestd.close()


def _users(options: argparse.Namespace) -> list[SlurmUser]:
    if options.users:
        return read_users(options.users)
    token = SlurmToken(options.token_file)
    return [SlurmUser("", replace(token, given_user=token.user))]


def _session(user: str = USER) -> Session:
    """The session of a server with one user."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return new_session(user)
    if not fits_cookie(token):
        raise TokenError(
            f"{TOKEN_VARIABLE} holds what no cookie can: a space, ';', ',' or the like"
        )
    return Session(token, user, TOKEN_VARIABLE)


async def _check_privileges(slurmrestd: Slurmrestd, token: SlurmToken, host: str) -> None:
    """Refuse a token of root's or SlurmUser's where other machines reach the server.

    :raises TokenError: it is one, or may be one.
    """
    open_to_others = not is_loopback(host)
    try:
        privileged = token.user == "root" or await slurmrestd.is_privileged(token)
    except UnavailableError as exc:
        if open_to_others:
            raise TokenError(f"whose Slurm token it is cannot be told: {exc}") from exc
        return
    if not privileged:
        return
    words = f"the Slurm token of {token.user or 'root or SlurmUser'} may do anything on the cluster"
    if open_to_others:
        raise TokenError(f"{words}; with --host {host} give one of an ordinary user")
    warn(f"{words}; give one of an ordinary user")
