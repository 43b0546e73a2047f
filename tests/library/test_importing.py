"""Libraries of vectors that were computed before: whole or not at all, and beside `add`."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecliptic.engine import Clip
from ecliptic.errors import StorageError
from ecliptic.index import RowBlock, VectorSource, open_vectors
from ecliptic.library import Library
from tests.library.photos import counts, rows_of, vectors_of


@pytest.fixture
def source(clip: Clip) -> VectorSource:
    vectors = np.random.default_rng(0).standard_normal((6, clip.card.embed)).astype(np.float32)

    def blocks() -> Iterator[RowBlock]:
        for start in (0, 3):
            ids = tuple(f"row {n}" for n in range(start, start + 3))
            columns = {"caption": [f"text {id_}" for id_ in ids], "content": ["an article"] * 3}
            yield RowBlock(ids, columns, vectors[start : start + 3])

    kinds = {"caption": "string", "content": "string"}
    return VectorSource("npy", 6, clip.card.embed, kinds, blocks)  # type: ignore[arg-type]


def test_columns_that_adding_relies_on_are_left_out(
    tmp_path: Path, clip: Clip, source: VectorSource, photos: Path
) -> None:
    library, refused = Library.from_vectors(tmp_path / "x.library", source, clip)
    assert (len(library), refused) == (6, [])
    assert {row["content"] for row in library.rows()} == {None}
    (row,) = library.rows('caption = "text row 4"', columns=["caption"])
    assert row == {"id": "row 4", "caption": "text row 4"}
    assert counts(library.add(photos)) == {"added": 3}


def test_pictures_of_an_import_are_shown_from_their_files(
    tmp_path: Path, clip: Clip, source: VectorSource, photos: Path
) -> None:
    paths = [str(photos / "a.png"), str(photos / "b.png"), "/nowhere/c.png"]
    first = next(iter(source.blocks()))

    def blocks() -> Iterator[RowBlock]:
        yield replace(first, columns={"image_path": paths})

    named = replace(source, rows=3, columns={"image_path": "string"}, blocks=blocks)
    library, _ = Library.from_vectors(tmp_path / "x.library", named, clip)
    hits = library.search("a cat")
    small = dict(zip(hits.ids, hits.thumbnails(), strict=True))
    assert small["row 2"] is None
    for id_, path in (("row 0", paths[0]), ("row 1", paths[1])):
        shown = Image.open(io.BytesIO(small[id_] or b""))
        with Image.open(path) as picture:
            assert shown.size == picture.size
    assert small["row 0"] != small["row 1"]


def of_files(source: VectorSource, photos: Path, kind: str) -> tuple[tuple[str, ...], VectorSource]:
    """The ids, and three rows of a.png, of b.png and of a picture in the web."""
    web = "https://example.org/c.png"
    paths = ("a.png", str(photos / "b.png"), web)
    ids = {"numbers": ("1", "2", "3"), "odd": ("sub/../a.png", f"/{photos}/b.png", web)}.get(
        kind, paths
    )
    columns = {"caption": ["x", "y", "z"]}
    if kind != "ids":
        columns["image_path"] = list(paths if kind == "numbers" else ids)
    block = replace(next(iter(source.blocks())), ids=ids, columns=columns)
    return ids, replace(
        source,
        rows=3,
        columns=dict.fromkeys(columns, "string"),  # type: ignore[arg-type]
        blocks=lambda: iter([block]),
        id_column="image_path" if kind == "ids" else "",
    )


@pytest.mark.parametrize("kind", ["numbers", "paths", "odd", "ids"])
def test_files_of_an_import_are_not_added_twice(
    tmp_path: Path,
    clip: Clip,
    other_clip: Clip,
    source: VectorSource,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.chdir(photos)
    ids, named = of_files(source, photos, kind)
    library, _ = Library.from_vectors(tmp_path / "x.library", named, clip)
    files = [str(photos / "a.png"), str(photos / "b.png"), None]
    assert [row["path"] for row in rows_of(library).values()] == files
    assert counts(library.add(photos)) == {"changed": 2, "added": 1}
    assert len(library) == 4
    assert rows_of(library)[ids[0] if kind == "numbers" else str(files[0])]["caption"] == "x"
    assert counts(library.add(photos)) == {"unchanged": 3}
    library.remove([ids[2]])  # it has no file
    before = set(rows_of(library))
    assert library.reembed(other_clip).added == 3
    assert set(rows_of(library)) == before
    (photos / "a.png").unlink()
    assert library.add(photos, prune=True).removed == 1
    library.close()


def test_an_import_that_fails_leaves_no_library_and_can_be_repeated(
    tmp_path: Path, clip: Clip, source: VectorSource
) -> None:
    def broken() -> Iterator[RowBlock]:
        first, _ = source.blocks()
        yield first
        yield first

    folder = tmp_path / "x.library"
    with pytest.raises(StorageError, match="3 rows near row 3 have an id that came before"):
        Library.from_vectors(folder, replace(source, blocks=broken), clip)
    with pytest.raises(StorageError, match="is no library"):
        Library.open(folder, clip)
    library, _ = Library.from_vectors(folder, source, clip)
    assert len(library) == 6


def test_an_export_is_imported_as_it_was(library: Library, photos: Path, tmp_path: Path) -> None:
    library.add(photos)
    written = library.export(tmp_path / "v.parquet")
    assert written.rows == 3
    again, _ = Library.from_vectors(
        tmp_path / "again.library", open_vectors(tmp_path / "v.parquet"), library.clip
    )
    assert rows_of(again) == rows_of(library)
    before = vectors_of(library)
    assert all((vector == before[id_]).all() for id_, vector in vectors_of(again).items())
    assert counts(again.add(photos)) == {"unchanged": 3}
