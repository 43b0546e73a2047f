"""The command line: arguments in, one call, text or JSON out. `main.py` holds the group."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecliptic.cli.main import run

__all__ = ["run"]


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ecliptic.cli.main import run

    return run
