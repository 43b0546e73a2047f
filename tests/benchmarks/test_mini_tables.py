"""The JSON line and the tables of docs/mini.md."""

import json
from pathlib import Path

import pytest

from benchmarks.mini import name_sources, write_line
from benchmarks.mini_tables import Measured, write_tables
from benchmarks.naming import Share
from scripts.blocks import fill_block

NUMBERS = {
    "pixels_per_s": 1234.5,
    "png_files_per_s": 321.0,
    "captions_per_s": 2000.0,
    "megabytes": 14.3,
    "parameters": 7_100_000,
}
SHARE = Share(0.4834, 0.45, 0.5151, 777)
SHARES = dict.fromkeys(("design.at_1", "design.at_5", "phrases", "phrase.a bird"), SHARE) | {
    "group.flags.at_1": SHARE,
    "group.flags.at_5": SHARE,
}


def test_one_model_has_a_column_of_its_own_numbers() -> None:
    text = write_tables([Measured("mini", NUMBERS, SHARES)], 2)
    assert "| what is named | pictures | recall at 1 | recall at 5 |" in text
    assert "| 777 | 0.483 (0.45–0.52) | 0.483 (0.45–0.52) |" in text
    assert "| flags | 777 |" in text
    assert "| a bird | 777 | 0.483 (0.45–0.52) |" in text
    assert "| images/s, from pixels | 1,234 |" in text


def test_two_models_stand_side_by_side_and_without_data_only_the_speed() -> None:
    both = [Measured("new", NUMBERS, SHARES), Measured("old", NUMBERS, {})]
    text = write_tables(both, 2)
    assert "new: recall at 1 | new: recall at 5 | old: recall at 1" in text
    assert "| 0.483 (0.45–0.52) | – | – |" in text
    assert write_tables([both[1]], 2).startswith("| 2 threads | old |")


def test_the_line_has_a_key_for_every_measure() -> None:
    line = json.loads(write_line([Measured("mini", NUMBERS, SHARES)]))
    assert line["bench"] == "mini"
    assert line["models"]["mini"]["megabytes"] == 14.3
    assert line["models"]["mini"]["design.at_1"] == [0.4834, 0.45, 0.5151, 777]


def test_models_of_equal_names_are_new_and_old() -> None:
    assert name_sources(["mini", "runs/a/model"]) == {"mini": "mini", "model": "runs/a/model"}
    assert name_sources(["a/model", "b/model"]) == {"new": "a/model", "old": "b/model"}


def test_a_block_of_a_page_is_replaced_and_a_missing_one_is_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- numbers -->\nold\n<!-- /numbers -->\nafter\n")
    fill_block(page, "numbers", r"new \1")
    fill_block(page, "numbers", r"new \1")
    assert page.read_text() == ("before\n<!-- numbers -->\n\nnew \\1\n\n<!-- /numbers -->\nafter\n")
    with pytest.raises(SystemExit, match="sheets"):
        fill_block(page, "sheets", "")
