"""`Item`: an image or text to encode, with its error if it cannot be used."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ecliptic.errors import EclipticError, TextError

Kind = Literal["image", "text"]


@dataclass(frozen=True)
class Item:
    """One image or text that is not decoded yet."""

    name: str  # for people, and the id of its vector
    value: str | bytes  # the text; or the image's path, or its encoded bytes
    error: EclipticError | None = None  # why it cannot be used
    archive: str = ""  # the tar or table that holds it, if its name is unique only in there
    facts: Mapping[str, Any] = field(default_factory=dict)  # other columns of its row of a table


def image_item(path: str) -> Item:
    """The image in the file `path`."""
    return Item(escape_surrogates(path), path)


def text_item(text: str) -> Item:
    """The item of a text; its error if the text was not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        problem = TextError("not valid UTF-8; save the text as UTF-8.", place=error.start)
        return Item(escape_surrogates(text), text, problem)
    return Item(text, text)


def escape_surrogates(path: str | os.PathLike[str]) -> str:
    r"""A file name that UTF-8 can store: bytes that are not UTF-8 are written \udcNN.

    It is for ids, which keep every other character. What people see goes through `printable`.
    """
    return os.fspath(path).encode(errors="backslashreplace").decode()
