"""Every error that ecliptic raises on purpose; each message says what is wrong, why, and the fix.

EclipticError
├── ConfigError            sizes or settings that contradict each other
│   └── SettingsError          a settings file or override with an unknown or ill-typed field
├── ShapeError             tensors whose shapes do not fit together
├── UnknownModelError      no catalog entry, file or folder has that name
├── CheckpointError        a problem with weights on disk
│   ├── UnsafeFileError        a pickle or archive that asks for more than tensors
│   ├── CorruptFileError       truncated, damaged, or not a weight file
│   │   └── TruncatedFileError     it ends too early
│   ├── AmbiguousCheckpointError  the file leaves something open; an argument decides it
│   ├── WeightsMismatchError   missing, unexpected or ill-shaped tensors
│   ├── UnsupportedLayoutError a layout that cannot be read, or cannot store the checkpoint
│   └── DownloadError          the hub cannot be reached, or sends wrong data
├── InputError             one image or text that cannot be used
│   ├── ImageError             cannot be decoded, or is not in an allowed format
│   │   └── ImageLimitError        too many bytes, pixels or too long an edge
│   ├── TextError              not text, or a prompt that its dialect refuses
│   │   └── TextTooLongError       more tokens than the context, under overflow="error"
│   └── FilterError            a filter on the columns of a store that cannot be read
├── MissingTowerError      the checkpoint has no image (or no text) tower
├── SpaceMismatchError     vectors of two different embedding spaces
├── NumericalError         the model produced NaN or infinity for an item
│   └── SamplingStoppedError   a step of a diffusion run did; it carries what was reached
├── ProcessError           another process of a training died or hangs
├── StorageError           vectors, tables or cache entries that cannot be read or written
│   └── MissingColumnError     a table without a column that is read
├── ExportError            an exported file that does not give the numbers of the model
└── MissingExtraError      an optional dependency is not installed
"""

import difflib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

# C0 and C1 controls, line and paragraph separators, directions of writing (Unicode 9, UAX 9:
# 2.1 to 2.4), invisible tags, and surrogates, which no encoding has
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_LINES = {"\n", "\t"}
_NOTED: ContextVar[list[tuple[str, str]] | None] = ContextVar("noted warnings", default=None)


def printable(text: object, *, lines: bool = False) -> str:
    r"""Write `text` so that it cannot control a terminal or change the order of what is read.

    Text from files, names and users may hold escape sequences, carriage returns or marks of the
    direction of writing. Each becomes an escape such as `\x1b` or `\u202e`.

    Args:
        text: a string or path; anything else is shown by `str`.
        lines: keep newlines and tabs, for texts that have several lines.
    """
    shown = os.fsdecode(text) if isinstance(text, bytes | os.PathLike) else str(text)
    return _UNSAFE.sub(lambda found: _escape(found[0], lines=lines), shown)


def _escape(character: str, *, lines: bool) -> str:
    if lines and character in _LINES:
        return character
    return character.encode("unicode_escape").decode()


def warn(
    message: str, category: type[Warning] = UserWarning, *, stacklevel: int | None = 1
) -> None:
    """Warn as `warnings.warn` does, with a message that is `printable`.

    Args:
        message: for people, in one line.
        category: class of the warning.
        stacklevel: 1 is the line that calls this function; None: the line of the user that called
            ecliptic, so that each call of a script has its own warning.
    """
    shown = printable(message)
    if (noted := _NOTED.get()) is not None:
        noted.append((category.__name__, shown))
    warnings.warn(shown, category, (stacklevel or _count_own_frames()) + 1)


@contextmanager
def note_warnings() -> Iterator[list[tuple[str, str]]]:
    """Keep (name of the class, message) of each warning of `warn` inside the block, in its thread.

    The warnings are shown as always; an outer block keeps those of an inner one too.
    """
    outer, noted = _NOTED.get(), list[tuple[str, str]]()
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)
        if outer is not None:
            outer += noted


def _count_own_frames() -> int:
    """The number of our functions between the line of the user and `warn`."""
    folder, count = os.path.dirname(__file__) + os.sep, 0  # noqa: PTH120 of a name as it is
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(folder):
        frame, count = frame.f_back, count + 1
    return count + 1


