"""No command prints a control character from a name, a text, a file or a setting of its user.

Every command gets names and texts that would change a terminal: its title, its screen, colours, the
start of a line, the direction of writing, and bytes that are not UTF-8.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save

import ecliptic
from ecliptic.checkpoints import Row, catalog, write
from ecliptic.cli import output
from ecliptic.engine import progress_bar
from tests import tiny
from tests.cli.test_train import RECIPE

PACKAGE = Path(ecliptic.__file__).parent
TEXT = "\x1b]0;title\x07\x1b[2Jcat\rok\x9b31m\u202egnp\x7f\nforged"
BYTES = TEXT + "\udc80\udcff"  # as Python shows a name that is not UTF-8

# The tiny models have few tokens; how the warnings are shown is tested on its own.
pytestmark = pytest.mark.filterwarnings("ignore::ecliptic.inputs.TruncationWarning")
_SHOWN = re.compile(r"\\x1b|\\u202e")


def check(shown: str, *, lines: bool = False) -> None:
    """Nothing in `shown` controls a terminal; the text has been there, and forged no line."""
    bad = {
        f"{character!r} {unicodedata.category(character)}"
        for character in shown
        if (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")
        or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
    }
    assert not bad, shown
    assert lines or not re.search(r"^\W*forged", shown, flags=re.MULTILINE), shown


def output_of(result: Any) -> str:
    """What a command printed on both streams; an error that is not typed fails the test."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return str(result.stdout + result.stderr)


@pytest.fixture
def hostile(tmp_path: Path, model: str, images: Path) -> Path:
    """A folder with hostile names: a model, images, a broken image, texts, labels, a table."""
    folder = tmp_path / f"in {BYTES}"
    (folder / "pictures").mkdir(parents=True)
    shutil.copytree(model, folder / f"model {BYTES}")
    shutil.copy(images / "a.png", folder / "pictures" / f"good {BYTES}.png")
    (folder / "pictures" / f"bad {BYTES}.png").write_bytes(b"no image")
    (folder / "labels").write_text(f"{TEXT}\n{TEXT[::-1]}\nplain\n", encoding="utf-8")
    (folder / "captions.csv").write_text(
        f'id,caption\n"{TEXT}","{TEXT}"\n"b{TEXT}",""\n', encoding="utf-8", newline=""
    )
    return folder


Words = Callable[[Path, str], list[Any]]

