"""`tokens` and `lint`: quick, exact, and without weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecliptic.inputs import Tokenizer, TokenizerSpec, ledger


def test_tokens_shows_ids_pieces_and_characters(run: Any) -> None:
    result = run("tokens", "a photo of Caf\u00e9", "--json")
    found = json.loads(result.stdout)
    assert [t["id"] for t in found] == [49406, 320, 1125, 539, 15304, 49407]
    assert found[4]["span"] == [11, 15]
    table = run("tokens", "a photo").stdout
    assert "1125" in table
    assert "photo" in table


def test_tokens_marks_what_is_dropped(run: Any) -> None:
    result = run("tokens", "word " * 90)
    assert result.exit_code == 0
    assert result.stdout.count("dropped: the context is full") == 15
    assert "15 dropped" in result.stderr


def test_tokens_use_the_models_own_tokenizer(run: Any, model: str) -> None:
    result = run("tokens", "word " * 20, "--model", model)
    assert "16 fit, 6 dropped" in result.stderr


@pytest.mark.parametrize("words", [["tokens", "a cat"], ["lint", "a cat"]])
@pytest.mark.parametrize("model", [[], ["--model", "ViT-B-32/openai"]])
def test_neither_needs_torch_or_a_download(words: list[str], model: list[str]) -> None:
    code = (
        "import sys\nfrom ecliptic.cli.main import run\n"
        f"sys.argv = ['ecliptic', *{words + model}]\n"
        "try:\n    run()\nexcept SystemExit as exit:\n    assert not exit.code\n"
        "assert 'torch' not in sys.modules and 'huggingface_hub' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_a_model_without_text_side_says_so(run: Any, tmp_path: Path) -> None:
    from ecliptic.checkpoints import write
    from tests import tiny

    write(tiny.checkpoint("image"), tmp_path / "image")
    result = run("tokens", "a cat", "-m", tmp_path / "image")
    assert result.exit_code == 1
    assert "no text side" in result.stderr


def test_lint_reads_a_text_a_file_or_stdin(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox in snow\n\na cat cat on a mat\n", encoding="utf-8")
    from_file = json.loads(run("lint", file, "--json").stdout)
    assert [row["line"] for row in from_file] == [1, 3]
    codes = [finding["code"] for finding in from_file[1]["findings"]]
    assert "repeated-word" in codes
    from typer.testing import CliRunner

    from ecliptic.cli.main import app

    piped = CliRunner().invoke(app, ["lint", "-", "--json"], input=file.read_bytes())
    assert json.loads(piped.stdout) == from_file
    given = json.loads(run("lint", "a cat cat on a mat", "--json").stdout)
    assert given[0]["findings"] == from_file[1]["findings"]


def test_lint_fails_only_when_strict(run: Any) -> None:
    assert run("lint", "a cat cat on a mat").exit_code == 0
    assert run("lint", "a cat cat on a mat", "--strict").exit_code == 1
    assert run("lint", "a red fox jumps over fresh snow", "--strict").exit_code == 0


def test_lint_names_the_place(run: Any) -> None:
    result = run("lint", "see a cat cat")
    assert result.stdout.startswith("1:7: warning [repeated-word]")


def test_the_json_of_tokens_is_the_ledger(run: Any) -> None:
    text = "Two dogs &amp; \N{GRINNING FACE}!"
    expected = [token.to_json() for token in ledger(text, Tokenizer(TokenizerSpec()))]
    assert json.loads(run("tokens", text, "--json").stdout) == expected
