"""Scripts that try to get away, and what is left of them."""

from contextlib import suppress
from pathlib import Path

ESCAPES = {
    "nothing": "{sleep}",
    "a child": "{sleep} & wait",
    "no environment": "exec env -i {sleep}",
    "no environment, and a session": "exec env -i setsid --wait {sleep}",
    "a child in a session of its own": "env -i setsid {sleep} & wait",
    "a daemon": "(env -i setsid {sleep} &) ; exec sleep 600",
    "a daemon of a daemon": "(env -i setsid sh -c '(env -i setsid {sleep} &)' &) ; exec sleep 600",
    "a name of its own": 'exec -a \'\' perl -e \'$0 = "x" x 4096; exec {{"sleep"}} "{sleep}", split / /, substr "{sleep}", 6\'',
}
"""What a script may do so that a process of it is not found."""


def processes_running(word):
    """The processes that were started with an argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and word in (entry / "cmdline").read_text().split("\0"):
                found.append(int(entry.name))
    return found
