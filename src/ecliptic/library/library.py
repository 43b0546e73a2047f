"""`Library`: a folder of vectors, facts and thumbnails of pictures that can be searched."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

from ecliptic.engine import Clip, Columns, load
from ecliptic.errors import InputError
from ecliptic.index import (
    ColumnType,
    Filter,
    KeyedTable,
    RefusedRow,
    Repaired,
    Store,
    StoreProblem,
    StoreRow,
    VectorSource,
    WrittenVectors,
    open_store,
)
from ecliptic.library.filling.adding import Adding
from ecliptic.library.filling.facts import check_facts
from ecliptic.library.filling.given import GivenSources, PictureSources
from ecliptic.library.filling.gone import find_gone
from ecliptic.library.filling.importing import check_source, fill, own_columns
from ecliptic.library.filling.parts import AddSummary, LibraryParts
from ecliptic.library.filling.reembedding import Reembedding, remove_items
from ecliptic.library.filling.rejected import RejectedPictures
from ecliptic.library.filling.thumbnails import find_thumbnails
from ecliptic.library.finding.duplicates import DuplicateGroup, find_groups
from ecliptic.library.finding.hits import LibraryHits
from ecliptic.library.finding.queries import LibraryQuery, Wanted
from ecliptic.library.finding.searching import HowToFind, find_hits
from ecliptic.library.health import check_library, remove_unused_thumbnails, repair_library
from ecliptic.library.layout import REJECTS, THUMBNAILS, check_current, read_about
from ecliptic.library.making import check_free, make_library
from ecliptic.library.models import change_source, check_clip, describe, load_own


class Library:
    """Pictures that are indexed once and searched by words and by pictures.

    Several processes may use one library at a time. What `add` reported outlives a kill.
    """

    def __init__(self, folder: Path, clip: Clip | None = None) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self._clip = clip
        self._open()

    def _open(self) -> None:
        folder = self.folder
        self.about = read_about(folder)
        if self._clip is not None:
            check_clip(self.folder, self.about, self._clip)
        self._opened = LibraryParts(
            open_store(folder / self.about.items),
            KeyedTable(folder / THUMBNAILS, {"jpeg": "bytes"}),
            RejectedPictures(folder / REJECTS),
        )

    @property
    def _parts(self) -> LibraryParts:
        """The tables, unless another process changed the model since they were opened."""
        check_current(self.folder, self.about)
        return self._opened

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        clip: Clip | str = "mini",
        columns: Mapping[str, ColumnType] | None = None,
        source: str | None = None,
    ) -> "Library":
        """Make an empty library.

        Args:
            path: a folder that is new or empty; such as "photos.library".
            clip: the model, or what `ecliptic.load` takes.
            columns: more columns, which are filled from tables of these names.
            source: what `ecliptic.load` takes to load the model again; None for what `clip` tells.

        Raises:
            StorageError: something is there, or it cannot be written.
        """
        check_free(Path(path))
        model = load(clip) if isinstance(clip, str) else clip
        make_library(Path(path), model, source or clip, columns or {})
        return cls(Path(path), model)

    @classmethod
    def from_vectors(
        cls,
        path: str | os.PathLike[str],
        vectors: VectorSource,
        clip: Clip | str,
        source: str | None = None,
    ) -> tuple["Library", list[RefusedRow]]:
        """Make a library of vectors that were computed before, such as by clip-retrieval.

        Args:
            path: a folder that is new or empty.
            vectors: of `ecliptic.index.open_vectors`. Its columns become columns of the library; a
                column `path` or `image_path` tells the files.
            clip: the model that made the vectors. Most files do not tell it, so this is believed.
            source: as for `create`.

        Returns:
            the library, and the rows that cannot be stored, with reasons.

        Raises:
            SpaceMismatchError: the files tell another model, or vectors of another size.
            StorageError: two rows have one id, or a column of another type than the library's.
        """
        model = load(clip) if isinstance(clip, str) else clip
        check_source(vectors, model.card, vectors.kind)
        columns = dict(own_columns(vectors))
        refused: list[RefusedRow] = []
        check_free(Path(path))
        make_library(
            Path(path),
            model,
            source or clip,
            columns,
            lambda store: refused.extend(fill(store, vectors)),
        )
        return cls(Path(path), model), refused

    @classmethod
    def open(cls, path: str | os.PathLike[str], clip: Clip | str | None = None) -> "Library":
        """Open a library.

        Args:
            path: its folder.
            clip: the model, or what `ecliptic.load` takes; None loads the model that made it, when
                it is first needed.

        Raises:
            StorageError: there is none, or it cannot be read.
            SpaceMismatchError: another model than the one that made it.
        """
        return cls(Path(path), load(clip) if isinstance(clip, str) else clip)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what it holds."""
        self._opened.store.close()

    def __len__(self) -> int:
        return len(self._parts.store)

    def __repr__(self) -> str:
        return f"Library({str(self.folder)!r}, {len(self)} pictures, {self.about.name})"

    @property
    def clip(self) -> Clip:
        """The model; loaded when it is first needed."""
        if self._clip is None:
            self._clip = load_own(self.folder, self.about)
        return self._clip

    def use(self, clip: Clip) -> None:
        """Encode with this model, which must be of the library's space.

        Raises:
            SpaceMismatchError: it is of another one.
        """
        check_clip(self.folder, self.about, clip)
        self._clip = clip

    def add(
        self,
        pictures: PictureSources,
        *,
        columns: Columns | None = None,
        prune: bool | Literal["all"] = False,
        retry: bool = False,
        batch_size: int | None = None,
        advance: Callable[[int], object] = lambda _: None,
    ) -> AddSummary:
        """Add pictures; those that are there and unchanged are not read again.

        Args:
            pictures: files, folders, globs, tables, or items of `ecliptic.engine`.
            columns: which column of tables holds the pictures, which the ids, and which fill
                columns of the library.
            prune: remove pictures whose files are gone, of those in the given folders, tars and
                tables; but not where a disk may be missing, unless it is "all".
            retry: try again what was rejected before and did not change.
            batch_size: pictures that are embedded at a time.
            advance: called with the number of pictures done since the last call.

        Returns:
            counts, rejects with reasons, and the ids of files that are gone.

        Raises:
            InputError, StorageError: a source that cannot be read, after the others were read; or
                a full disk.
        """
        check = partial(check_current, self.folder, self.about)
        adding = Adding(self._parts, self.clip, advance, check, retry=retry, batch_size=batch_size)
        if columns is not None:
            check_facts(columns.facts, self.about.columns)
        sources = GivenSources(pictures, columns, self._parts.store)
        adding.run(sources.items())
        summary = adding.summary
        if not summary.interrupted:
            gone = find_gone(self._parts, sources, adding.missing, adding.was_seen)
            summary.gone, summary.away = gone.ids, gone.away
            summary.moved += gone.moved
            if prune and (ids := gone.ids + (gone.away if prune == "all" else [])):
                summary.removed = self.remove(ids)
        sources.raise_failure()
        return summary

    def remove(self, ids: Sequence[str]) -> int:
        """Remove pictures from the library, not from the disk; returns how many were there."""
        return self._parts.store.delete(ids=ids)

    def rows(
        self, where: Filter | str | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[StoreRow]:
        """The pictures that pass a filter, each as its id and its columns, in no certain order."""
        for block in self._parts.store.read(where=where, columns=columns):
            yield from block.rows()

    def search(
        self,
        query: "Wanted | Sequence[Wanted] | None" = None,
        k: int = 20,
        *,
        like: "Wanted | Sequence[Wanted] | None" = None,
        unlike: "Wanted | Sequence[Wanted] | None" = None,
        where: Filter | str | None = None,
        offset: int = 0,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> LibraryHits:
        """The pictures nearest to words, to pictures, or to both.

        Args:
            query: words, or a picture as anything but a string; or a list of both.
            k: hits.
            like: more of these: ids or paths of pictures, or pictures.
            unlike: less of these: words, ids of the library, or pictures.
            where: only pictures that pass this filter, "width >= 640 and camera is missing".
            offset: hits to leave out at the beginning, for pages.
            diversity: 0 to 1; above 0, hits that resemble a better hit come later.
            exact: compute the exact score of every picture, not of the most likely ones.

        A weight stands beside a part: `like=[("fox.jpg", 0.5)]`; it is 1 otherwise, and 0.5 in
        `unlike`. The parts are added as unit vectors, `unlike` with a minus, to one query.

        Raises:
            InputError: nothing to search for, or an unknown id or file.
            FilterError: the filter cannot be read.
        """
        how = HowToFind(k, where, offset, diversity, exact)
        return self._find([LibraryQuery.of(query, like, unlike)], how)[0]

    def search_each(
        self,
        queries: "Sequence[Wanted]",
        k: int = 20,
        *,
        like: "Wanted | Sequence[Wanted] | None" = None,
        unlike: "Wanted | Sequence[Wanted] | None" = None,
        where: Filter | str | None = None,
        offset: int = 0,
        diversity: float = 0.0,
        exact: bool = False,
    ) -> list[LibraryHits]:
        """The hits of each of several queries, which are answered together.

        The other arguments are those of `search`, and count for every query.
        """
        if isinstance(queries, str):
            raise InputError(f"queries must be a list, got the one text {queries!r}.")
        how = HowToFind(k, where, offset, diversity, exact)
        return self._find([LibraryQuery.of(query, like, unlike) for query in queries], how)

    def _find(self, queries: list[LibraryQuery], how: HowToFind) -> list[LibraryHits]:
        return find_hits(self._parts.store, queries, lambda: self.clip, how, self.thumbnails)

    def duplicates(
        self, threshold: float = 0.95, where: Filter | str | None = None
    ) -> list[DuplicateGroup]:
        """Groups of pictures that resemble each other, the largest first.

        Args:
            threshold: the least cosine of a picture with the one to keep. Copies in other sizes
                and qualities have 0.95 and more; what else has depends on the model.
            where: only pictures that pass this filter.

        Raises:
            InputError: more than 2,000,000 pairs reach the threshold.
        """
        return find_groups(self._parts.store, threshold, where)

    def reembed(
        self,
        clip: Clip | str,
        advance: Callable[[int], object] = lambda _: None,
        source: str | None = None,
    ) -> AddSummary:
        """Embed all pictures anew with another model; `source` as for `create`.

        The old vectors are used until the new ones are complete; a run that was stopped goes on
        where it was. Another process may add pictures until the change, and then opens it again.
        For a model of the same space, only the place is noted from which it is loaded.

        Raises:
            ConfigError: some pictures came from tars or tables and have no file of their own.
            StorageError: a file is gone or cannot be read; the library keeps its old vectors.

        Warns:
            UserWarning: the model differs in precision or preparation only; the vectors stay.
        """
        model = load(clip) if isinstance(clip, str) else clip
        about = describe(model, source or clip, self.about.columns)
        if about.space == self.about.space:
            self.about = change_source(self.folder, self.about, about)
            return AddSummary(unchanged=len(self))
        summary = Reembedding(self.folder, self._parts, about).run(model, advance)
        if not summary.interrupted:
            self._opened.store.close()
            before, self._clip = self.about, model
            self._open()
            remove_items(self.folder, before)
        return summary

    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with its files; empty when it is sound.

        With `deep`, every byte is read and checksums are compared; otherwise names and sizes.
        """
        return check_library(self.folder, deep=deep)

    def repair(self, *, drop: bool = False) -> Repaired:
        """Mend what `check` finds, and say what was lost; see `ecliptic.index.Store.repair`.

        `repair_library` does the same for a library that does not open.
        """
        self.close()
        done = repair_library(self.folder, drop=drop)
        self._open()
        return done

    def export(
        self,
        path: str | os.PathLike[str],
        where: Filter | str | None = None,
        *,
        overwrite: bool = False,
    ) -> WrittenVectors:
        """Write ids, vectors and columns as .parquet, .npy, .index (FAISS) or .usearch.

        Raises:
            StorageError: the file exists, has another suffix, or cannot be written.
        """
        return self._parts.store.export(path, where, overwrite=overwrite)

    def compact(self, *, now: bool = False) -> None:
        """Join small files, and remove what no reader needs; see `ecliptic.index.Store.compact`.

        Args:
            now: also remove old versions that a running search may use, and thumbnails of pictures
                that are no longer in the library. Nothing may be added meanwhile.
        """
        if now:
            remove_unused_thumbnails(self._parts.store, self._parts.thumbnails)
        for part in (self._parts.store, self._parts.thumbnails, self._parts.rejects.table):
            part.compact(now=now)

    @property
    def rejects(self) -> RejectedPictures:
        """The pictures that could not be used, with reasons."""
        return self._parts.rejects

    def thumbnails(self, rows: Sequence[StoreRow]) -> list[bytes | None]:
        """A JPEG of at most 8,192 bytes for each row; None where there is none.

        What has none in the library, such as pictures that were imported, is read from its file.
        """
        return find_thumbnails(self._parts.thumbnails, rows)

    @property
    def store(self) -> Store:
        """The store of the items, for what this class does not offer."""
        return self._parts.store
