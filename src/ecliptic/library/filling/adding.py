"""Adds pictures to a library: plans, reads, embeds and stores them, a batch at a time.

A picture is stored as a whole row or not at all, so a run that was killed goes on where it was: the
next one finds what is stored and does the rest. What is unchanged is not read, and what only moved,
or is a copy, is not embedded again. Memory holds one batch.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.engine import Clip, Item
from ecliptic.errors import EclipticError, InputError
from ecliptic.index import Compare, StoreRow
from ecliptic.inputs import Reject, decode_many
from ecliptic.library.filling.facts import read_facts
from ecliptic.library.filling.known import KnownFiles
from ecliptic.library.filling.parts import AddSummary, LibraryParts
from ecliptic.library.filling.pictures import (
    NewPicture,
    find_file,
    is_numbered,
    name_picture,
)
from ecliptic.library.filling.places import is_gone, is_lost, is_there
from ecliptic.library.filling.rejected import RejectedPicture
from ecliptic.library.filling.rows import kept_of, make_row, read_kept

MOST_ROWS = 4096  # of a commit
LONGEST = 10.0  # seconds between commits
_Stored = tuple[NewPicture, NDArray[np.float32]]
_Contents = dict[str, tuple[list[StoreRow], NDArray[np.float32]]]


class Adding:
    """One call of `add`."""

    def __init__(
        self,
        parts: LibraryParts,
        clip: Clip,
        advance: Callable[[int], object],
        check: Callable[[], object] = lambda: None,
        *,
        retry: bool,
        batch_size: int | None,
        find: Callable[[Item], NewPicture] = find_file,
    ) -> None:
        self.parts, self._clip, self._advance = parts, clip, advance
        self._retry, self._batch_size, self._find = retry, batch_size, find
        self._check = check  # raises before a commit if these parts are no longer used
        self._columns = parts.store.schema.columns
        self._known = KnownFiles(parts.store)
        self.summary = AddSummary()
        self._fresh: list[_Stored] = []  # embedded, not stored yet
        self._reused: list[NewPicture] = []  # of a known content, not stored yet
        self._states: dict[str, str] = {}  # "new" or "changed", of the pictures on their way
        self._sound: list[str] = []  # were rejected, and are again as they are stored
        self._same: dict[str, NewPicture] = {}  # files with cells of a table that may be new
        self._unchanged: set[str] = set()  # of these, files that are as they were
        self._again: list[NewPicture] = []  # of a content that is no longer there
        self._moved: set[str] = set()  # old ids of files that moved
        self._to_note: dict[str, RejectedPicture] = {}  # rejects that are not stored yet
        self.missing: list[str] = []  # ids of files that were named and are gone
        self._committed = time.monotonic()

    def run(self, items: Iterable[Item]) -> None:
        """Add all items; Ctrl-C ends it early, with what was embedded.

        Raises:
            EclipticError: the disk is full, for example; what came before is stored, if it can be.
        """
        try:
            self._embed(self._read(self._plan(items)))
            self._commit()
            again, self._again = self._again, []
            self._embed(self._read(iter(again), reuse=False))
        except KeyboardInterrupt:
            self.summary.interrupted = True
        except EclipticError:
            self._commit()
            raise
        self._commit()

    def was_seen(self, id_: str) -> bool:
        """Whether a picture with this id was among the items."""
        return self._known.was_looked_up(id_)

    def _plan(self, items: Iterable[Item]) -> Iterator[NewPicture]:
        """The pictures that are new or changed."""
        for item in items:
            picture, state = NewPicture(item, name_picture(item)), ""
            try:
                picture = self._find(item) if item.value else picture
                picture.id = self._known.id_of(picture.id)
                state = self._known.look_up(picture.id, picture.size, picture.mtime_ns)
                self._read_cells(picture)
                if state == "again":
                    self._take_again(picture)
                    continue
                if item.error is not None and not self._was_rejected(picture):
                    raise item.error
            except EclipticError as error:
                if self._is_missing(picture):
                    self.missing.append(picture.id)
                    self._advance(1)
                else:
                    self._reject(picture, error, stored=state in ("same", "changed"))
                continue
            if state == "same":
                self._note_same(picture)
            elif self._was_rejected(picture):
                self.summary.rejected_before += 1
                self._advance(1)
            else:
                self._states[picture.id] = state
                yield picture

    def _read_cells(self, picture: NewPicture) -> None:
        """Read the cells of its row in a table.

        Raises:
            ImageError: one does not fit its column. The row is tried again in the next run.
        """
        try:
            picture.extra |= read_facts(picture.item.facts, self._columns)
        except EclipticError:
            picture.size = picture.mtime_ns = 0
            raise

    def _is_missing(self, picture: NewPicture) -> bool:
        """Whether the library has a file that was named, as in a table, and is not there."""
        value = picture.item.value
        if not isinstance(value, str) or not value or is_there(value):
            return False
        picture.id = self._known.id_of(picture.id)
        return self._known.has(picture.id)

    def _note_same(self, picture: NewPicture) -> None:
        """Count a file that is as it was; cells of its row in a table may be others."""
        self.summary.unchanged += 1
        self._advance(1)
        if self.parts.rejects.has(picture.id):
            self._sound.append(picture.id)
        if picture.extra:
            self._same[picture.id] = picture
            self._unchanged.add(picture.id)
            if len(self._same) >= MOST_ROWS:
                self._store_cells()

    def _store_cells(self) -> None:
        """Store cells of tables of files that are stored; others wait for their file."""
        pictures, rows, vectors = [], [], []
        same = list(self._same)
        for block in self.parts.store.read(ids=same, vectors=True) if same else ():
            assert block.vectors is not None
            for row, vector in zip(block.rows(), block.vectors, strict=True):
                picture = self._same.pop(str(row["id"]))
                new = {**row, **picture.extra}
                if new != row:
                    pictures.append(picture)
                    rows.append(new)
                    vectors.append(vector)
        if rows:
            stored = self._upsert(pictures, rows, np.stack(vectors))
            as_before = [one for one in stored if one.id in self._unchanged]
            self.summary.unchanged -= len(as_before)
            self.summary.changed += len(as_before)
        self._unchanged = set()
        self._same = {id_: one for id_, one in self._same.items() if id_ in self._states}

    def _take_again(self, picture: NewPicture) -> None:
        """Take only the cells of a file that is named twice; two rows of an id may be two pictures.

        Raises:
            InputError: it is no file.
        """
        if not picture.path:
            raise InputError("its id came before in this run; each row needs its own.")
        self._advance(1)
        if picture.extra:
            self._same[picture.id] = picture

    def _was_rejected(self, picture: NewPicture) -> bool:
        """Whether the file was rejected as it is, and is not tried again."""
        known = self.parts.rejects.is_known(picture.id, picture.size, picture.mtime_ns)
        return known and bool(picture.path) and not self._retry

    def _read(self, pictures: Iterator[NewPicture], *, reuse: bool = True) -> Iterator[NewPicture]:
        """The pictures with a content that the library does not have; with `reuse` False, all."""
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
                elif reuse and self._known.has_content(picture.content):
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
            held=lambda picture: len(picture.data),
            **options,
        )
        for part in stream:
            vectors = part.vectors.numpy()
            self._fresh += [(given.pop(i), row) for i, row in zip(part.kept, vectors, strict=True)]
            for reject in part.rejected:
                self._reject(given.pop(reject.index), reject.error)
            self._advance(len(part.kept))
            self._commit_if_due()

    def _reject(self, picture: NewPicture, error: object, *, stored: bool = False) -> None:
        reason = str(error).removeprefix(picture.item.name).lstrip(": ")
        if stored or self._states.pop(picture.id, None) == "changed":
            reason += " It is still found as it was before."
        rejected = RejectedPicture(picture.id, reason, picture.size, picture.mtime_ns)
        self.summary.rejected.append(rejected)
        if picture.item.value or picture.item.archive:  # else it is only a name without a file
            self._to_note[picture.id] = rejected
        self._advance(1)

    def _commit_if_due(self) -> None:
        rows = len(self._fresh) + len(self._reused)
        if rows >= MOST_ROWS or (rows and time.monotonic() - self._committed > LONGEST):
            self._commit()

    def _commit(self) -> None:
        """Store what was embedded and what is known.

        Ctrl-C within it leaves everything to the next call, which may safely store it again.
        """
        try:
            self._check()
            known = self._rows_of({picture.content for picture in self._reused})
            stored = self._store_fresh() | self._store_reused(known)
            self._store_cells()
        except EclipticError:
            self._fresh, self._reused = [], []  # they are not tried twice
            raise
        self._fresh, self._reused = [], []
        self.parts.rejects.remove([*stored, *self._sound])
        self._sound = []
        self.parts.rejects.add(list(self._to_note.values()))
        self._to_note = {}
        self._committed = time.monotonic()

    def _store_fresh(self) -> set[str]:
        """Store what was embedded, the thumbnails first; the ids that are stored."""
        pictures = [picture for picture, _ in self._fresh]
        if not pictures:
            return set()
        small = {one.content: one.thumbnail for one in pictures if one.thumbnail}
        if small:
            self.parts.thumbnails.upsert(list(small), {"jpeg": list(small.values())})
        changed = [one.id for one in pictures if self._keeps_cells(one)]
        kept = read_kept(self.parts.store, changed)
        rows = [make_row(picture, picture.facts, kept.get(picture.id, {})) for picture in pictures]
        stored = self._upsert(pictures, rows, np.stack([vector for _, vector in self._fresh]))
        self._known.add_contents(picture.content for picture in stored)
        for picture in stored:
            if self._states.pop(picture.id, "new") == "changed":
                self.summary.changed += 1
            else:
                self.summary.added += 1
        return {picture.id for picture in stored}

    def _store_reused(self, known: _Contents) -> set[str]:
        """Store files whose content is known, with the vector and the facts of that content.

        A moved file keeps what users gave it; a copy does not inherit it.
        """
        changed = [one.id for one in self._reused if self._keeps_cells(one)]
        own = read_kept(self.parts.store, changed)
        done, pictures, rows, vectors, old = set[str](), [], [], [], []
        for picture in self._reused:
            if picture.content not in known:  # its row was replaced or deleted meanwhile
                self._again.append(picture)
                continue
            others, vector = known[picture.content]
            before = self._count_reuse(picture, others)
            kept = kept_of(before) if before else _inherit(picture, own, others)
            if before is not None and before["id"] != picture.id:
                old.append(str(before["id"]))
            row = make_row(picture, others[0], kept)
            done.add(picture.id)
            if row != before:
                pictures.append(picture)
                rows.append(row)
                vectors.append(vector)
        if rows:
            stored = self._upsert(pictures, rows, np.stack(vectors))
            done -= {one.id for one in pictures} - {one.id for one in stored}
        if old:
            self.parts.store.delete(ids=old)
        return done

    def _keeps_cells(self, picture: NewPicture) -> bool:
        """Whether a picture of another content keeps what users gave its id before."""
        return self._states.get(picture.id) == "changed" and not is_numbered(picture.item)

    def _count_reuse(self, picture: NewPicture, others: list[StoreRow]) -> StoreRow | None:
        """Count a file of a known content; returns the row that it had, also at another place."""
        changed = self._states.pop(picture.id, "new") == "changed"
        for one in others:
            if one["id"] == picture.id:
                self.summary.unchanged += 1  # only its time is another one
                return one
        for one in others:
            if one["id"] not in self._moved and is_lost(one):
                self._moved.add(str(one["id"]))
                self.summary.moved += 1
                return one
        if changed:
            self.summary.changed += 1
        else:
            self.summary.copied += 1
        return None

    def _rows_of(self, contents: set[str]) -> _Contents:
        """By content: the rows with it, and their vector."""
        found: _Contents = {}
        if not contents:
            return found
        tree = Compare("content", "in", tuple(contents))
        for block in self.parts.store.read(where=tree, vectors=True):
            assert block.vectors is not None
            for row, vector in zip(block.rows(), block.vectors, strict=True):
                found.setdefault(str(row["content"]), ([], vector.copy()))[0].append(row)
        return found

    def _upsert(
        self, pictures: list[NewPicture], rows: list[StoreRow], vectors: NDArray[np.float32]
    ) -> list[NewPicture]:
        """Store rows, those of `pictures`; returns the pictures that are stored."""
        ids = [str(row["id"]) for row in rows]
        columns = {
            name: [row.get(name) for row in rows] for name in self.parts.store.schema.columns
        }
        refused = {one.row: one for one in self.parts.store.upsert(ids, vectors, columns).refused}
        for place, one in refused.items():  # a name that no store can hold
            self._reject(pictures[place], one.reason)
        return [picture for place, picture in enumerate(pictures) if place not in refused]


def _inherit(picture: NewPicture, own: Mapping[str, StoreRow], others: list[StoreRow]) -> StoreRow:
    """What a file of a known content keeps: of itself, or of one whose file is not there."""
    if is_numbered(picture.item):
        return kept_of(others[0])  # the row of a table is now another one
    away = (kept_of(one) for one in others if is_gone(one))
    return own.get(picture.id) or next(away, {})
