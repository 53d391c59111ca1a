"""The two backends, each from its start to its end, with the accounts that it serves."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from clusterra_server.banner import warn
from clusterra_server.caller import Caller, privileged
from clusterra_server.family import Family
from clusterra_server.options import TOKEN_VARIABLE, is_loopback
from clusterra_server.processes import Processes
from clusterra_server.scheduler import Limits, Scheduler
from clusterra_server.session import USER, Session, fits_cookie, new_session
from clusterra_server.sign_in import Account
from clusterra_server.slurm import Slurm
from clusterra_server.slurmrestd import Slurmrestd, UnavailableError, VersionError
from clusterra_server.tokens import SlurmToken, SlurmUser, TokenError, read_users

LOOKS_FOR = 3.0
"""Seconds for which a start waits for slurmrestd."""


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
    :raises VersionError: slurmrestd does not offer the API that is asked for.
    """
    slurmrestd = Slurmrestd(options.slurmrestd, options.api_version or "")
    users = _users(options)
    open_to_others = not is_loopback(options.host)
    callers = [Caller(slurmrestd, user.slurm, ordinary_only=open_to_others) for user in users]
    try:
        await _look(slurmrestd, callers, options.host)
        yield [
            Account(
                Session(user.token, user.slurm.user, str(options.users))
                if user.token
                else _session(user.slurm.user or USER),
                Slurm(caller, options.output_dir, own_only=bool(options.users)),
            )
            for user, caller in zip(users, callers, strict=True)
        ]
    finally:
        await slurmrestd.close()


def _users(options: argparse.Namespace) -> list[SlurmUser]:
    if options.users:
        users = read_users(options.users)
        for user in users:
            user.slurm.read()
        return users
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


async def _look(slurmrestd: Slurmrestd, callers: Sequence[Caller], host: str) -> None:
    """Look at slurmrestd and at the users' tokens; what is down now may come later.

    :raises TokenError: a token is root's or SlurmUser's, where other machines reach the server.
    :raises VersionError: slurmrestd does not offer the API that is asked for.
    """
    end = asyncio.get_running_loop().time() + LOOKS_FOR
    try:
        async with asyncio.timeout_at(end):
            await slurmrestd.check_version(callers[0].token)
    except VersionError:
        raise
    except (UnavailableError, TimeoutError):
        # the look at the tokens says so, too
        pass
    found = await asyncio.gather(*(_is_privileged(caller, end) for caller in callers))
    for words in dict.fromkeys(each for each in found if isinstance(each, str)):
        warn(f"whose Slurm token it is cannot be told now: {words}")
    for caller in (caller for caller, is_so in zip(callers, found, strict=True) if is_so is True):
        words = privileged(caller.token)
        if not is_loopback(host):
            raise TokenError(f"{words}; with --host {host} give one of an ordinary user")
        warn(f"{words}; give one of an ordinary user")


async def _is_privileged(caller: Caller, end: float) -> bool | str:
    """Whether it is; otherwise why that cannot be told."""
    try:
        async with asyncio.timeout_at(end):
            return await caller.is_privileged()
    except UnavailableError as exc:
        return str(exc)
    except TimeoutError:
        return f"slurmrestd has not answered in {LOOKS_FOR:.0f} s"
