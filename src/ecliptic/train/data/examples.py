"""`Examples`: what a source of training data must offer.

A source is a sequence that can be read at any place, so that a run goes on where it stopped, and
that can be pickled, so that worker processes read it. It keeps no position and no random state:
what is random about an example is drawn from the generator that it is given.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Protocol, runtime_checkable

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSource


@dataclass(frozen=True, eq=False)
class Example:
    """One image and one caption of it."""

    key: str  # names the example in messages and in rejects.jsonl
    image: ImageSource
    caption: str
    negatives: tuple[str, ...] = ()  # captions that do not fit the image
    concept: str = ""  # what it shows: examples of one are no negatives; empty: by the caption


class Examples(Protocol):
    """A source of pairs."""

    def __len__(self) -> int:
        """The number of examples."""

    def draw(self, index: int, random: Random) -> Example:
        """Example `index`; where it has several captions or pictures, `random` chooses one.

        Raises:
            EclipticError: it cannot be read; the run counts it and takes another one.
        """

    def picture(self, index: int) -> ImageSource:
        """The picture of example `index`; the first one where it has several. For evaluation.

        Raises:
            EclipticError: it cannot be read.
        """

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of example `index`, the main one first, without templates.

        For evaluation; not empty.

        Raises:
            EclipticError: they cannot be read.
        """

    def fingerprint(self) -> str:
        """What decides the examples: of files, `hash_files` of them."""


@runtime_checkable
class Named(Protocol):
    """A source that knows names beyond those of its own examples."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names among which an image is to be named."""


@runtime_checkable
class Conceptual(Protocol):
    """A source whose examples have a concept each."""

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts of its examples."""


def count_examples(source: Examples, number: int) -> int:
    """The length of a source.

    Raises:
        ConfigError: it has none, such as an endless stream.
    """
    try:
        return len(source)
    except (TypeError, AttributeError):
        raise ConfigError(
            f"source {number} of data.sources has no length: a run goes on after an interruption "
            "by reading any example again, which a stream cannot offer. Store it in files that can "
            "be read at any place, such as tars."
        ) from None


def hash_files(paths: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str] = "") -> str:
    """ "A-B": hex of the names and sizes of files, and hex of their times.

    A file that is missing counts as such. Names count from the folder `root` on, so that a folder
    may be moved; a copy often has other times.
    """
    digest, times = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        name = os.fspath(path)
        try:
            facts = os.stat(name)  # noqa: PTH116 millions of names
            about, time = str(facts.st_size), facts.st_mtime_ns
        except OSError:
            about, time = "missing", 0
        name = name.removeprefix(os.path.join(root, ""))  # noqa: PTH118
        digest.update(name.encode(errors="surrogateescape") + f"\0{about}\0".encode())
        times.update(f"{time}\0".encode())
    return f"{digest.hexdigest()}-{times.hexdigest()}"


def join_fingerprints(prints: Iterable[str]) -> str:
    """One fingerprint of several, in the form of `hash_files`."""
    pairs = [one.partition("-")[::2] for one in prints]
    parts = ([pair[part] for pair in pairs] for part in (0, 1))
    return "-".join(hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in parts)