COMMANDS: dict[str, Words] = {
    "embed": lambda at, model: ["embed", at / "pictures", "-m", model, "-o", at / f"v{BYTES}.npy"],
    "embed texts": lambda at, model: ["embed", "-t", TEXT, "-m", model, "-o", at / f"{BYTES}.npy"],
    "embed a missing folder": lambda at, model: [
        *("embed", at / f"no {BYTES}", "-m", model, "-o", at / "missing.npy"),
    ],
    "embed a table": lambda at, model: [
        *("embed", at / "captions.csv", "--kind", "text", "--column", TEXT, "-m", model),
        *("-o", at / "table.npy"),
    ],
    "embed as a model": lambda at, _: [
        *("embed", "-t", "a", "-m", at / f"no {BYTES}", "-o", at / "model.npy"),
    ],
    "classify": lambda at, model: [
        *("classify", at / "pictures", "--labels-file", at / "labels", "-m", model),
    ],
    "classify one label": lambda at, model: [
        *("classify", at / "pictures", "--labels", TEXT, "-m", model, "--templates", TEXT),
    ],
    "aesthetic without a head": lambda at, _: [
        *("aesthetic", at / "pictures", "--head", at / f"no {BYTES}"),
    ],
    "aesthetic of a wrong table": lambda at, model: [
        *("aesthetic", "--train", at / "captions.csv", "-m", model),
    ],
    "similarity": lambda at, model: [
        *("similarity", at / "pictures", "-t", TEXT, "-t", "b", "-m", model),
        *("--plot", at / f"{BYTES}.png"),
    ],
    "similarity of many": lambda at, model: [
        "similarity",
        *(word for i in range(12) for word in ("-t", f"{i}{TEXT}")),
        *("-m", model),
    ],
    "similarity in a bad plot": lambda at, _: ["similarity", "-t", "a", "--plot", f"{BYTES}.foo"],
    "condition": lambda at, _: ["condition", TEXT, "-n", TEXT, "-o", at / f"{BYTES}.safetensors"],
    "condition shown": lambda at, _: ["condition", TEXT, "--page", at / f"{BYTES}.html"],
    "condition wrongly": lambda at, _: ["condition", f"(a:{TEXT})", "--dialect", "comfyui"],
    "condition with a lora": lambda at, _: ["condition", "a", "--lora", at / f"no {BYTES}"],
    "condition with a scale": lambda at, _: ["condition", "a", "--lora", f"a={TEXT}"],
    "captions write": lambda at, _: [
        *("captions", "write", at / "captions.csv", "--id", "id", "-o", at / f"cache {BYTES}"),
    ],
    "captions write no table": lambda at, _: ["captions", "write", TEXT, "-o", at / "cache"],
    "captions write no column": lambda at, _: [
        *("captions", "write", at / "captions.csv", "--column", TEXT, "-o", at / "cache"),
    ],
    "captions verify": lambda at, _: ["captions", "verify", at / f"cache {BYTES}"],
    "lint": lambda at, _: ["lint", f"a ({TEXT}:1.3) {TEXT}"],
    "lint a file": lambda at, _: ["lint", at / "labels", "--dialect", "compel"],
    "lint with a model": lambda at, _: ["lint", "a", "-m", at / f"model {BYTES}"],
    "tokens": lambda at, _: ["tokens", TEXT],
    "info": lambda at, _: ["info", at / f"model {BYTES}"],
    "info of nothing": lambda at, _: ["info", at / f"no {BYTES}"],
    "info of a url": lambda at, _: ["info", f"https://{TEXT}"],
    "models": lambda at, _: ["models"],
    "models found": lambda at, _: ["models", TEXT],
    "convert": lambda at, _: ["convert", at / f"model {BYTES}", at / f"out {BYTES}"],
    "convert over a file": lambda at, _: ["convert", at / f"model {BYTES}", at / "labels" / BYTES],
    "doctor": lambda at, model: ["doctor", at / f"model {BYTES}", model, "-t", TEXT],
    "bench": lambda at, _: [
        *("bench", at / f"model {BYTES}", "--batch", "1", "--seconds", ".01", "--peer", "none"),
    ],
    "bench of nothing": lambda at, _: ["bench", "--random", TEXT],
    "bench of batches": lambda at, _: ["bench", "--batch", TEXT],
    "doctor of nothing": lambda at, model: ["doctor", f"{TEXT}", model],
    "demo": lambda at, model: ["demo", "-m", at / f"model {BYTES}", "-o", at / f"{BYTES}.html"],
    "train without data": lambda at, _: ["train", at / "recipe", "--data", at / f"no {BYTES}"],
    "train without recipe": lambda at, _: ["train", at / f"no {BYTES}"],
    "train wrongly": lambda at, _: ["train", at / "recipe", f"{TEXT}={TEXT}"],
    "an unknown command": lambda at, _: [TEXT],
    "an unknown flag": lambda at, _: ["embed", f"--{TEXT}"],
    "an unknown flag of the group": lambda at, _: [f"--{TEXT}"],
    "too many arguments": lambda at, _: ["tokens", "a", TEXT],
    "a choice that there is not": lambda at, _: ["lint", "a", "--dialect", TEXT],
    "a number that is none": lambda at, _: ["embed", "-t", "a", "--batch-size", TEXT],
    "heads that are none": lambda at, _: ["info", "mini", "--heads", TEXT],
    "a spec that is none": lambda at, _: ["info", "mini", "--image-spec", TEXT],
}
PROMPTS = ("condition", "captions write")
MENTION_NOTHING = {
    *("models", "models found", "lint with a model", "a number that is none"),
    *("info", "bench"),  # the model has its own name
}


