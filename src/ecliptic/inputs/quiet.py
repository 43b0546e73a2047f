"""Silences Pillow's warnings while an image is decoded, in any number of threads.

Pillow warns about odd metadata that changes no pixel, and about decompression bombs that
`ImageLimits` refuses anyway. `warnings.catch_warnings` replaces the filters of the whole process,
so decoding threads would change the filters of other threads. Instead one added rule matches only
warnings of PIL's own modules, and only in a thread that is decoding.

libtiff writes a line to stderr for every fault of a damaged TIFF; Pillow raises an error for what
matters. Its handler of errors is one pointer of the library, so it cannot be set for one thread,
and turning stderr itself away would lose what other threads write. So the handler is removed once,
before the first image: nothing but those lines depends on it.
"""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from PIL import _imaging


class _WhileDecoding(threading.local):
    """Takes the place of a filter's module pattern; `active` is per thread."""

    active = False

    def match(self, module: str) -> bool:
        return self.active and module.startswith("PIL.")


_decoding = _WhileDecoding()
_RULE = ("ignore", None, Warning, _decoding, 0)
_lock = threading.Lock()


def _put_rule_first() -> None:
    filters = cast("list[Any]", warnings.filters)
    if filters and filters[0] is _RULE:
        return
    with _lock:
        filters[:] = [_RULE, *(rule for rule in filters if rule is not _RULE)]


@cache
def _silence_decoders() -> None:
    """Remove libtiff's handlers of messages; none are found where Pillow's build hides them.

    Pillow's own log reaches stderr only if nobody handles it, so a handler that does nothing is
    enough, and a log that the caller has set up still gets every record.
    """
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        library = ctypes.CDLL(_imaging.__file__)  # finds symbols of the libraries it needs too
        handlers = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (AttributeError, OSError):
        return
    for set_handler in handlers:
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Drop warnings of PIL's modules in this thread, and no others."""
    _silence_decoders()
    _put_rule_first()
    before, _decoding.active = _decoding.active, True
    try:
        yield
    finally:
        _decoding.active = before
