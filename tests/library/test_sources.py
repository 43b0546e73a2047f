"""What `Library.add` takes: folders, globs, files, standard input, tables with paths and bytes."""

import csv
import io
import json
import shutil
import sys
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ecliptic.engine import Clip, Columns
from ecliptic.errors import ConfigError, InputError, MissingColumnError
from ecliptic.library import Library
from tests.library.photos import check_vectors, counts, rows_of, save_photo


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_glob_a_file_and_a_folder_together(library: Library, photos: Path) -> None:
    given = [str(photos / "[a]*.png"), photos / "b.png", str(photos / "sub")]
    assert counts(library.add(given)) == {"added": 3}
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_paths_on_standard_input(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    lines = b"a.png\n\n./sub/c.png\r\nmissing.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert counts(library.add("-")) == {"added": 2, "rejected": 1}
    check_vectors(library, [photos / "a.png", photos / "sub" / "c.png"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_tables_of_paths_that_begin_at_the_table(
    library: Library, photos: Path, suffix: str
) -> None:
    names = ["a.png", "sub/c.png", "missing.png", ""]
    table = photos / f"table{suffix}"
    if suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(__import__("pyarrow").table({"file": names}), table)
    elif suffix == ".jsonl":
        table.write_text("".join(json.dumps({"file": name}) + "\n" for name in names) + "[1]\n")
    else:
        separator = "," if suffix == ".csv" else "\t"
        lines = [f"file{separator}other", *(f"{name}{separator}x" for name in names)]
        table.write_text("\n".join(lines) + "\n")
    summary = library.add(table, columns=Columns("file"))
    assert summary.added == 2
    assert len(summary.rejected) == (3 if suffix == ".jsonl" else 2)
    assert any(f"table{suffix}, " in one.id for one in summary.rejected)
    check_vectors(library, [photos / "a.png", photos / "sub" / "c.png"])


def test_a_parquet_file_of_bytes_with_ids(library: Library, photos: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    data = [(photos / name).read_bytes() for name in ("a.png", "b.png")]
    pictures = [{"bytes": data[0], "path": "a.png"}, {"bytes": data[1], "path": None}]
    table = photos / "hf.parquet"
    pq.write_table(pa.table({"image": pictures, "n": [1, 2]}), table)
    assert counts(library.add(table, columns=Columns("image"))) == {"added": 2}
    rows = rows_of(library)
    assert {id_: (row["name"], row["folder"]) for id_, row in rows.items()} == {
        f"{table}/a.png": ("a.png", str(table)),
        f"{table}, row 2": ("hf.parquet, row 2", str(table)),
    }
    assert counts(library.add(table, columns=Columns("image"))) == {"unchanged": 2}
    assert counts(library.add(table, columns=Columns("image", "n"))) == {"copied": 2}
    assert {"1", "2"} < set(rows_of(library))


def test_ids_for_files_are_refused(library: Library, photos: Path) -> None:
    table = write_csv(photos / "t.csv", [{"file": "a.png", "number": "7"}])
    with pytest.raises(InputError, match="names files by their paths"):
        library.add(table, columns=Columns("file", "number"))
    assert len(library) == 0


def test_columns_of_a_table_fill_columns_of_the_library(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    types: Any = {"stars": "int", "who": "string"}
    with Library.create(tmp_path / "own.library", clip, types) as library:
        rows = [
            {"file": "a.png", "stars": "5", "who": "Ann"},
            {"file": "b.png", "stars": "many", "who": "Bob"},
            {"file": "sub/c.png", "stars": "", "who": ""},
        ]
        table = write_csv(photos / "t.csv", rows)
        summary = library.add(table, columns=Columns("file", facts=("stars", "who")))
        assert counts(summary) == {"added": 2, "rejected": 1}
        assert "stars" in summary.rejected[0].reason
        assert rows_of(library)[str(photos / "a.png")]["stars"] == 5
        assert library.search("a cat", where="stars >= 5").ids == [str(photos / "a.png")]
        rows[0]["stars"], rows[1]["stars"] = "4", "1"
        write_csv(table, rows)
        again = library.add(table, columns=Columns("file", facts=("stars", "who")))
        assert counts(again) == {"unchanged": 1, "changed": 1, "added": 1}
        row = rows_of(library)[str(photos / "a.png")]
        assert (row["stars"], row["who"], row["width"]) == (4, "Ann", 40)
        assert list(library.rejects) == []
        check_vectors(library, sorted(photos.rglob("*.png")))
        with pytest.raises(ConfigError, match="star"):
            library.add(table, columns=Columns("file", facts=("star",)))


def test_a_column_that_is_missing_names_those_there(library: Library, photos: Path) -> None:
    table = write_csv(photos / "t.csv", [{"file": "a.png"}])
    with pytest.raises(MissingColumnError, match="file"):
        library.add(table, columns=Columns("path"))


def test_rows_of_two_tables_with_the_same_inner_names_are_two_pictures(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for shard, name in (("one", "a.png"), ("two", "b.png")):
        (photos / shard).mkdir()
        inner = {"bytes": (photos / name).read_bytes(), "path": "0.png"}
        pq.write_table(pa.table({"image": [inner]}), photos / shard / "t.parquet")
    for shard in ("one", "two"):
        monkeypatch.chdir(photos / shard)
        assert counts(library.add("t.parquet", columns=Columns("image"))) == {"added": 1}
    again = library.add(photos / "one" / "t.parquet", columns=Columns("image"))
    assert counts(again) == {"unchanged": 1}
    assert set(rows_of(library)) == {f"{photos}/{s}/t.parquet/0.png" for s in ("one", "two")}


def test_columns_of_users_stay_with_their_file(tmp_path: Path, clip: Clip, photos: Path) -> None:
    (table := tmp_path / "t.csv").write_text(f"file,year\n{photos / 'a.png'},1999\n")
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        library.add(table, columns=Columns("file", facts=("year",)))
        first = rows_of(library)[str(photos / "a.png")]
        save_photo(photos / "a.png", 77)  # another content
        shutil.copy(photos / "a.png", photos / "copy.png")
        library.add(photos)
        rows = rows_of(library)
        changed, copy = rows[str(photos / "a.png")], rows[str(photos / "copy.png")]
        assert changed["content"] != first["content"]
        assert (changed["year"], changed["added"]) == (1999, first["added"])
        assert (copy["year"], copy["added"] > first["added"]) == (None, True)
        (photos / "a.png").rename(photos / "moved.png")
        assert counts(library.add(photos))["moved"] == 1
        moved = rows_of(library)[str(photos / "moved.png")]
        assert (moved["year"], moved["added"]) == (1999, first["added"])


def test_cells_of_a_file_that_came_before_its_table_are_kept(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    table = write_csv(tmp_path / "t.csv", [{"file": "photos/a.png", "year": "1999"}])
    columns = Columns("file", facts=("year",))
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        assert counts(library.add([photos, table], columns=columns)) == {"added": 3}
        assert rows_of(library)[str(photos / "a.png")]["year"] == 1999


def test_cells_of_other_types_become_values_of_their_column(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = ["a.png", "b.png", "sub/c.png"]
    cells = {
        "year": [1999.0, float("nan"), None],
        "price": [Decimal("1.50"), None, None],
        "day": [date(2024, 5, 1), None, None],
    }
    pq.write_table(pa.table({"file": names, **cells}), table := photos / "t.parquet")
    types: Any = {"year": "int", "price": "float", "day": "timestamp"}
    with Library.create(tmp_path / "own.library", clip, types) as library:
        assert counts(library.add(table, columns=Columns("file", facts=tuple(cells)))) == {
            "added": 3
        }
        rows = [rows_of(library)[str(photos / name)] for name in names]
        assert [row["year"] for row in rows] == [1999, None, None]
        assert (rows[0]["price"], rows[0]["day"]) == (1.5, datetime(2024, 5, 1))


def test_columns_that_every_hit_has_are_refused(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(ConfigError, match="every hit has its own 'score'"):
        Library.create(tmp_path / "own.library", clip, {"score": "float"})
    assert not (tmp_path / "own.library").exists()


def test_cells_that_python_cannot_hold_reject_their_row(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = ["a.png", "b.png", "sub/c.png"]
    odd = pa.array([0, 10**12, 1], pa.timestamp("s"))
    pq.write_table(pa.table({"file": names, "time": odd}), table := photos / "t.parquet")
    with Library.create(tmp_path / "own.library", clip, {"time": "timestamp"}) as library:
        summary = library.add(table, columns=Columns("file", facts=("time",)))
        assert counts(summary) == {"added": 2, "rejected": 1}
        assert summary.rejected[0].id == f"{table}, row 2"
        assert "its time cannot be read" in summary.rejected[0].reason


def test_a_row_of_json_without_a_cell_leaves_the_cell(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    one, two = photos / "1.jsonl", photos / "2.jsonl"
    one.write_text('{"file": "a.png", "year": 5}\n')
    two.write_text('{"file": "a.png"}\n')
    columns = Columns("file", facts=("year",))
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        library.add([one, two], columns=columns)
        library.add(two, columns=columns)
        assert rows_of(library)[str(photos / "a.png")]["year"] == 5


def test_cells_go_with_the_picture_not_with_the_number_of_its_row(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    first, second, third = ((photos / n).read_bytes() for n in ("a.png", "b.png", "sub/c.png"))
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [first, second], "year": [2001, 2002]}), table)
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        library.add(table, columns=Columns("image", facts=("year",)))
        pq.write_table(pa.table({"image": [third, first, second]}), table)
        library.add(table, columns=Columns("image"))
        years = {row["content"]: row["year"] for row in rows_of(library).values()}
        contents = [sha256(data).hexdigest() for data in (first, second, third)]
        assert [years[content] for content in contents] == [2001, 2002, None]


def test_a_row_without_a_picture_is_forgotten_when_it_has_one(
    library: Library, photos: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = photos / "t.parquet"
    for images in ([None], [(photos / "a.png").read_bytes()]):
        pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), table)
        library.add(table, columns=Columns("image"))
    assert list(library.rejects) == []
    library.add(str(photos / "*.nothing"))
    assert list(library.rejects) == []  # a name is no picture that could become good


def test_numbers_in_a_column_of_texts_say_what_to_do(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"file": ["a.png"], "year": [1]}), table := photos / "t.parquet")
    with Library.create(tmp_path / "own.library", clip, {"year": "string"}) as library:
        (reject,) = library.add(table, columns=Columns("file", facts=("year",))).rejected
        assert "give the column its type, such as year:int" in reject.reason
