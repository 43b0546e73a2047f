"""The page of commands shows every command, flag and default, and is up to date."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ecliptic.cli.flags import ModelFlags, expands
from ecliptic.cli.main import app
from ecliptic.cli.pages import list_commands, page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_flag_is_on_the_page() -> None:
    group = typer.main.get_command(app)
    sections = dict(part.split("\n", 1) for part in page().split("## ecliptic ")[1:])
    for name, command in list_commands(group):
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        names = (name for p in shown for name in (*p.opts, *p.secondary_opts))
        flags = [name for name in names if name.startswith("-")]
        assert not [flag for flag in flags if f"`{flag}`" not in sections[name]]


def test_a_default_of_zero_is_on_the_page_and_dots_are_there_once() -> None:
    assert "| `--seed` `<int>` | Of resamples and permutations. | `0` |" in page()
    assert "......" not in page()


def test_a_dataclass_stands_for_its_flags() -> None:
    got: list[object] = []

    def command(*, word: Annotated[str, typer.Argument()], model: ModelFlags) -> None:
        got.append((word, model))

    small = typer.Typer()
    small.command()(expands(command))
    result = CliRunner().invoke(small, ["hello", "--device", "cuda:1", "--image-size", "336"])
    assert result.exit_code == 0, result.output
    assert got == [("hello", ModelFlags(device="cuda:1", image_size=336))]


def test_no_command_has_forty_flags() -> None:
    for _, command in list_commands(typer.main.get_command(app)):
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        assert len(shown) < 40


def test_every_argument_has_help() -> None:
    group = typer.main.get_command(app)
    for name, command in list_commands(group):
        assert all(parameter.help for parameter in command.params), name
