"""Rules in TOML and in Python: what is wrong is named, and paths are relative to the file."""

from pathlib import Path
from typing import Any

import pytest

from ecliptic.errors import ConfigError, SettingsError
from ecliptic.tasks import Concept, Rules, read_rules

WEAPONS = """
version = "2026-11"
reference = ["ordinary/"]

[[concepts]]
name = "weapons"
positive = ["a drawing of a sword"]
examples = ["swords/*.png"]
contrast = ["a drawing of a pen"]
threshold = 0.5
action = "review"

[[concepts]]
name = "food"
positive = ["a drawing of food"]
"""


def test_rules_are_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(WEAPONS)
    rules = read_rules(path)
    weapons, food = rules.concepts
    assert rules.version == "2026-11"
    assert rules.reference == (str(tmp_path / "ordinary"),)
    assert weapons.examples == (str(tmp_path / "swords/*.png"),)
    assert (weapons.threshold, weapons.action) == (0.5, "review")
    assert (food.threshold, food.action) == (None, "label"), "the default deletes nothing"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('positive = ["a drawing of food"]', "", "'food' describes nothing"),
        ('name = "food"', 'name = "weapons"', "two concepts are called 'weapons'"),
        ('name = "food"', 'name = " "', "needs a name"),
        ('name = "food"', "", "incomplete"),
        ("threshold = 0.5", "threshold = nan", "threshold of 'weapons' must be a finite number"),
        ("threshold = 0.5", 'threshold = "high"', "threshold must be float"),
        ('action = "review"', 'action = "delete"', "must be one of 'label', 'review', 'block'"),
        ("contrast =", "contrasts =", "did you mean 'contrast'"),
        ('positive = ["a drawing of food"]', 'positive = "food"', "positive must be a list"),
        ('positive = ["a drawing of food"]', 'positive = [""]', "must be a list of texts that are"),
        (
            'positive = ["a drawing of food"]',
            'positive = [" "]',
            "must be a list of texts that are",
        ),
        ('name = "food"', 'name = "food "', "the name 'food ' begins or ends with a space"),
        ("[[concepts]]", "[[concept]]", "did you mean 'concepts'"),
        ("[[concepts]]", "[concepts", "is not valid TOML"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(WEAPONS.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_rules(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no settings file"):
        read_rules(tmp_path / "rules.toml")


@pytest.mark.parametrize("concepts", [(), "weapons", [{"name": "weapons"}]])
def test_concepts_are_a_list_of_concepts(concepts: Any) -> None:
    with pytest.raises(ConfigError, match=r"concepts must be a list of Concept|no concepts"):
        Rules(concepts)


def test_a_single_text_is_no_list() -> None:
    with pytest.raises(ConfigError, match="`positive` of 'x' must be a list"):
        Concept("x", positive="a sword")  # type: ignore[arg-type]


def test_the_rules_of_the_page_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "moderation.md").read_text(encoding="utf-8")
    path = tmp_path / "rules.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0])
    (concept,) = read_rules(path).concepts
    assert concept.examples == (str(tmp_path / "swords"),)
