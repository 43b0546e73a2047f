"""`ecliptic draw`: sheets and files, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from ecliptic.cli import edit
from ecliptic.cli.draw import DrawFlags
from ecliptic.drawing import DrawSettings, RedrawSettings
from ecliptic.guidance import WAYS, EditSettings
from tests.cli.conftest import Run

QUICK = ("--steps", "2", "--clip-guidance", "0")


def test_a_sheet_and_single_files(run: Run) -> None:
    found = run("draw", "a cat", *QUICK, "--count", "3", "-o", "cats.png")
    assert found.exit_code == 0, found.stderr
    assert "3 drawings in cats.png" in found.stderr
    assert size("cats.png") == (3 * 200 + 8, 200 + 8)
    found = run("draw", "a cat", *QUICK, "--count", "2", "--each", "-o", "cat.png", "--json")
    assert json.loads(found.stdout)["files"] == ["cat-1.png", "cat-2.png"]
    assert size("cat-2.png") == (64, 64)


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_nothing_is_replaced_without_force(run: Run) -> None:
    Path("cats.png").write_bytes(b"mine")
    found = run("draw", "a cat", *QUICK, "--count", "1", "-o", "cats.png")
    assert found.exit_code != 0
    assert Path("cats.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("", "-o", "a.png"), "TEXT is empty"),
        (("a cat", "-o", "a.jpg"), "--out must end in .png"),
        (("a cat", "--guidance", "nan"), "guidance must be finite"),
        (("a cat", "--count", "0"), "--count"),
    ],
)
def test_wrong_usage_is_refused(run: Run, words: tuple[str, ...], message: str) -> None:
    found = run("draw", *words)
    assert found.exit_code == 2
    assert message in " ".join(found.stderr.split())


def test_the_flags_have_the_defaults_of_the_library() -> None:
    flags, settings = DrawFlags(), DrawSettings()
    assert (flags.guidance, flags.clip_guidance) == (settings.guidance, settings.clip_guidance)
    assert flags.drawn_steps == settings.steps == edit.DRAWN_STEPS
    edited = {field.name: field.default for field in dataclasses.fields(EditSettings)}
    assert (edited["steps"], edited["size"]) == (edit.EDIT_STEPS, edit.EDIT_SIZE)
    assert (edited["keep"], RedrawSettings().strength) == (edit.KEEP, edit.STRENGTH)
    assert (*WAYS, edit.DRAWING) == edit.EDIT_WAYS
