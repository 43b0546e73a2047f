"""Exit codes of the commands, and the functions that end a command with one.

Wrong usage is what is wrong on any machine: an unknown flag, choice, suffix or combination. What
depends on files, models or the network is a failure of the work.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ecliptic.cli.wording import name_flags
from ecliptic.errors import EclipticError

FAILED = 1
WRONG_USAGE = 2  # typer's own
REJECTED = 3  # some items; the others are done
INTERRUPTED = 130  # 128 + SIGINT
TERMINATED = 143  # 128 + SIGTERM


def leave(code: int, *, when: bool) -> None:
    """End the command with the exit code `code` if `when` is true."""
    if when:
        raise typer.Exit(code)


@contextmanager
def checks_usage() -> Iterator[None]:
    """Turn our errors within the block into wrong usage: what they refuse are flags."""
    try:
        yield
    except EclipticError as error:
        raise typer.BadParameter(name_flags(error)) from None