@pytest.mark.parametrize("name", COMMANDS)
def test_c11_f12_no_command_prints_controls(
    name: str, run: Any, hostile: Path, model: str, encoders: list[str]
) -> None:
    (hostile / "recipe").write_text(RECIPE)
    words = COMMANDS[name](hostile, model)
    if name.startswith(PROMPTS):
        words += ["--for", "sdxl", *encoders]
    result = run(*words)
    shown = output_of(result)
    check(shown)
    assert shown
    assert _SHOWN.search(shown) or name in MENTION_NOTHING
    if result.exit_code == 1:
        check(output_of(run("--traceback", *words)))


@pytest.mark.parametrize("name", ["embed", "classify", "similarity", "lint", "info", "tokens"])
def test_f10_json_keeps_the_data_as_it_is(name: str, run: Any, hostile: Path, model: str) -> None:
    result = run(*COMMANDS[name](hostile, model), "--json")
    found = json.loads(result.stdout)
    check(result.stdout)
    assert result.stdout.isascii()
    text = json.dumps(found, ensure_ascii=False)
    if name in ("similarity", "lint"):
        assert json.dumps(TEXT, ensure_ascii=False)[1:-1] in text
    elif name in ("embed", "classify"):  # names on disk, where lone surrogates cannot be stored
        assert json.dumps(TEXT, ensure_ascii=False)[1:-1] in text
        assert r"\\udc80" in text


def test_the_columns_and_the_title_of_a_table_are_text_and_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_table((f"[bold]{TEXT}[/bold] ", "b"), [(f"[red]{TEXT}", 1)], title=f"[i]{TEXT}")
    shown = capsys.readouterr().out
    check(shown)
    for part in ("[bold]", "[/bold]", "[red]", "[i]"):
        assert part in shown


def test_facts_lines_and_messages_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_facts({TEXT: TEXT, "b": [TEXT]})
    output.print_text(TEXT)
    output.say(TEXT)
    for shown in capsys.readouterr():
        check(shown)
    output.print_text("a\n\tb\x1b", lines=True)
    output.say("a\n\tb\x1b", lines=True)
    assert capsys.readouterr() == ("a\n\tb\\x1b\n", "a\n\tb\\x1b\n")


def test_warnings_are_one_line_without_controls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    output.shorten_warnings()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(TEXT, UserWarning, stacklevel=1)
    shown = capsys.readouterr().err
    check(shown)
    assert shown.startswith(r"warning: \x1b]0;title")


def test_nothing_but_the_sinks_prints() -> None:
    """A command that calls `print` itself would print controls; it calls `say` and the like."""
    assert find_calls({"print", "echo", "secho", "Console", "print_exc", "excepthook"}) == {
        "cli/output.py": {"print"},
        "engine/progress.py": {"Console"},  # its label is a constant
        "report/showcase/summary.py": {"print", "Console"},
    }
    assert find_calls({"warn"}, of="warnings") == {"errors.py": {"warn"}}


def test_c12_one_writer_of_tables_for_spreadsheets() -> None:
    """A cell that begins with =, +, - or @ is a formula there; this one escapes it."""
    assert find_calls({"writer", "DictWriter"}, of="csv") == {"cli/rankings.py": {"writer"}}
    assert find_calls({"to_csv", "write_csv"}) == {}


