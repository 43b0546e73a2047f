"""The command line: arguments in, one call, text or JSON out. `main.py` holds the group."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.cli.main import run as run

__getattr__, __dir__ = lazy_names(__name__)
