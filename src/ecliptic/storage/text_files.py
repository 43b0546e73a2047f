"""Small text and JSON files of other projects, read within a limit of bytes."""

import json
from pathlib import Path
from typing import Any

from ecliptic.errors import CorruptFileError

LIMIT = 64 << 20  # bytes; the largest tokenizer.json known is 17 MB


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
        CorruptFileError: too large, not UTF-8, not JSON, or not an object.
    """
    return parse_json(read_text(path), f"{path}")


def parse_json(text: str, what: str) -> dict[str, Any]:
    """The JSON object that `text` is; `what` names it in errors.

    Raises:
        CorruptFileError: not JSON, or not an object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what} is not JSON ({error}); fetch it again.") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{what} holds a {type(value).__name__}, a JSON object is needed.")
    return value


def read_text(path: Path) -> str:
    """A text file of bounded size.

    Raises:
        CorruptFileError: too large, or not UTF-8.
    """
    if path.stat().st_size > LIMIT:
        raise CorruptFileError(
            f"{path} is larger than {LIMIT} bytes, which no config or tokenizer file is."
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not text ({error}); fetch it again.") from None
