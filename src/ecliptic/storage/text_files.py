"""Reads small text and JSON files of other projects, up to a limit of bytes."""

import json
import lzma
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ecliptic.errors import CorruptFileError, EclipticError
from ecliptic.storage.opening import read_regular

LIMIT = 64 << 20  # bytes; the largest tokenizer.json known is 17 MB
# Values of a JSON text, each of which takes up to 100 bytes of memory. CLIP's tokenizer.json has
# 200,000, the largest index of shards 100,000; a tensor in a safetensors header counts as 8.
MAX_VALUES = 1_000_000
XZ_MEMORY = 256 << 20  # bytes that unpacking may take; the highest preset needs 65 MiB
LONGEST_NAME = 200  # characters of a name that a message quotes


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of at most `LIMIT` bytes.

    Raises:
        CorruptFileError: too large, not UTF-8, not JSON, or not an object.
    """
    return parse_json(read_text(path), f"{path}")


def parse_json(text: str | bytes, what: str, *, unique: bool = False) -> dict[str, Any]:
    """Parse the JSON object in `text`, after counting how many values it can have.

    Args:
        text: JSON; bytes are UTF-8.
        what: names it in errors.
        unique: refuse an object that has a name twice; else the last one counts.

    Raises:
        CorruptFileError: not JSON, not an object, or more than `MAX_VALUES` values.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        if (count := sum(map(text.count, ",[{"))) > MAX_VALUES:  # those in strings too
            raise CorruptFileError(
                f"{what} is JSON of up to {count} values, more than the {MAX_VALUES} allowed."
            )
        refuse = partial(_refuse_twins, what) if unique else None
        value = json.loads(text, object_pairs_hook=refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{what} is not JSON ({error}); fetch it again.") from None
    if not isinstance(value, dict):
        raise CorruptFileError(f"{what} is a {type(value).__name__}, but must be a JSON object.")
    return value


def _refuse_twins(what: str, pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise CorruptFileError(f"{what} has the name {twice[:LONGEST_NAME]!r} twice.")
    return found


def read_text(
    path: Path,
    error: Callable[[str], EclipticError] = CorruptFileError,
    limit: int = LIMIT,
    *,
    xz: bool = False,
) -> str:
    """Read a text file of at most `limit` bytes, with "\\n" at the end of each line.

    Args:
        path: of the file.
        error: the class to raise.
        limit: of its bytes; of the unpacked ones, too, if it is packed.
        xz: it is packed with xz.

    Raises:
        CorruptFileError: or `error`: too large, damaged, not UTF-8, or not a regular file.
    """
    data = read_regular(path, limit, error)
    if xz:
        data = _unpack_xz(path, data, limit, error)
    try:
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not text ({problem}); fetch it again.") from None


def _unpack_xz(path: Path, data: bytes, limit: int, error: Callable[[str], EclipticError]) -> bytes:
    """The bytes in one or more streams of xz; never more than one byte beyond `limit`."""
    found = b""
    try:
        while data := data.lstrip(b"\0"):  # padding between streams
            unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
            found += unpacker.decompress(data, limit + 1 - len(found))
            if len(found) > limit:
                raise error(f"{path} unpacks to more than {limit} bytes, too many for its kind.")
            if not unpacker.eof:
                raise EOFError("it is cut short")
            data = unpacker.unused_data
    except (lzma.LZMAError, EOFError) as problem:
        raise error(f"{path} is no whole xz file ({problem}); fetch it again.") from None
    return found
