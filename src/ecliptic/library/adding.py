"""Adds pictures to a library: plans, reads, embeds and stores them, a batch at a time.

A picture is stored as a whole row or not at all, so a run that was killed goes on where it was: the
next one finds what is stored and does the rest. What is unchanged is not read, and what only moved,
or is a copy, is not embedded again. Memory holds one batch.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.engine import Clip, Item, escape_surrogates
from ecliptic.errors import EclipticError
from ecliptic.index import Compare, KeyedTable, Store, StoreRow
from ecliptic.inputs import Reject, decode_many
from ecliptic.library.facts import read_facts
from ecliptic.library.known import KnownFiles
from ecliptic.library.layout import COLUMNS
from ecliptic.library.pictures import NewPicture, find_file, folder_of
from ecliptic.library.rejected import RejectedPicture, RejectedPictures

MOST_ROWS = 4096  # of a commit
LONGEST = 10.0  # seconds between commits
_EPOCH = datetime(1970, 1, 1)
_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_Stored = tuple[NewPicture, NDArray[np.float32]]


@dataclass
class AddSummary:
    """What became of the pictures of one call of `add`."""

    added: int = 0
    changed: int = 0  # files whose content is another one than before
    moved: int = 0  # files with the content of a file that is gone; not embedded again
    copied: int = 0  # files with the content of another file; not embedded again
    unchanged: int = 0
    rejected: list[RejectedPicture] = field(default_factory=list)
    rejected_before: int = 0  # files that are as they were when they were rejected
    gone: list[str] = field(default_factory=list)  # ids of files that are no longer there
    removed: int = 0  # of these, with `prune`
    interrupted: bool = False  # by Ctrl-C; what was embedded is stored

    @property
    def seen(self) -> int:
        """The number of pictures that were looked at."""
        done = self.added + self.changed + self.moved + self.copied + self.unchanged
        return done + len(self.rejected) + self.rejected_before


@dataclass
class LibraryParts:
    """The tables of a library, for the modules that work on them."""

    store: Store
    thumbnails: KeyedTable
    rejects: RejectedPictures


class Adding:
    """One call of `add`."""

    def __init__(
        self,
        parts: LibraryParts,
        clip: Clip,
        advance: Callable[[int], object],
        *,
        retry: bool,
        batch_size: int | None,
        find: Callable[[Item], NewPicture] = find_file,
    ) -> None:
        self.parts, self._clip, self._advance = parts, clip, advance
        self._retry, self._batch_size, self._find = retry, batch_size, find
        self._columns = parts.store.schema.columns
        self._known = KnownFiles(parts.store)
        self.summary = AddSummary()
        self._fresh: list[_Stored] = []  # embedded, not stored yet
        self._reused: list[NewPicture] = []  # of a known content, not stored yet
        self._states: dict[str, str] = {}  # "new" or "changed", of the pictures on their way
        self._again: list[NewPicture] = []  # of a content that is no longer there
        self._noted = 0  # rejects that are stored
        self._committed = time.monotonic()

    def run(self, items: Iterable[Item]) -> None:
        """Add all items; Ctrl-C ends it early, with what was embedded."""
        try:
            self._embed(self._read(self._plan(items)))
            self._commit()
            preprocess, again = self._clip.preprocessor, self._again
            self._embed(picture.read(preprocess) for picture in again)
        except KeyboardInterrupt:
            self.summary.interrupted = True
        self._commit()

    def _plan(self, items: Iterable[Item]) -> Iterator[NewPicture]:
        """The pictures that are new or changed."""
        for item in items:
            try:
                if item.error is not None:
                    raise item.error
                picture = self._find(item)
                picture.extra |= read_facts(item.facts, self._columns)
            except EclipticError as error:
                self._reject(NewPicture(item, item.name), error)
                continue
            state = self._known.look_up(picture.id, picture.size, picture.mtime_ns)
            if state == "same":
                self.summary.unchanged += 1
                self._advance(1)
            elif not self._retry and self._was_rejected(picture):
                self.summary.rejected_before += 1
                self._advance(1)
            else:
                self._states[picture.id] = state
                yield picture

    def _was_rejected(self, picture: NewPicture) -> bool:
        return self.parts.rejects.is_known(picture.id, picture.size, picture.mtime_ns)

    def _read(self, pictures: Iterator[NewPicture]) -> Iterator[NewPicture]:
        """The pictures with a content that the library does not have."""
        waiting: list[NewPicture] = []

        def noted() -> Iterator[NewPicture]:
            for picture in pictures:
                waiting.append(picture)
                yield picture

        preprocess = self._clip.preprocessor
        read = decode_many(noted(), lambda picture: picture.read(preprocess), on_error="reject")
        with closing(read) as found:  # type: ignore[type-var]
            for _, result in found:
                picture = waiting.pop(0)
                if isinstance(result, Reject):
                    self._reject(picture, result.error)
                elif self._known.has_content(picture.content):
                    picture.data = b""
                    self._reused.append(picture)
                    self._advance(1)
                    self._commit_if_due()
                else:
                    yield picture

    def _embed(self, pictures: Iterator[NewPicture]) -> None:
        given: dict[int, NewPicture] = {}

        def noted() -> Iterator[NewPicture]:
            for place, picture in enumerate(pictures):
                given[place] = picture
                yield picture

        preprocess = self._clip.preprocessor
        encoder = self._clip.image_encoder()
        options: dict[str, Any] = {"batch_size": self._batch_size} if self._batch_size else {}
        stream = encoder.stream(
            noted(),
            normalize=True,
            reject=True,
            prepare=lambda picture: picture.prepare(preprocess),
            **options,
        )
        for part in stream:
            vectors = part.vectors.numpy()
            self._fresh += [(given.pop(i), row) for i, row in zip(part.kept, vectors, strict=True)]
            for reject in part.rejected:
                self._reject(given.pop(reject.index), reject.error)
            self._advance(len(part.kept))
            self._commit_if_due()

    def _reject(self, picture: NewPicture, error: EclipticError) -> None:
        self._states.pop(picture.id, None)
        reason = str(error).removeprefix(picture.item.name).lstrip(": ")
        rejected = RejectedPicture(picture.id, reason, picture.size, picture.mtime_ns)
        self.summary.rejected.append(rejected)
        self._advance(1)

    def _commit_if_due(self) -> None:
        rows = len(self._fresh) + len(self._reused)
        if rows >= MOST_ROWS or (rows and time.monotonic() - self._committed > LONGEST):
            self._commit()

    def _commit(self) -> None:
        """Store what was embedded and what is known; the thumbnails first."""
        fresh, self._fresh = self._fresh, []
        reused, self._reused = self._reused, []
        stored = self._store_fresh(fresh)
        self._store_reused(reused)
        self.parts.rejects.remove([picture.id for picture in (*stored, *reused)])
        rejected = self.summary.rejected[self._noted :]
        self._noted += len(rejected)
        self.parts.rejects.add(list({one.id: one for one in rejected}.values()))
        self._committed = time.monotonic()

    def _store_fresh(self, fresh: list[_Stored]) -> list[NewPicture]:
        pictures = [picture for picture, _ in fresh]
        if not pictures:
            return []
        small = {one.content: one.thumbnail for one in pictures if one.thumbnail}
        if small:
            self.parts.thumbnails.upsert(list(small), {"jpeg": list(small.values())})
        rows = [_new_row(picture) for picture in pictures]
        self._upsert(rows, np.stack([vector for _, vector in fresh]))
        self._known.add_contents(picture.content for picture in pictures)
        for picture in pictures:
            if self._states.pop(picture.id, "new") == "changed":
                self.summary.changed += 1
            else:
                self.summary.added += 1
        return pictures

    def _store_reused(self, pictures: list[NewPicture]) -> None:
        """Store files whose content is known, with the vector and the facts of that content."""
        if not pictures:
            return
        known = self._rows_of({picture.content for picture in pictures})
        rows, vectors, old = [], [], []
        for picture in pictures:
            if picture.content not in known:  # another process deleted its row meanwhile
                self._again.append(picture)
                continue
            others, vector = known[picture.content]
            source = next((one for one in others if one["id"] == picture.id), others[0])
            rows.append({**source, **_place(picture), **picture.extra})
            vectors.append(vector)
            old += self._count_reuse(picture, others)
        if rows:
            self._upsert(rows, np.stack(vectors))
        if old:
            self.parts.store.delete(ids=old)

    def _count_reuse(self, picture: NewPicture, others: list[StoreRow]) -> list[str]:
        """Count a file of a known content; returns the ids of the file that it was before."""
        changed = self._states.pop(picture.id, "new") == "changed"
        if any(one["id"] == picture.id for one in others):
            self.summary.unchanged += 1  # only its time is another one
            return []
        before = [str(one["id"]) for one in others if _is_gone(one)][:1]
        if before:
            self.summary.moved += 1
        elif changed:
            self.summary.changed += 1
        else:
            self.summary.copied += 1
        return before

    def _rows_of(self, contents: set[str]) -> dict[str, tuple[list[StoreRow], NDArray[np.float32]]]:
        """By content: the rows with it, and their vector."""
        found: dict[str, tuple[list[StoreRow], NDArray[np.float32]]] = {}
        tree = Compare("content", "in", tuple(contents))
        for block in self.parts.store.read(where=tree, vectors=True):
            assert block.vectors is not None
            for row, vector in zip(block.rows(), block.vectors, strict=True):
                found.setdefault(str(row["content"]), ([], vector.copy()))[0].append(row)
        return found

    def _upsert(self, rows: list[StoreRow], vectors: NDArray[np.float32]) -> None:
        ids = [str(row["id"]) for row in rows]
        columns = {
            name: [row.get(name) for row in rows] for name in self.parts.store.schema.columns
        }
        written = self.parts.store.upsert(ids, vectors, columns)
        for refused in written.refused:  # a name that no store can hold
            self.summary.rejected.append(RejectedPicture(refused.id, refused.reason))

    def find_gone(self, folders: Iterable[str]) -> None:
        """Note the pictures below `folders` whose files are no longer there."""
        for folder in folders:
            start = escape_surrogates(os.path.join(os.path.abspath(folder), ""))  # noqa: PTH100, PTH118
            where = Compare("path", "starts with", start)
            for block in self.parts.store.read(where=where, columns=["path"]):
                self.summary.gone += [str(row["id"]) for row in block.rows() if _is_gone(row)]


def _new_row(picture: NewPicture) -> StoreRow:
    added = datetime.now(UTC).replace(tzinfo=None)
    return {"added": added, **picture.facts, **_place(picture), **picture.extra}


def _place(picture: NewPicture) -> StoreRow:
    """The columns that tell where a picture is, and which bytes it had."""
    path = escape_surrogates(picture.path)
    modified = _EPOCH + timedelta(microseconds=picture.mtime_ns // 1000)
    row: StoreRow = {
        "id": escape_surrogates(picture.id),
        "path": path or None,
        "name": Path(path).name if path else picture.item.name,
        "folder": folder_of(path),
        "size": picture.size,
        "modified": modified if path else None,
        "mtime_ns": picture.mtime_ns,
        "content": picture.content,
    }
    assert row.keys() <= {"id", *COLUMNS}
    return row


def _is_gone(row: StoreRow) -> bool:
    """Whether the file of a row is no longer there; False for what never was a file."""
    path = row["path"]
    return isinstance(path, str) and not os.path.lexists(unescape(path))


def unescape(path: str) -> str:
    r"""The name of a file from its form in the store: \udcNN is a byte that is not UTF-8."""
    if os.path.lexists(path):
        return path
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path)
