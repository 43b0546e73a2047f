"""Silences Pillow's warnings while an image is decoded, in any number of threads.

Pillow warns about odd metadata that changes no pixel, and about decompression bombs that
`ImageLimits` refuses anyway. `warnings.catch_warnings` replaces the filters of the whole process,
so decoding threads would change the filters of other threads. Instead one added rule matches only
warnings of PIL's own modules, and only in a thread that is decoding.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


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


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Drop warnings of PIL's modules in this thread, and no others."""
    _put_rule_first()
    before, _decoding.active = _decoding.active, True
    try:
        yield
    finally:
        _decoding.active = before
