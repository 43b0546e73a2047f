"""The page on training names settings that exist, and every flag of open_clip."""

import dataclasses
import importlib.util
import re
import typing
from pathlib import Path

import pytest

from ecliptic.train import TrainSettings

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def _fields(cls: type) -> dict[str, list[type]]:
    """Fields of a dataclass, each with the dataclasses that it may hold."""
    hints = typing.get_type_hints(cls)
    return {f.name: _dataclasses(hints[f.name]) for f in dataclasses.fields(cls)}


def _dataclasses(hint: object) -> list[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint]
    return [found for arm in typing.get_args(hint) for found in _dataclasses(arm)]


def _exists(name: str) -> bool:
    classes: list[type] = [TrainSettings]
    for part in name.split("."):
        fields = [_fields(cls) for cls in classes]
        if part != "kind" and not any(part in one for one in fields):
            return False
        classes = [cls for one in fields for cls in one.get(part, [])]
    return True


def test_settings_that_the_page_names_exist() -> None:
    text = re.sub(r"^```.*?^```", "", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    tables = [name for name, inner in _fields(TrainSettings).items() if inner]
    named = set(re.findall(rf"`((?:{'|'.join(tables)})\.[\w.]+)", text))
    assert len(named) > 25
    assert not {name for name in named if not _exists(name.rstrip("."))}


def test_the_table_names_every_flag_of_open_clip() -> None:
    found = importlib.util.find_spec("open_clip_train")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs open_clip_torch")
    source = Path(found.submodule_search_locations[0], "params.py").read_text(encoding="utf-8")
    flags = set(re.findall(r"""["'](--[a-z0-9-]+)["']""", source))
    table = PAGE.read_text(encoding="utf-8").partition("## The flags of open_clip")[2]
    named = {flag for row in table.splitlines() for flag in re.findall(r"`(--[a-z0-9-]+)", row)}
    assert len(flags) >= 80
    assert flags <= named
