"""The index of a cache folder: the shard of each key and the key of each name, in an SQLite file.

A name is a caption's id or a prompt. An id hides a prompt of the same text, so both are rows of one
table: a lost row is a miss, never the other caption. Each row has a checksum.

The index is derived from the shards: it is updated when it is opened, and rebuilt when it is
missing, damaged or of another version. Its write lock is the lock of the folder: a process holds it
while it writes a shard, or removes the files of killed runs.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ecliptic.diffusion.cache.claims import CacheWriter, Claimed, remove_dead_writers
from ecliptic.diffusion.cache.indexing import (
    PROMPT,
    Changes,
    count_lost,
    find_last,
    index_shards,
    insert_shard,
    rebuild_index,
    settle_lost,
    stamp_of,
    sync_index,
)
from ecliptic.diffusion.cache.keys import key_maker
from ecliptic.diffusion.cache.rows import SCHEMA, select_rows, select_where
from ecliptic.diffusion.cache.shards import (
    Shard,
    check_identity,
    drafts,
    publish,
    shard_path,
)
from ecliptic.errors import StorageError
from ecliptic.storage import (
    Connection,
    DamagedRowError,
    HealingDatabase,
    check_path,
    transaction,
)

_NEXT = "key > ? ORDER BY key LIMIT 1000"


class CacheIndex:
    """The index of one folder; threads and processes may share it, also forked ones."""

    def __init__(self, folder: Path) -> None:
        """Open the index of `folder`.

        Raises:
            StorageError: there is no such folder, or the index cannot be used.
        """
        check_path(folder)
        if not folder.is_dir():
            raise StorageError(
                f"there is no cache folder {folder}; `ecliptic captions write` or `write_cache` "
                "makes one."
            )
        self.folder = folder
        self._writer = CacheWriter(folder)
        self.changes = Changes()  # that were found on disk since the index was opened
        self._database = HealingDatabase(
            folder, SCHEMA, lambda found: sync_index(found, folder, self.changes)
        )
        self._run = self._database.run
        self.sync()

    @property
    def replaced(self) -> list[Path]:
        """Damaged files of the index, in whose place there is a new one."""
        return self._database.replaced

    def sync(self) -> None:
        """Add shards that other processes wrote; remove those that are gone or changed."""
        self._run(sync_index, self.folder, self.changes)

    def rebuild(self, forget: Collection[int] = ()) -> None:
        """Rebuild the index from the shards; forget what those numbered `forget` have lost."""
        self._run(rebuild_index, self.folder, forget)

    def publish(self, shard: Shard) -> int:
        """Write a shard under the next free number; returns the number."""
        return self._run(_publish, self.folder, shard, self._writer)

    def claim(self, keys: Sequence[str], most: int, *, steal: bool = False) -> Claimed:
        """Claim `most` of `keys` to compute them; `steal` also takes what others claimed."""
        return self._run(self._writer.claim, keys, most, steal=steal)

    def release(self, keys: Collection[str]) -> None:
        """Give up claims to prompts that cannot be computed."""
        self._run(_release, self._writer, keys)

    def leave(self) -> None:
        """Give up all claims; another writer may take them over."""
        try:
            self._run(self._writer.leave)
        finally:
            self._writer.close()

    def clean(self) -> int:
        """Remove the files of killed runs; returns their number."""
        return self._run(_clean, self.folder)

    def shards_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The shard number of each key that is stored."""
        rows = self._run(select_rows, "entries", "key", [bytes.fromhex(key) for key in keys])
        return {key.hex(): number for key, number in rows}

    def keys_of(self, names: Sequence[str], identity: Mapping[str, Any]) -> dict[str, str]:
        """The key that each id, or else prompt, stands for under `identity`."""
        found = self._find_names(names, identity)
        return {name: key for name, (key, _) in found.items()}

    def keys_in(self, number: int) -> set[str]:
        """The keys that are read from shard `number`."""
        rows = self._run(select_where, "entries", "shard = ?", (number,))
        return {key.hex() for key, _ in rows}

    def missing(self, number: int, shard: Shard) -> Iterator[str]:
        """Yield what shard `number` holds and the index does not know."""
        known = self.shards_of(list(shard.entries))
        yield from (key for key in shard.entries if known.get(key, number + 1) > number)
        found = self._find_names([*shard.ids], shard.identity)
        for id_, key in shard.ids.items():
            now, last = found.get(id_, ("", PROMPT))
            if last < number or (last == number and now != key):
                yield key

    def keys(self) -> Iterator[str]:
        """Yield all keys in order, with one page of them in memory."""
        last = b""
        while page := self._run(_read_page, last):
            yield from (key.hex() for key in page)
            last = page[-1]

    def identities(self) -> list[str]:
        """The different identities of the shards, as canonical JSON."""
        return self._run(_read_identities)

    def identity_of(self, number: int) -> dict[str, Any] | None:
        """The identity of shard `number` when it was last read, if that is known."""
        return self._run(_read_identity, number)

    def lost(self) -> dict[int, tuple[int, int]]:
        """How many prompts and ids were in each shard, by number, and are found nowhere now."""
        return self._run(count_lost)

    def unreadable(self) -> dict[int, str]:
        """The reason for each shard that cannot be read or is gone, by number."""
        rows = self._run(select_where, "shards", "problem IS NOT NULL")
        return {number: problem.decode(errors="replace") for number, *_, problem in rows}

    def __len__(self) -> int:
        return self._run(_count)

    def close(self) -> None:
        """Close the file; the next use of the index reopens it."""
        self._database.close()

    def _find_names(
        self, names: Sequence[str], identity: Mapping[str, Any]
    ) -> dict[str, tuple[str, int]]:
        """The key and shard of each name."""
        key_of = key_maker(identity)
        by_hash = {bytes.fromhex(key_of(name)): name for name in names}
        rows = self._run(select_rows, "names", "name", list(by_hash))
        return {by_hash[name]: (key.hex(), shard) for name, key, shard in rows}


