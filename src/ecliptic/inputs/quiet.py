"""Pillow's warnings kept from the caller while an image is decoded, in any number of threads.

Pillow warns about odd metadata that changes no pixel, and about bombs that `ImageLimits` refuses
anyway. `warnings.catch_warnings` swaps one list for the whole process, so decoding threads would
undo the filters of the code beside them. Instead one rule joins the list and matches only in a
thread that is decoding, and only what PIL's own modules say.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class _WhileDecoding(threading.local):
    """Stands where a filter keeps its module pattern; `active` is per thread."""

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
    """Drop warnings of PIL's modules in this thread; other threads and modules keep theirs."""
    _put_rule_first()
    before, _decoding.active = _decoding.active, True
    try:
        yield
    finally:
        _decoding.active = before
