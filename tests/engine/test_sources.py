"""Sources become items in order, each with an id, or with an error."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecliptic.engine import (
    Columns,
    Item,
    LeftOutWarning,
    escape_surrogates,
    image_files,
    line_items,
    read_items,
    read_lines,
    read_rows,
    text_item,
)
from ecliptic.engine.sources.tables import read_table
from ecliptic.errors import ImageError, InputError, MissingExtraError, StorageError
from ecliptic.inputs import open_image


def test_a_folder_gives_its_images_sorted_with_those_below(images_folder: Path) -> None:
    with pytest.warns(LeftOutWarning, match=r"folder: left out a file .* format: notes.txt$"):
        names = [item.name for item in image_files(str(images_folder))]
    assert names == [str(images_folder / n) for n in ("b.png", "c.JPG", "a/z.webp")]


@pytest.fixture
def images_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    for name in ("c.JPG", "b.png", "a/z.webp", "notes.txt"):
        (folder / name).touch()
    return folder


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no images in .*; it has no files"):
        list(image_files(str(tmp_path)))
    for name in ("a.txt", "b.json"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"no images in .*; it has 2 .*: a.txt, b.json"):
        list(image_files(str(tmp_path)))


SUFFIXES = {  # of Pillow's format -> a suffix that is not read for its own sake
    "MPO": ".mpo",
    "JPEG": ".jfif",
    "PNG": "",
    "WEBP": ".bin",
    "GIF": ".txt",
    "BMP": ".dib",
    "AVIF": ".avifs",
}


def test_images_are_known_by_their_content_if_their_suffix_tells_nothing(tmp_path: Path) -> None:
    pixels = Image.fromarray(np.zeros((20, 20, 3), np.uint8))
    for format_, suffix in SUFFIXES.items():
        pixels.save(tmp_path / f"{format_}{suffix}", format_)
    found = list(image_files(str(tmp_path)))
    assert [Path(item.value).stem for item in found] == sorted(SUFFIXES)
    for item in found:
        assert open_image(item.value).size == (20, 20)


def test_pictures_that_cannot_be_read_are_listed_and_other_files_are_counted(
    tmp_path: Path,
) -> None:
    """One warning for all files that are no images, so that sidecars do not flood the list."""
    pictures = {
        "a.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "b.jxl": b"\0\0\0\x0cJXL \r\n\x87\n",
        "c.nef": b"MM\0*\0\0\0\x08",  # a TIFF whose first image is a small preview
        "d.psd": b"8BPS\0\x01",
    }
    others = {"Thumbs.db": b"\xd0\xcf\x11\xe0", ".DS_Store": b"\0\0\0\x01Bud1"}
    others |= {f"{i}.json": b"{}" for i in range(9)} | {"e.txt": b"BMW, a car", "f": b""}
    for name, content in (pictures | others).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.warns(LeftOutWarning) as caught:
        found = list(image_files(str(tmp_path)))
    assert [Path(item.value).name for item in found] == list(pictures)
    assert [item.error is not None for item in found] == [False, False, True, False]
    assert "convert it to JPEG" in str(found[2].error)
    for item in found:
        with pytest.raises(ImageError):
            open_image(item.value)
    (said,) = caught
    assert "left out 14 files that are no images of a known format: .DS_Store, 0.json" in str(
        said.message
    )
    assert str(said.message).endswith("and 9 more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_in_a_folder_is_left_out_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.png").touch()
    with pytest.warns(LeftOutWarning, match="left out a file"):
        assert len(list(image_files(str(tmp_path)))) == 1


def test_links_that_run_in_circles_end(images_folder: Path) -> None:
    (images_folder / "again").symlink_to(images_folder, target_is_directory=True)
    with pytest.warns(LeftOutWarning):
        assert len(list(image_files(str(images_folder)))) == 3


def test_names_that_are_not_utf8_keep_their_bytes_and_get_a_printable_name(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(path).touch()
    (item,) = image_files(str(tmp_path))
    assert Path(item.value).exists()
    assert item.name.endswith(r"caf\udce9.png")
    assert item.name.encode()
    assert escape_surrogates("\ud800") == r"\ud800"


def test_csv_rows_by_column_with_ids_and_rejects(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('\ufeffid,caption\n1,"a cat, sitting\nstill"\n2,\n3,b\n', encoding="utf-8")
    one, empty, three = read_table(str(file), Columns("caption", "id", "text"))
    assert one == Item("1", "a cat, sitting\nstill")
    assert "nothing usable in column 'caption'" in str(empty.error)
    assert empty.name == f"{file}, line 4"
    assert three == Item("3", "b")


def test_a_row_of_a_table_has_the_number_of_its_line(tmp_path: Path) -> None:
    text = 'id,caption\n\n1,"a\nb"\n\n\n2,c\n3\n4,d,\n5,d, more\n'
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = list(read_rows(str(tmp_path / "t.csv"), ["id"]))
    assert found == [
        (3, {"id": "1", "caption": "a\nb"}),
        (7, {"id": "2", "caption": "c"}),
        (8, {"id": "3", "caption": None}),
        (9, {"id": "4", "caption": "d"}),  # nothing is lost with an empty cell
        (
            10,
            "it has 3 cells, but the header names 2 columns; put a cell that holds the separator "
            "in quotes.",
        ),
    ]
    (tmp_path / "t.jsonl").write_text('\n{"id": 1}\n\n{"id": 2}\n', encoding="utf-8")
    assert [number for number, _ in read_rows(str(tmp_path / "t.jsonl"), ["id"])] == [2, 4]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf16_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes("\ufeffimage,caption\na.png,x\n".encode(encoding))
    with pytest.raises(StorageError, match=r"t\.csv is a text in UTF-16; save it as UTF-8"):
        list(read_rows(str(tmp_path / "t.csv"), ["image"]))


def test_a_table_with_other_separators_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('image;"caption"\na.png;x\n')
    (tmp_path / "t.tsv").write_text("image,caption\na.png,x\n")
    for suffix, what in ((".csv", "semicolons"), (".tsv", "commas")):
        for name in ("image", "caption"):
            with pytest.raises(StorageError, match=f"separates its columns by {what}"):
                list(read_rows(str(tmp_path / f"t{suffix}"), [name]))


def test_image_paths_of_a_table_count_from_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "t.tsv"
    file.write_text("path\tx\nsub/a.png\t1\n/elsewhere/b.png\t2\n")
    found = list(read_items(str(file), Columns("path")))
    assert found == [
        Item("sub/a.png", str(tmp_path / "sub/a.png")),
        Item("/elsewhere/b.png", "/elsewhere/b.png"),
    ]


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,caption\n")
    with pytest.raises(StorageError, match="no column 'text'; its columns: id, caption"):
        list(read_table(str(file), Columns("text")))
    with pytest.raises(StorageError, match="no column 'key'"):
        list(read_table(str(file), Columns("caption", "key")))


def test_jsonl_rejects_lines_not_files(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    rows = ['{"c": "a", "n": 7}', "{broken", "[1]", '{"c": 5}', '{"c": "\\ud800"}', '"text"']
    file.write_text("\n".join(rows))
    found = list(read_table(str(file), Columns("c", "n", "text")))
    assert found[0] == Item("7", "a")
    problems = [str(item.error) for item in found[1:]]
    assert "not JSON" in problems[0]
    assert "not a JSON object" in problems[1]
    assert "nothing usable" in problems[2]
    assert "not valid UTF-8" in problems[3]
    assert "not a JSON object" in problems[4]


def test_texts_that_are_not_utf8_are_a_problem_not_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(b"fine\ncaf\xe9\n\n\r\nend")
    fine, bad, end = line_items(str(file), "text")
    assert (fine.value, end.value) == ("fine", "end")
    assert "save the text as UTF-8" in str(bad.error)
    assert [number for number, _ in read_lines(file)] == [1, 2, 5]


def test_a_text_is_its_own_id() -> None:
    assert text_item("a cat") == Item("a cat", "a cat")


def test_tables_are_read_lazily(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    with file.open("w") as out:
        out.write("c\n")
        out.writelines(f"row {i}\n" for i in range(100_000))
    rows = read_table(str(file), Columns("c", None, "text"))
    assert next(rows).value == "row 0"
    rows.close()  # type: ignore[attr-defined]


def test_a_glob_gives_the_files_that_match_sorted(images_folder: Path) -> None:
    found = [item.name for item in read_items(str(images_folder / "**" / "*.[pw]*"), Columns())]
    assert found == [str(images_folder / name) for name in ("a/z.webp", "b.png")]


@pytest.mark.parametrize("name", ["x*.png", "photo (1)[2].png"])
def test_a_glob_that_matches_nothing_is_one_item_that_cannot_be_used(
    images_folder: Path, name: str
) -> None:
    (item,) = read_items(str(images_folder / name), Columns())
    assert item.name == str(images_folder / name)
    assert "no file has this name or matches it" in str(item.error)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "[a].png").touch()
    (tmp_path / "a.png").touch()
    (item,) = image_files(str(tmp_path / "[a].png"))
    assert item.value == str(tmp_path / "[a].png")


def write_parquet(file: Path, /, **columns: Any) -> str:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), file)
    return str(file)


def test_parquet_columns_of_texts_and_paths(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "t.parquet", id=[7, 8, 9], caption=["a cat", "", None])
    one, empty, none = read_items(file, Columns("caption", "id", "text"))
    assert one == Item("7", "a cat")
    assert "row 2" in empty.name
    assert "nothing usable in column 'caption'" in str(none.error)
    file = write_parquet(tmp_path / "p.parquet", path=["sub/a.png"])
    assert list(read_items(file, Columns("path"))) == [
        Item("sub/a.png", str(tmp_path / "sub/a.png"))
    ]
    with pytest.raises(StorageError, match="no column 'c'; its columns: path"):
        list(read_items(file, Columns("c")))


def test_parquet_holds_images_as_bytes_or_as_hugging_face_has_them(tmp_path: Path) -> None:
    rows = [{"bytes": b"png", "path": "a.png"}, {"bytes": None, "path": "b.png"}]
    file = write_parquet(tmp_path / "t.parquet", image=rows, raw=[b"1", b"2"])
    assert list(read_items(file, Columns("image"))) == [
        Item("a.png", b"png", archive=str(file)),
        Item("b.png", str(tmp_path / "b.png")),
    ]
    first, second = read_items(file, Columns("raw"))
    assert (first.value, second.value) == (b"1", b"2")
    assert second.name.endswith("t.parquet, row 2")
    (wrong, _) = read_items(file, Columns("raw", kind="text"))
    assert "it must hold a text" in str(wrong.error)


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"t\.parquet cannot be read"):
        list(read_items(str(tmp_path / "t.parquet"), Columns("c")))


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecliptic\[parquet\]'"):
        list(read_items(str(tmp_path / "t.parquet"), Columns("c")))