@pytest.mark.parametrize("shown", ["[/b]", "[red]x", "[[x]]", ":cat:"])
def test_markup_of_rich_is_text_in_every_sink(
    shown: str, run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    name = images / f"{shown.replace('/', '')}.png"
    shutil.copy(images / "a.png", name)
    for words in (
        ["similarity", name, "-t", shown, "-t", "b", "-m", model],
        ["similarity", name, images / "a.png", "-m", model, "-k", 1],
        ["classify", name, images / "a.png", "-l", f"{shown},b", "-m", model],
        ["classify", name, "-l", f"{shown},b", "-m", model, "-k", "1"],
        ["info", shown],
        ["models", shown],
        [shown],
        ["embed", f"--{shown}"],
        ["lint", "a", "--dialect", shown],
        ["embed", name, "-m", model, "-o", tmp_path / f"{name.stem}.npy"],
        ["embed", images / f"no {name.name}", "-m", model],
    ):
        said = output_of(run(*words))
        assert shown in said or name.name in said or "1 vector" in said, (words, said)


def test_markup_in_a_progress_bar_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress_bar("[/b] [red]x", 3, show=True) as advance:
        advance(3)
    assert "[/b] [red]x" in capsys.readouterr().err


def find_calls(names: set[str], of: str = "") -> dict[str, set[str]]:
    """Calls of functions by name, in each module of the package that has some."""
    found: dict[str, set[str]] = {}
    for module, owner, called in _calls():
        ours = owner in ("prompt", "self") and called == "print"  # writes a prompt as text
        if called in names and (not of or owner == of) and not ours:
            found.setdefault(module, set()).add(called)
    return found


@cache
def _calls() -> tuple[tuple[str, str, str], ...]:
    """(module, owner of the function, its name) of every call in the package."""
    return tuple(
        (
            str(path.relative_to(PACKAGE)),
            getattr(getattr(node.func, "value", None), "id", ""),
            getattr(node.func, "attr", None) or getattr(node.func, "id", ""),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )


def test_a_row_of_the_catalog_cannot_control_the_table(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = catalog.find("ViT-B-32/openai")
    bad = Row(row.architecture, row.tag, TEXT, row.activation, row.image_spec)
    monkeypatch.setattr(catalog, "find", lambda _: bad)
    check(run("models").stdout)


def test_the_name_of_a_recipe_is_printed_without_controls(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe").write_text(RECIPE.replace('"shapes"', json.dumps(TEXT)))
    trained = SimpleNamespace(stopped=False)
    monkeypatch.setattr("ecliptic.train.loop.train", lambda *_, **__: trained)
    monkeypatch.chdir(tmp_path)
    result = run("train", tmp_path / "recipe", "--data", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert r"runs/\x1b" in result.stderr
    check(output_of(result))


def test_notes_of_a_checkpoint_are_shown_without_controls(run: Any, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    checkpoint = type(checkpoint)(**{**vars(checkpoint), "notes": (TEXT,), "name": TEXT})
    write(checkpoint, tmp_path / "noted")
    check(output_of(run("info", tmp_path / "noted")))
    check(output_of(run("convert", tmp_path / "noted", tmp_path / "hf", "-l", "transformers")))


def test_c11_a_name_cannot_forge_a_line_of_an_error(run: Any, tmp_path: Path) -> None:
    bad = tmp_path / "x\nforged: all your base.pt"
    for content in (b"", b"junk" * 100, save({"a\nforged": torch.zeros(2)})):
        bad.write_bytes(content)
        shown = output_of(run("info", bad))
        check(shown)
        assert r"x\nforged: all" in shown
    assert r"a\nforged" in shown
    check(output_of(run("info", tmp_path / "missing\nforged.pt")))


def test_a_bug_shows_its_traceback_without_controls() -> None:
    code = (
        "import sys\nfrom ecliptic.cli import main\n"
        "def broken(*_): raise RuntimeError(sys.argv[2])\n"
        "import ecliptic.inputs.token_spans as spans\nspans.ledger = broken\n"
        "main.run()\n"
    )
    command = [sys.executable, "-c", code, "tokens", TEXT]
    found = subprocess.run(command, capture_output=True, timeout=60)
    shown = found.stderr.decode()
    assert found.returncode == 1
    assert "Traceback" in shown
    assert r"RuntimeError: \x1b]0;title" in shown
    check(shown, lines=True)


def test_f12_a_process_escapes_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\x80\x1b[2J\xff"
    command = [os.fsencode(sys.executable), b"-m", b"ecliptic", b"lint", name, b"-m", name]
    found = subprocess.run(command, capture_output=True, timeout=60)
    assert found.returncode == 1
    assert rb"\udc80\x1b[2J" in found.stderr
    check(found.stderr.decode())
    assert b"Traceback" not in found.stderr