def _read_identities(file: Connection) -> list[str]:
    rows = select_where(file, "shards", "problem IS NULL")
    found = sorted({identity for *_, identity, _ in rows})
    for identity in found:
        _parse_identity(identity)
    return [identity.decode() for identity in found]


def _read_identity(file: Connection, number: int) -> dict[str, Any] | None:
    rows = select_where(file, "shards", "number = ? AND identity IS NOT NULL", (number,))
    return _parse_identity(rows[0][3]) if rows else None


def _parse_identity(identity: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(identity)
        check_identity(found)
    except (ValueError, RecursionError) as error:
        raise DamagedRowError(f"an identity is damaged: {error}") from None
    return found


def _read_page(file: Connection, last: bytes) -> list[bytes]:
    """The next keys after `last`; out of order, they would never end."""
    page = [key for key, _ in select_where(file, "entries", _NEXT, (last,))]
    if any(key <= before for before, key in pairwise([last, *page])):
        raise DamagedRowError("the keys are out of order")
    return page


def _publish(file: Connection, folder: Path, shard: Shard, writer: CacheWriter) -> int:
    with transaction(file):
        index_shards(file, folder, Changes())
        number = publish(folder, shard, find_last(file) + 1)
        insert_shard(file, number, stamp_of(shard_path(folder, number)), shard)
        settle_lost(file)
        writer.release(file, shard.entries)
    return number


def _release(file: Connection, writer: CacheWriter, keys: Collection[str]) -> None:
    with transaction(file):
        writer.release(file, keys)


def _clean(file: Connection, folder: Path) -> int:
    with transaction(file):
        left = drafts(folder)
        for path in left:
            path.unlink(missing_ok=True)
        dead = remove_dead_writers(file, folder)
    return len(left) + dead


def _count(file: Connection) -> int:
    return int(file.execute("SELECT COUNT(key) FROM entries").fetchone()[0])
