"""Rejects are counted, listed and written."""

import json
from pathlib import Path

from ecliptic.engine import Rejects
from ecliptic.errors import ImageError, TextError


def some(count: int) -> Rejects:
    rejects = Rejects()
    for index in reversed(range(count)):
        rejects.add(index, f"{index}.png", ImageError(f"is not an image {index}"))
    return rejects


def test_rejects_are_counted_and_stand_in_the_order_of_the_items() -> None:
    rejects = some(3)
    assert len(rejects) == 3
    assert [reject.index for reject in rejects] == [0, 1, 2]
    assert not Rejects()


def test_the_first_are_listed_and_the_rest_are_counted() -> None:
    assert list(some(2).lines()) == [
        "rejected 0.png: is not an image 0",
        "rejected 1.png: is not an image 1",
    ]
    assert list(some(7).lines())[4:] == [
        "rejected 4.png: is not an image 4",
        "and 2 more, in the rejects file",
    ]
    assert len(list(some(7).lines(shown=7))) == 7


def test_b11_a_long_text_is_shortened_in_the_lines_and_whole_in_the_file(tmp_path: Path) -> None:
    rejects, path = Rejects(), tmp_path / "v.npy.rejects.jsonl"
    text = "begin" + "\x1b" * (8 << 20) + "end.png"
    rejects.add(0, text, TextError(f"{text[:5]} {'x' * (8 << 20)}; shorten it."))
    (line,) = rejects.lines()
    assert line.startswith(r"rejected begin\x1b")
    assert "..." in line
    assert "end.png: begin xxx" in line
    assert line.endswith("xxx; shorten it.")
    assert len(line) < 3000  # an escape has four characters
    rejects.write(path)
    assert json.loads(path.read_text())["source"] == text


def test_a_name_of_200_characters_is_shown_as_it_is() -> None:
    for length, shown in ((200, "x" * 200), (201, "x" * 98 + "..." + "x" * 99)):
        rejects = Rejects()
        rejects.add(0, "x" * length, TextError("bad"))
        assert list(rejects.lines()) == [f"rejected {shown}: bad"]


def test_each_is_a_line_of_json(tmp_path: Path) -> None:
    rejects, path = some(1), tmp_path / "v.npy.rejects.jsonl"
    rejects.add(5, r"caf\udce9", TextError("not text", place=2))
    rejects.write(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rejects.to_json()
    assert rejects.to_json()[1] == {"index": 5, "source": r"caf\udce9", "reason": "not text"}


def test_without_rejects_an_earlier_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "v.npy.rejects.jsonl"
    some(1).write(path)
    Rejects().write(path)
    assert not path.exists()
