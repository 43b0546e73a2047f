"""Searches of a library: words and pictures become one vector.

    vector = unit(sum of weight * vector of each part - sum of weight * vector of `unlike`)

The cosine of words with a picture is about 0.3 for a model of OpenAI, that of two pictures 0.7, so
pictures weigh more than words of the same weight. Q queries, E vector size.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_number
from ecliptic.engine import Clip, escape_surrogates
from ecliptic.errors import InputError
from ecliptic.index import Store
from ecliptic.library.filling.places import is_gone
from ecliptic.library.finding.duplicates import unchanged_file

Wanted = Any  # words, a picture in any form, an id; or one of these and its weight
LESS = 0.5  # the weight of a part of `unlike`
_FILE = ("path", "size", "modified")
_HEAVIEST = 1e6
_LONGEST = 60  # characters of a part in the description


@dataclass(frozen=True)
class QueryPart:
    """One part of a query."""

    value: Any  # words, an id, or a picture
    weight: float  # below 0: less of it
    picture: bool  # a string is an id or a path, not words

    def describe(self) -> str:
        """The part, for people."""
        if isinstance(self.value, str) and not self.picture:
            text = f'"{self.value}"'
        else:
            text = Path(self.value).name if _is_path(self.value) else "a picture"
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        size, usual = abs(self.weight), LESS if self.weight < 0 else 1
        return text if size == usual else f"{text} x {size:g}"


@dataclass(frozen=True)
class LibraryQuery:
    """All parts of a query."""

    parts: tuple[QueryPart, ...]

    @classmethod
    def of(cls, query: Wanted, like: Wanted, unlike: Wanted) -> "LibraryQuery":
        """The query of the arguments of `Library.search`.

        Raises:
            InputError: there is nothing to search for.
        """
        found = [QueryPart(value, weight, picture=False) for value, weight in _weighted(query, 1.0)]
        found += [QueryPart(value, weight, picture=True) for value, weight in _weighted(like, 1.0)]
        for value, weight in _weighted(unlike, LESS):
            found.append(QueryPart(value, -weight, picture=False))
        if not found:
            raise InputError("nothing to search for; pass words, a picture, `like` or `unlike`.")
        if any(isinstance(part.value, str) and not part.value.strip() for part in found):
            raise InputError(
                "one part of the query is an empty text; write words, or leave it out."
            )
        return cls(tuple(found))

    def describe(self) -> str:
        """The query, for people: `"a fox", like fox.jpg, less "snow"`."""
        words = []
        for part in self.parts:
            start = "less " if part.weight < 0 else "like " if part.picture else ""
            words.append(start + part.describe())
        return ", ".join(words)

    def vector(self, store: Store, load: Callable[[], Clip]) -> NDArray[np.float32]:
        """(E,) of unit length.

        Args:
            store: for ids.
            load: gives the model; called only if a part needs it.

        Raises:
            InputError: an id or file that is not there, or parts that cancel each other out.
        """
        total = np.zeros(store.schema.width)
        for part in self.parts:
            total += part.weight * _encode(part, store, load)
        length = float(np.linalg.norm(total))
        if length < 1e-6:
            raise InputError("the parts of the query cancel each other out; change their weights.")
        unit: NDArray[np.float32] = (total / length).astype(np.float32)
        return unit


def _weighted(given: Wanted, usual: float) -> Iterator[tuple[Any, float]]:
    """(value, weight) of each part of an argument."""
    if given is None:
        return
    parts = given if isinstance(given, list) or _is_several(given) else [given]
    for part in parts:
        if isinstance(part, tuple) and len(part) == 2:
            weight = check_number("a weight", part[1], "pass a number above 0.")
            if not 0 < weight <= _HEAVIEST:
                raise InputError(
                    f"a weight must be above 0 and at most {_HEAVIEST:g}, got {weight:g}; use "
                    "`unlike` for less."
                )
            yield part[0], weight
        else:
            yield part, usual


def _is_several(given: Any) -> bool:
    """Whether a tuple is parts, not one part and its weight."""
    return isinstance(given, tuple) and not (len(given) == 2 and isinstance(given[1], int | float))


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _encode(part: QueryPart, store: Store, load: Callable[[], Clip]) -> NDArray[np.float64]:
    """(E,) of unit length."""
    value, picture = part.value, part.picture
    if isinstance(value, os.PathLike) and not os.path.exists(value):  # noqa: PTH110 of any name
        value, picture = os.fspath(value), True  # perhaps it is in the library
    if isinstance(value, str):
        may_be_stored = picture or part.weight < 0
        stored = _stored_vector(store, value) if may_be_stored else None
        if stored is not None:
            return stored
        if not picture:
            found: NDArray[np.float64] = load().encode_text([value]).numpy()[0].astype(np.float64)
            return found
        if not os.path.exists(value):  # noqa: PTH110 of a name as it is
            raise InputError(
                f"`like` {value!r} is neither a picture of the library nor a file; pass an id or "
                "a path."
            )
    vectors: NDArray[np.float64] = load().encode_image([value]).numpy()[0].astype(np.float64)
    return vectors


def _stored_vector(store: Store, value: str) -> NDArray[np.float64] | None:
    """The vector of the picture with this id, or of the file with this path; None without one."""
    both = (value, os.path.abspath(value))  # noqa: PTH100 follows no links
    ids = list(dict.fromkeys(map(escape_surrogates, both)))
    names = [name for name in _FILE if name in store.schema.columns]  # a store may be no library
    for block in store.read(ids=ids, columns=names, vectors=True):
        assert block.vectors is not None
        for row, vector in zip(block.rows(), block.vectors, strict=True):
            if row.get("path") and not is_gone(row) and unchanged_file(row) is None:
                continue  # the file is embedded as it is now
            found: NDArray[np.float64] = vector.astype(np.float64)
            return found
    return None
