"""Slurm's tokens: read anew for each request, and shown to nobody."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from clusterra_server.session import fits_cookie

VARIABLE = "SLURM_JWT"
"""Slurm's own name for the variable with a token."""


class TokenError(Exception):
    """There is no token, or no users; the words say why."""


@dataclass(frozen=True, slots=True)
class SlurmToken:
    """Where one Slurm user's token comes from: a file, or otherwise the environment."""

    path: Path | None = None
    given_user: str = ""
    """The Slurm user, where it is known without the token."""

    def read(self) -> str:
        """The token as it is now: a file's may have been renewed.

        :raises TokenError: there is none.
        """
        if self.path is None:
            text = os.environ.get(VARIABLE, "")
            where = f"{VARIABLE} is not set. Set it, or give --token-file or --users"
        else:
            where = f"{self.path} is empty"
            try:
                text = self.path.read_text()
            except (OSError, UnicodeDecodeError) as exc:
                why = exc.strerror if isinstance(exc, OSError) else "it is no text"
                raise TokenError(f"the Slurm token in {self.path} cannot be read: {why}") from exc
        # as `scontrol token` prints it
        token = text.strip().removeprefix(f"{VARIABLE}=")
        if not token or not token.isascii() or not token.isprintable():
            raise TokenError(where if not token else f"{self.path or VARIABLE} holds no token")
        return token

    @property
    def user(self) -> str:
        """The Slurm user that it stands for; empty where it does not say.

        :raises TokenError: there is none.
        """
        return self.given_user or user_of(self.read())


@dataclass(frozen=True, slots=True)
class SlurmUser:
    """A line of the users' file: who may ask, and as whom."""

    token: str = field(repr=False)
    """What the client signs in with."""
    slurm: SlurmToken


def user_of(token: str) -> str:
    """The Slurm user whom a token names; empty where it names none.

    :param token: a JWT of Slurm's; its signature is Slurm's business.
    :source: Slurm's ``auth/jwt``: the claim ``sun``.
    """
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (IndexError, ValueError):
        return ""
    name = claims.get("sun") if isinstance(claims, dict) else None
    return name if isinstance(name, str) else ""


def read_users(path: Path) -> list[SlurmUser]:
    """Who may ask: a line each with a client's token, the Slurm user, and that user's token file.

    :param path: blank lines and what follows a ``#`` at a line's beginning are skipped; a relative
        token file lies beside this one.
    :raises TokenError: it cannot be read; the words name the line, and never show a token.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise TokenError(f"{path} cannot be read: {why}") from exc
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3:
            raise TokenError(
                f"{path}, line {number}: it has {len(words)} words, not a client's token, a Slurm "
                "user, and the file with that user's Slurm token"
            )
        token, user, file = words
        if not fits_cookie(token):
            raise TokenError(f"{path}, line {number}: the client's token holds what no cookie can")
        found.append(SlurmUser(token, SlurmToken(path.parent / file, user)))
    if not found:
        raise TokenError(f"{path} names no users")
    if len({each.token for each in found}) < len(found):
        raise TokenError(f"{path}: two users have the same token")
    return found
