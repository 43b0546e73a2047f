"""Help ends with examples that work, flags stand in panels, and the shell completes names."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from ecliptic.checkpoints import catalog
from ecliptic.cli.examples import EXAMPLES
from ecliptic.cli.help import OTHERS, PANELS, in_panels
from ecliptic.cli.main import app
from ecliptic.cli.pages import list_commands
from ecliptic.inputs import template_sets
from ecliptic.settings import load_toml
from ecliptic.train import TrainSettings

GROUP = typer.main.get_command(app)
COMMANDS = dict(list_commands(GROUP))
ALL = [(name, example) for name, examples in EXAMPLES.items() for example in examples]
ROOT = Path(__file__).parents[2]


def words_of(example: str) -> list[str]:
    """The words after `ecliptic`, which may stand behind a pipe."""
    program, *words = shlex.split(example.rpartition(" | ")[2])
    assert program == "ecliptic"
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_two_or_three_examples(name: str, run: Any) -> None:
    assert 2 <= len(EXAMPLES[name]) <= 3
    shown = run(*name.split(), "--help").stdout
    assert shown.endswith("Examples:\n" + "".join(f"  {one}\n" for one in EXAMPLES[name]))


def test_the_group_has_examples_too(run: Any) -> None:
    assert set(EXAMPLES) == {"", *COMMANDS}
    assert run("--help").stdout.endswith(f"  {EXAMPLES[''][-1]}\n")


@pytest.mark.parametrize(("name", "example"), ALL)
def test_every_example_is_a_command(name: str, example: str) -> None:
    assert len(example) <= 78  # two spaces before it, on a terminal of 80 columns
    words = words_of(example)
    found = next(one for one in COMMANDS if words[: len(one.split())] == one.split())
    assert name in ("", found)
    context = COMMANDS[found].make_context(found, words[len(found.split()) :])
    assert not context.args
    given = context.params
    for model in re.findall(r"\b(?:ViT|RN)[\w-]*/\w+", example):
        assert model in catalog.names()
    assert given.get("templates") in (None, *template_sets())
    if found == "train" and given["recipe"]:
        load_toml(TrainSettings, ROOT / given["recipe"], given["overrides"] or ())


def test_every_flag_is_in_a_panel() -> None:
    for name, command in COMMANDS.items():
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        options = [p for p in shown if p.param_type_name == "option"]
        panels = dict(in_panels(options))
        assert [one.name for one in panels.pop(OTHERS, [])] in ([], ["help"]), name
        assert list(panels) == [title for title in PANELS if title in panels]
        assert sum(map(len, panels.values())) == len(options)


def test_no_panel_names_a_flag_that_there_is_not() -> None:
    known = {parameter.name for command in COMMANDS.values() for parameter in command.params}
    assert {name for names in PANELS.values() for name in names} <= known | {"any_size"}


def test_panels_are_in_the_order_people_need_them(run: Any) -> None:
    shown = run("classify", "--help").stdout
    places = [shown.index(f"\n{title}:\n") for title in ("Arguments", "Input", "Model", "Output")]
    assert places == sorted(places)
    assert shown.index("--labels ") < shown.index("--model") < shown.index("--image-spec")


def complete(line: str, cwd: Path) -> tuple[list[str], float, list[str]]:
    """What bash completes at the end of `line`, the seconds, and the modules that were loaded."""
    words = line.split(" ")
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from ecliptic.cli.main import run\nrun()\n"
    )
    environment = {
        **os.environ,
        "_ECLIPTIC_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    start = time.perf_counter()
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    seconds = time.perf_counter() - start
    return found.stdout.split(), seconds, found.stderr.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ecliptic emb", ["embed"]),
        ("ecliptic embed --model ViT-L-14/op", ["ViT-L-14/openai"]),
        ("ecliptic embed -m mi", ["mini"]),
        ("ecliptic info ViT-B-16/op", ["ViT-B-16/openai"]),
        ("ecliptic doctor mini RN50/op", ["RN50/openai"]),
        ("ecliptic condition x -e ViT-L-14/op", ["ViT-L-14/openai"]),
        ("ecliptic demo --model ViT-B-32/op", ["ViT-B-32/openai"]),
        ("ecliptic tokens x -m ViT-B-32/op", ["ViT-B-32/openai"]),
        ("ecliptic classify --templates ima", ["imagenet"]),
        ("ecliptic lint x --dialect co", ["comfyui", "compel"]),
        ("ecliptic condition x --dialect a1", ["a1111"]),
        ("ecliptic condition x --for sdxl", ["sdxl", "sdxl-refiner"]),
        ("ecliptic captions write x --for fl", ["flux"]),
        ("ecliptic embed --prec", ["--precision"]),
    ],
)
def test_f8_the_shell_completes_names_without_torch(
    line: str, expected: list[str], tmp_path: Path
) -> None:
    found, seconds, modules = complete(line, tmp_path)
    assert set(expected) <= set(found)
    assert all(one.startswith(line.split(" ")[-1]) for one in found)
    assert not {"torch", "numpy", "PIL", "huggingface_hub"} & set(modules)
    assert seconds < 5
