"""Remembers what was measured, in one small file of the cache folder.

The file may be deleted at any time. If it cannot be read or written, each process measures anew.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecliptic.errors import EclipticError
from ecliptic.storage import (
    cache_folder,
    make_folder,
    parse_json,
    read_regular,
    replace_file,
    text_writer,
)

_NAME = "kernels.json"
_LARGEST = 1 << 20  # bytes
_MOST = 1000  # measurements; the oldest is forgotten


class Measurements:
    """Seconds of each kernel, by the machine and the sizes they were measured for."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, dict[str, float]] = {}  # of this process

    def get(self, key: str) -> dict[str, float] | None:
        """Seconds by kernel, if they were measured before."""
        if key not in self._known:
            self._known |= {k: v for k, v in self._read().items() if k not in self._known}
        return self._known.get(key)

    def put(self, key: str, seconds: Mapping[str, float], *, keep: bool = True) -> None:
        """Remember `seconds`, with `keep` also for other processes, whose measurements stay."""
        self._known[key] = dict(seconds)
        if not keep:
            return
        rows = {k: v for k, v in self._read().items() if k != key} | {key: dict(seconds)}
        kept = dict(list(rows.items())[-_MOST:])
        try:
            path = self._place()
            make_folder(path.parent)
            replace_file(path, text_writer(json.dumps(kept, indent=1)))
        except (EclipticError, OSError, RuntimeError):
            return  # a folder that cannot be written, or a user without one

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            rows = parse_json(read_regular(self._place(), _LARGEST), _NAME)
        except (EclipticError, OSError, RuntimeError):
            return {}
        return {key: row for key, row in rows.items() if _is_measurement(row)}

    def _place(self) -> Path:
        return self._path or cache_folder() / _NAME


def _is_measurement(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(value, float) and math.isfinite(value) and value > 0 for value in row.values()
    )
