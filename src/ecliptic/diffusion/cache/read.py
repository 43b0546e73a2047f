"""Reads a dataset cache: conditionings by key, by id or by prompt.

`write.py` writes the folder and `verify.py` checks it. Every entry is checked when it is read: its
tensors against their checksum, and its key against its prompt and the settings. A shard that cannot
be read does not close the folder. Memory holds a few mapped files, whatever the folder's size.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecliptic.diffusion.cache.index import CacheIndex
from ecliptic.diffusion.cache.keys import StoredConditioning
from ecliptic.diffusion.cache.shards import Shard, read_shard, shard_path, shard_paths
from ecliptic.errors import ConfigError, CorruptFileError, StorageError

_OPEN = 16  # mapped shards


class ConditionCache:
    """The conditionings in a folder that `write_cache` filled.

    Threads and the worker processes of a data loader may share it. `refresh()` adds the shards that
    another process wrote since.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open `folder`.

        Raises:
            StorageError: there is no such folder, or nothing in it can be read.
        """
        self.folder = Path(folder)
        self._index = CacheIndex(self.folder)
        self._shards: OrderedDict[int, Shard] = OrderedDict()
        self._identities: list[dict[str, Any]] | None = None  # None until they are asked for
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        """Number of different prompts."""
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return self._index.keys()

    def __contains__(self, key: str) -> bool:
        return bool(self._index.shards_of([key]))

    def get(self, key: str) -> StoredConditioning | None:
        """The conditioning of `key`, or None if it is not stored.

        Raises:
            CorruptFileError: it is damaged, or belongs to another prompt.
            StorageError: its shard cannot be read.
        """
        number = self._index.shards_of([key]).get(key)
        if number is None:
            return None
        shard = self._open_shard(number)
        if problem := shard.find_problem(key):
            raise CorruptFileError(
                f"{shard_path(self.folder, number)} is damaged at {key[:12]}: {problem[1]}; remove "
                "it with `ecliptic captions repair`, and write the captions again."
            )
        return shard.conditioning(key)

    def load(self, name: str, identity: Mapping[str, Any] | None = None) -> StoredConditioning:
        """The conditioning of a caption.

        Args:
            name: its id, or else its prompt.
            identity: of `cache_identity`; needed if the folder holds several.

        Raises:
            StorageError: nothing is stored for it.
            ConfigError: the folder holds several identities, and none is given.
        """
        identity = self._find_identity() if identity is None else identity
        key = self._index.keys_of([name], identity).get(name)
        found = None if key is None else self.get(key)
        if found is None:
            raise StorageError(
                f"{self.folder} holds nothing for {name[:80]!r} under these settings; write it "
                f"with `ecliptic captions write` or `write_cache`{self._describe_unreadable()}."
            )
        return found

    def items(self) -> Iterator[tuple[str, str, StoredConditioning]]:
        """Yield (key, prompt, conditioning) of all entries, in the order of their shards.

        Shards that cannot be read are left out; `verify_cache` names them.
        """
        unreadable = self._index.unreadable()
        for number in sorted(shard_paths(self.folder).keys() - unreadable.keys()):
            shard = self._open_shard(number)
            here = self._index.shards_of(list(shard.entries))
            for key, entry in shard.entries.items():
                found = self.get(key) if here.get(key) == number else None
                if found is not None:
                    yield key, entry.prompt, found

    def identities(self) -> list[dict[str, Any]]:
        """The identities of the keys in the folder: one for each setting."""
        return [json.loads(text) for text in self._index.identities()]

    def refresh(self) -> None:
        """Add what other processes wrote since."""
        with self._lock:
            self._shards.clear()
        self._identities = None
        self._index.sync()

    def __enter__(self) -> "ConditionCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._shards.clear()
        self._index.close()

    def _describe_unreadable(self) -> str:
        problems = list(self._index.unreadable().values())
        return f"; {len(problems)} shards cannot be read: {problems[0]}" if problems else ""

    def _find_identity(self) -> dict[str, Any]:
        if self._identities is None:
            self._identities = self.identities()
        found = self._identities
        if len(found) > 1:
            raise ConfigError(
                f"{self.folder} holds conditionings of {len(found)} settings, so a name alone "
                "is ambiguous; pass identity=cache_identity(conditioner, ...)."
            )
        return found[0] if found else {}

    def _open_shard(self, number: int) -> Shard:
        with self._lock:
            if number not in self._shards:
                path = shard_path(self.folder, number)
                try:
                    self._shards[number] = read_shard(path)
                except OSError as error:
                    raise StorageError(
                        f"{path} cannot be read: {error.strerror}; call refresh()."
                    ) from None
            self._shards.move_to_end(number)
            while len(self._shards) > _OPEN:
                self._shards.popitem(last=False)
            return self._shards[number]
