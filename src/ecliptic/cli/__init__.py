"""The command line: each command parses its arguments, makes one call and prints text or JSON.

`main.py` holds the group of all commands.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.cli.main import run as run

__getattr__, __dir__ = lazy_names(__name__)
