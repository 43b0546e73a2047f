"""Exit codes of the commands, and the function that ends a command with one."""

import typer

FAILED = 1
REJECTED = 3  # some items; the others are done
INTERRUPTED = 130  # 128 + SIGINT


def leave(code: int, *, when: bool) -> None:
    """End the command with the exit code `code` if `when` is true."""
    if when:
        raise typer.Exit(code)
