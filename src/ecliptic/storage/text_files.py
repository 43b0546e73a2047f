"""Reads small text and JSON files of other projects, up to a limit of bytes."""

import json
from pathlib import Path
from typing import Any

from ecliptic.errors import CorruptFileError

LIMIT = 64 << 20  # bytes; the largest tokenizer.json known is 17 MB


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of at most `LIMIT` bytes.

    Raises:
        CorruptFileError: too large, not UTF-8, not JSON, or not an object.
    """
    return parse_json(read_text(path), f"{path}")


def parse_json(text: str, what: str) -> dict[str, Any]:
    """Parse the JSON object in `text`; `what` names it in errors.

    Raises:
        CorruptFileError: not JSON, or not an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what} is not JSON ({error}); fetch it again.") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{what} is a {type(value).__name__}, but must be a JSON object.")
    return value


def read_text(path: Path) -> str:
    """Read a text file of at most `LIMIT` bytes.

    Raises:
        CorruptFileError: too large, or not UTF-8.
    """
    if path.stat().st_size > LIMIT:
        raise CorruptFileError(
            f"{path} has more than {LIMIT} bytes, too many for a config or tokenizer file."
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not text ({error}); fetch it again.") from None
