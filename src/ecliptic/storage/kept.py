"""Where ecliptic keeps what it can measure or make again: small files that may be deleted."""

import os
from pathlib import Path

VARIABLE = "ECLIPTIC_CACHE"  # of the environment; names another folder


def cache_folder() -> Path:
    """The folder `$ECLIPTIC_CACHE`, else `ecliptic` in `$XDG_CACHE_HOME` or in `~/.cache`.

    It need not exist. Raises RuntimeError when the user has no home folder.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path.home() / ".cache") / "ecliptic"
