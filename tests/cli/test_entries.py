"""What `embed` is given becomes entries: in order, each with an id, or with what is wrong."""

import os
from pathlib import Path

import pytest

from ecliptic.cli.entries import Columns, Entry, gather, lines, pictures, table, text
from ecliptic.cli.lines import lines_of
from ecliptic.cli.output import readable
from ecliptic.errors import InputError, StorageError


def test_a_folder_gives_its_pictures_sorted_with_those_below(pictures_folder: Path) -> None:
    names = [entry.name for entry in pictures(str(pictures_folder))]
    assert names == [str(pictures_folder / n) for n in ("b.png", "c.JPG", "a/z.webp")]


@pytest.fixture
def pictures_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    for name in ("c.JPG", "b.png", "a/z.webp", "notes.txt"):
        (folder / name).touch()
    return folder


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        list(pictures(str(tmp_path)))


def test_links_that_run_in_circles_end(pictures_folder: Path) -> None:
    (pictures_folder / "again").symlink_to(pictures_folder, target_is_directory=True)
    assert len(list(pictures(str(pictures_folder)))) == 3


def test_names_that_are_not_utf8_keep_their_bytes_and_get_a_printable_name(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(path).touch()
    (entry,) = pictures(str(tmp_path))
    assert Path(entry.value).exists()
    assert entry.name.endswith(r"caf\udce9.png")
    assert entry.name.encode()
    assert readable("\ud800") == r"\ud800"


def test_csv_rows_by_column_with_ids_and_rejects(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('\ufeffid,caption\n1,"a cat, sitting\nstill"\n2,\n3,b\n', encoding="utf-8")
    one, empty, three = table(str(file), Columns("caption", "id", "text"))
    assert one == Entry("1", "a cat, sitting\nstill")
    assert "nothing usable in column 'caption'" in empty.problem
    assert "row 2" in empty.name
    assert three == Entry("3", "b")


def test_picture_paths_of_a_table_count_from_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_text("path\tx\nsub/a.png\t1\n/elsewhere/b.png\t2\n")
    found = list(gather(str(file), Columns("path")))
    assert found == [
        Entry("sub/a.png", str(tmp_path / "sub/a.png")),
        Entry("/elsewhere/b.png", "/elsewhere/b.png"),
    ]


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,caption\n")
    with pytest.raises(StorageError, match="no column 'text'; its columns: id, caption"):
        list(table(str(file), Columns("text")))
    with pytest.raises(StorageError, match="no column 'key'"):
        list(table(str(file), Columns("caption", "key")))


def test_jsonl_rejects_lines_not_files(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    rows = ['{"c": "a", "n": 7}', "{broken", "[1]", '{"c": 5}', '{"c": "\\ud800"}', '"text"']
    file.write_text("\n".join(rows))
    found = list(table(str(file), Columns("c", "n", "text")))
    assert found[0] == Entry("7", "a")
    problems = [entry.problem for entry in found[1:]]
    assert "not JSON" in problems[0]
    assert "not a JSON object" in problems[1]
    assert "nothing usable" in problems[2]
    assert "not valid UTF-8" in problems[3]
    assert "not a JSON object" in problems[4]


def test_texts_that_are_not_utf8_are_a_problem_not_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(b"fine\ncaf\xe9\n\n\r\nend")
    fine, bad, end = lines(str(file), "text")
    assert (fine.value, end.value) == ("fine", "end")
    assert "save the text as UTF-8" in bad.problem
    assert [number for number, _ in lines_of(file)] == [1, 2, 5]


def test_a_text_is_its_own_id() -> None:
    assert text("a cat") == Entry("a cat", "a cat")


def test_tables_are_read_lazily(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    with file.open("w") as out:
        out.write("c\n")
        out.writelines(f"row {i}\n" for i in range(100_000))
    rows = table(str(file), Columns("c", None, "text"))
    assert next(rows).value == "row 0"
    rows.close()  # type: ignore[attr-defined]
