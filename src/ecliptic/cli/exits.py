"""Exit codes of the commands, and how to leave with one."""

import typer

FAILED = 1
REJECTED = 3  # the rest was done
INTERRUPTED = 130  # 128 + SIGINT


def leave(code: int, when: bool = True) -> None:
    """End the command with `code` if `when` holds."""
    if when:
        raise typer.Exit(code)
