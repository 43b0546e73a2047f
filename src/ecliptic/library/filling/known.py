"""What a library knows about its files: which are unchanged, and which contents it has.

It keeps about 100 bytes for each picture in memory, not the rows. Ids and contents are looked up
by 64 bits of a hash; size and time must be equal too.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from ecliptic.index import ColumnValue, Store

_FILE = ("path", "size", "mtime_ns", "content")
_NONE = -1


class KnownFiles:
    """The files of a store as they were when they were added."""

    def __init__(self, store: Store) -> None:
        self._ids: dict[str, str] = {}  # by path, of imported pictures with other ids
        ids, sizes, times, contents = list[int](), list[int](), list[int](), list[int]()
        for block in store.read(columns=_FILE):
            ids += map(_key, block.ids)
            sizes += [_number(value) for value in block.columns["size"]]
            times += [_number(value) for value in block.columns["mtime_ns"]]
            contents += [_content_key(value) for value in block.columns["content"]]
            pairs = zip(block.columns["path"], block.ids, strict=True)
            self._ids |= {str(path): id_ for path, id_ in pairs if path and path != id_}
        keys = np.array(ids, dtype=np.uint64)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._sizes = np.array(sizes, dtype=np.int64)[order]
        self._times = np.array(times, dtype=np.int64)[order]
        self._contents = np.sort(np.array(contents, dtype=np.uint64))
        self._new_contents: set[int] = set()
        self._asked: set[int] = set()  # ids of this run

    def __len__(self) -> int:
        return len(self._keys)

    def id_of(self, path: str) -> str:
        """The id of a file: its path, unless it was imported under another one."""
        return self._ids.get(path, path)

    def has(self, id_: str) -> bool:
        """Whether there is a picture with this id."""
        return self._find(_key(id_)) is not None

    def _find(self, key: int) -> int | None:
        place = int(np.searchsorted(self._keys, np.uint64(key)))
        return place if place < len(self._keys) and int(self._keys[place]) == key else None

    def look_up(self, id_: str, size: int, mtime_ns: int) -> str:
        """ "new", "changed", "same", or "again" for an id that was looked up before."""
        if (key := _key(id_)) in self._asked:
            return "again"
        self._asked.add(key)
        if (place := self._find(key)) is None:
            return "new"
        same = self._sizes[place] == size and self._times[place] == mtime_ns
        return "same" if same else "changed"

    def was_looked_up(self, id_: str) -> bool:
        """Whether `look_up` was asked for this id."""
        return _key(id_) in self._asked

    def has_content(self, content: str) -> bool:
        """Whether a picture with these bytes was stored, before or in this run."""
        key = _content_key(content)
        place = int(np.searchsorted(self._contents, np.uint64(key)))
        stored = place < len(self._contents) and int(self._contents[place]) == key
        return stored or key in self._new_contents

    def add_contents(self, contents: Iterable[str]) -> None:
        """Note pictures that were stored in this run."""
        self._new_contents.update(map(_content_key, contents))


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _content_key(value: ColumnValue | None) -> int:
    try:
        return int(value[:16], 16) if isinstance(value, str) and value else 0
    except ValueError:  # an imported column that holds something else
        return 0


def _number(value: ColumnValue | None) -> int:
    return value if isinstance(value, int) else _NONE
