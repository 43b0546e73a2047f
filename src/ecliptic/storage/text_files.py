"""Reads small text and JSON files of other projects, up to a limit of bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecliptic.errors import CorruptFileError, EclipticError
from ecliptic.storage.opening import read_regular

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


def read_text(
    path: Path, error: Callable[[str], EclipticError] = CorruptFileError, limit: int = LIMIT
) -> str:
    """Read a text file of at most `limit` bytes, with "\\n" at the end of each line.

    Raises:
        CorruptFileError: or `error`: too large, not UTF-8, or not a regular file.
    """
    data = read_regular(path, limit, error)
    try:
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not text ({problem}); fetch it again.") from None
