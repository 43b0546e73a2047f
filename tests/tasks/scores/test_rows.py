"""Rows come from tables and folders; what is wrong with a row is said with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.errors import ConfigError, InputError, StorageError
from ecliptic.tasks import (
    ImageFolder,
    RowColumns,
    find_metric,
    folder_rows,
    image_rows,
    table_rows,
)


def write_table(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_row_has_its_place_its_image_and_its_caption(folder: Path) -> None:
    table = write_table(folder / "pairs.csv", 'image,caption\n0.png,"a cat, red"\n1.png,dogs\n')
    first, second = table_rows(table, RowColumns(find_metric("clipscore")))
    assert first.name == f"{table}, line 2"
    assert first.images == (str(folder / "0.png"),)
    assert first.texts == ("a cat, red",)
    assert second.labels == ("1.png",)


def test_columns_may_have_other_names(folder: Path) -> None:
    lines = [
        {"file": "0.png", "text": "a", "refs": ["b", "c"], "more": "d", "scene": 7},
        {"file": "1.png", "text": "a", "refs": '["b"]', "more": None, "scene": 8},
    ]
    table = write_table(folder / "pairs.jsonl", "".join(json.dumps(one) + "\n" for one in lines))
    named = {"image": "file", "caption": "text", "references": "refs+more", "group": "scene"}
    first, second = table_rows(table, RowColumns(find_metric("refclipscore"), named))
    assert (first.references, first.group) == (("b", "c", "d"), "7")
    assert second.references == ("b",)


def test_a_reference_may_begin_with_a_bracket(folder: Path) -> None:
    table = write_table(folder / "pairs.csv", "image,caption,references\n0.png,a,[a] cat\n")
    [row] = table_rows(table, RowColumns(find_metric("refclipscore")))
    assert row.references == ("[a] cat",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"caption": "x"}, "nothing usable in column 'image'"),
        ({"image": "0.png"}, "nothing usable in column 'caption'"),
        ({"image": "0.png", "caption": "  "}, "the text in column 'caption' is empty"),
        ({"image": "0.png", "caption": float("nan")}, "nothing usable in column 'caption'"),
        ({"image": "0.png", "caption": "x"}, "no reference in column 'references'"),
        ({"image": "0.png", "caption": "NaN"}, "programs write for an empty cell"),
        ({"image": "0.png", "caption": "x", "references": '["a", b]'}, "is no list in JSON"),
        ({"image": "0.png", "caption": "x", "references": '["a", "b'}, "is no list in JSON"),
        ({"image": "0.png", "caption": "x", "references": [" "]}, "no reference in column"),
        ([1], "not a JSON object"),
    ],
)
def test_a_bad_row_says_what_is_wrong(folder: Path, row: Any, reason: str) -> None:
    table = write_table(folder / "pairs.jsonl", json.dumps(row) + "\n")
    [found] = table_rows(table, RowColumns(find_metric("refclipscore")))
    assert found.name.endswith("pairs.jsonl, line 1")
    assert found.error is not None
    assert reason in str(found.error)


def test_a_row_without_a_group_is_not_left_to_count_alone(folder: Path) -> None:
    table = write_table(folder / "pairs.csv", "image,caption,scene\n0.png,a,\n1.png,b,x\n")
    rows = list(table_rows(table, RowColumns(find_metric("clip-t"), {"group": "scene"})))
    assert "must hold the group" in str(rows[0].error)
    assert rows[1].group == "x"


def test_images_of_folders_are_found_by_name(folder: Path) -> None:
    other = folder.parent / "other"
    (other / "sub").mkdir(parents=True)
    for place, name in enumerate(("0.jpg", "1.png", "sub/2.png", "3.png", "3.jpg")):
        (other / name).write_bytes((folder / f"{min(place, 3)}.png").read_bytes())
    lines = "image,caption\n0.png,a\n1.png,b\n2,c\n3.bmp,d\n,e\n"
    table = write_table(folder.parent / "c.csv", lines)
    folders = [ImageFolder(str(folder)), ImageFolder(str(other))]
    rows = list(folder_rows(folders, table, RowColumns(find_metric("clip-t"))))
    assert rows[0].labels == (str(folder / "0.png"), str(other / "0.jpg"))
    assert rows[1].error is None
    assert f"{other} has no image of the name '2'" in str(rows[2].error)
    assert f"{other} has 2 images of the name '3.bmp'" in str(rows[3].error)
    assert "must hold the name of an image" in str(rows[4].error)
    table = write_table(folder.parent / "d.csv", "image,caption\nimages/0.png,a\n")
    [row] = folder_rows(folders[:1], table, RowColumns(find_metric("clip-t")))
    assert "names are relative to the folder, so write '0.png'." in str(row.error)
    assert folders[0].note_left() == ""
    assert "3 of 5 images" in folders[1].note_left()
    assert "sub/2.png" in folders[1].note_left()
    assert [row.labels for row in image_rows(folders[:1])] == [
        (str(folder / f"{i}.png"),) for i in range(4)
    ]


def test_columns_that_are_not_read_or_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads no 'captions'; .* did you mean 'caption'"):
        RowColumns(find_metric("clip-t"), {"captions": "text"})
    with pytest.raises(ConfigError, match="clip-t reads no 'references'"):
        RowColumns(find_metric("clip-t"), {"references": "refs"})
    table = write_table(folder / "pairs.csv", "image,caption\n")
    with pytest.raises(InputError, match="has no rows"):
        list(table_rows(table, RowColumns(find_metric("clip-t"))))
    table = write_table(folder / "pairs.csv", "image,text\n0.png,a\n")
    with pytest.raises(StorageError, match="has no column 'caption'"):
        list(table_rows(table, RowColumns(find_metric("clip-t"))))
