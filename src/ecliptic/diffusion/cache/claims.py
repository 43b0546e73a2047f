"""Writers of one folder share the work: each claims the prompts that it is about to compute.

A claim is a row of the index with the name of its writer, taken in a transaction. A writer is alive
as long as it holds the lock of its own file, which the system drops when its process ends, however
it ends. So no clock decides whose work is taken over. A lost or stolen claim costs time, never
data: the first shard of a key counts.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecliptic.diffusion.cache.rows import select_rows, select_where, write_rows
from ecliptic.storage import Connection, Presence, is_present, transaction

_NAME = re.compile(r"writer-[0-9a-f]{32}\.sqlite")


@dataclass(frozen=True)
class Claimed:
    """What came of the prompts that a writer asked for; others have the rest."""

    mine: list[str]  # keys that this writer now computes
    stored: list[str]  # keys that are stored meanwhile


class CacheWriter:
    """One run that writes into a folder; it has a file only from its first claim on."""

    def __init__(self, folder: Path) -> None:
        """Name a new writer of `folder`."""
        self._folder = folder
        self._owner = secrets.token_bytes(16)
        self._presence: Presence | None = None

    def claim(
        self, file: Connection, keys: Sequence[str], most: int, *, steal: bool = False
    ) -> Claimed:
        """Claim the first `most` of `keys` that are neither stored nor another's.

        Args:
            file: the index.
            keys: of prompts that are to be computed.
            most: number of prompts to claim.
            steal: claim also what a living writer has claimed.
        """
        with transaction(file):
            if self._presence is None:  # in a transaction, so that nobody cleans it away
                self._presence = Presence(_path_of(self._folder, self._owner))
            asked = [bytes.fromhex(key) for key in keys]
            stored = {key for key, _ in select_rows(file, "entries", "key", asked)}
            held = select_rows(file, "claims", "key", asked)
            others = set() if steal else self._find_others({owner for _, owner in held})
            taken = stored | {key for key, owner in held if owner in others}
            free = (key for key in asked if key not in taken)
            mine = [key for key, _ in zip(free, range(most), strict=False)]
            write_rows(file, "claims", ((key, self._owner) for key in mine))
        return Claimed([key.hex() for key in mine], [key.hex() for key in stored])

    def release(self, file: Connection, keys: Iterable[str]) -> None:
        """Give up the claims to `keys`, because they are stored or refused; in a transaction."""
        rows = [(bytes.fromhex(key), self._owner) for key in keys]
        if self._presence is not None:
            file.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", rows)

    def leave(self, file: Connection) -> None:
        """Give up all claims."""
        if self._presence is not None:
            with transaction(file):
                file.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
                self.close()

    def close(self) -> None:
        """Remove the file of this writer, so that others take over its claims."""
        if self._presence is not None:
            self._presence.close()
            self._presence = None

    def _find_others(self, owners: set[bytes]) -> set[bytes]:
        """The living writers among `owners` without this one."""
        others = owners - {self._owner}
        return {owner for owner in others if is_present(_path_of(self._folder, owner))}


def remove_dead_writers(file: Connection, folder: Path) -> int:
    """Remove what killed writers left, in a transaction; returns the number of files."""
    dead = {
        path
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and not path.is_dir() and not is_present(path)
    }
    for path in dead:
        path.unlink(missing_ok=True)
    owners = {owner for _, owner in select_where(file, "claims")}
    gone = [(owner,) for owner in owners if not is_present(_path_of(folder, owner))]
    file.executemany("DELETE FROM claims WHERE owner = ?", gone)
    return len(dead)


def _path_of(folder: Path, owner: bytes) -> Path:
    return folder / f"writer-{owner.hex()[:32]}.sqlite"