class EclipticError(Exception):
    """The base class of all errors that ecliptic raises on purpose.

    Its message is `printable`: names and texts of a user inside it cannot control a terminal, nor
    begin a line of their own.

    Args:
        lines: of the message; most have one. A newline inside a line is shown as an escape.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(printable, lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


class ConfigError(EclipticError, ValueError):
    """Sizes or settings that contradict each other."""


class SettingsError(ConfigError):
    """A settings file or override with an unknown or ill-typed field."""


class ShapeError(EclipticError, ValueError):
    """Tensors whose shapes do not fit together."""


def find_near(name: object, known: Iterable[str], count: int = 1) -> list[str]:
    """The `known` names near `name`, at most `count`, nearest first; case does not count."""
    names: dict[str, list[str]] = {}
    for one in dict.fromkeys(known):
        names.setdefault(one.casefold(), []).append(one)
    near = difflib.get_close_matches(str(name).casefold(), list(names), n=count)
    return [one for folded in near for one in names[folded]][:count]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """ "did you mean 'X'?" for the nearest of the `known` names, "" if none is near."""
    near = find_near(name, known)
    return f"did you mean {near[0]!r}?" if near else ""


class UnknownModelError(EclipticError, LookupError):
    """No catalog entry, file or folder has that name."""

    def __init__(self, name: str, known: Iterable[str] = (), fix: str = "") -> None:
        fix = fix or did_you_mean(name, known) or "run `ecliptic models` to list the names."
        super().__init__(f"no model or file is called {name!r}; {fix}")


class CheckpointError(EclipticError):
    """A problem with weights on disk."""


class UnsafeFileError(CheckpointError):
    """A pickle or archive that asks for more than tensors."""


class CorruptFileError(CheckpointError):
    """A file that is truncated, damaged, or not a weight file."""


class TruncatedFileError(CorruptFileError):
    """A file that ends before its own header says."""


class AmbiguousCheckpointError(CheckpointError):
    """The file leaves something open; the message names the argument that decides it."""


class WeightsMismatchError(CheckpointError):
    """Missing, unexpected or ill-shaped tensors; the message counts all and names the first."""


class UnsupportedLayoutError(CheckpointError):
    """A layout that cannot be read, or cannot store the checkpoint."""


class DownloadError(CheckpointError):
    """The hub cannot be reached, or sends wrong data."""


class InputError(EclipticError, ValueError):
    """One image or text that cannot be used."""


class ImageError(InputError):
    """An image that cannot be decoded, or is not in an allowed format."""

    def __init__(self, message: str, *, source: str | None = None) -> None:
        super().__init__(message)
        self.source = source  # the image that the message names; None if it names none yet


class ImageLimitError(ImageError):
    """Too many bytes, pixels, or too long an edge."""


class TextError(InputError):
    """Not text that the tokenizer accepts, or a prompt that its dialect refuses."""

    def __init__(self, message: str, *, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place  # of a character of the text, from 0; None if not known


class TextTooLongError(TextError):
    """More tokens than the context holds, under `overflow="error"`."""


class FilterError(InputError):
    """A filter on the columns of a store that cannot be read, or does not fit the columns."""

    def __init__(self, message: str, *, place: int | None = None) -> None:
        super().__init__(message)
        self.place = place  # of a character of the text, from 0; None if not known


class MissingTowerError(EclipticError):
    """The checkpoint has no image (or no text) tower."""


class SpaceMismatchError(EclipticError, ValueError):
    """Vectors of two different embedding spaces."""


class NumericalError(EclipticError, ArithmeticError):
    """The model produced NaN or infinity for an item."""


class SamplingStoppedError(NumericalError):
    """A step of a diffusion run gave NaN or infinity.

    Args:
        message: what happened.
        step: how many steps were done before it.
        reached: (B, ...) the last prediction of the image that was finite; None before the first.
    """

    def __init__(self, message: str, step: int = 0, reached: object = None) -> None:
        super().__init__(message)
        self.step, self.reached = step, reached


class ProcessError(EclipticError):
    """Another process of a training died or hangs, so the training cannot go on."""


class StorageError(EclipticError):
    """Vectors or cache entries that cannot be read or written."""


class MissingColumnError(StorageError):
    """A table without a column that is read."""

    def __init__(self, message: str, *, header: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.header = tuple(header)  # the columns that it has


class ExportError(EclipticError):
    """A model that cannot be exported, or an exported file that gives other numbers."""


class MissingExtraError(EclipticError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
