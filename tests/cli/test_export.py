"""`convert --to` exports for other programs, and refuses what would do nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from tests import tiny


def test_convert_to_torch_says_what_it_wrote(run: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path / "model")
    words = ("convert", tmp_path / "model", "--to", "torch", "-o", tmp_path / "out")
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "note: the model has no image tower, so there is no image file" in result.stderr
    assert "text.pt2: fp32, " in result.stderr
    assert "1 file for torch, checked in torch" in result.stderr
    assert (tmp_path / "out" / "text.pt2").is_file()
    refused = run(*words)
    assert refused.exit_code == 1
    assert "out exists; pass --force" in refused.stderr
    told = json.loads(run(*words, "--force", "--json").stdout)
    assert [file["file"] for file in told["files"]] == ["text.pt2"]
    assert told["files"][0]["agreement"]["error"] < 1e-4
    assert (told["to"], told["opset"]) == ("torch", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "tflite", "-o", "out"], "tflite"),
        (["--to", "onnx", "-o", "out", "--layout", "openai"], "--layout does nothing with --to"),
        (["out", "--precision", "fp16"], "--precision fp16 does nothing without --to"),
        (["out", "-o", "other"], "both out and --out other are given"),
        (["--to", "onnx"], "missing OUT"),
        (["--to", "onnx", "-o", "out", "--precision", "int8"], "leave --to out, or use fp16"),
        (["out", "--precision", "int8", "--layout", "openai"], "--layout openai cannot hold int8"),
        (["out", "--min-cosine", "0.99"], "--min-cosine does nothing without --precision int8"),
        (["out", "--calibrate", "x"], "--calibrate does nothing without --precision int8"),
        (["out", "--texts", "x"], "--texts does nothing without --precision int8"),
        (["out", "--report", "x"], "--report does nothing without --precision int8"),
        (["out", "--precision", "int8", "--min-cosine", "1"], "must be above 0 and below 1"),
    ],
)
def test_flags_that_do_nothing_are_refused_by_name(
    run: Any, model: str, words: list[str], said: str
) -> None:
    result = run("convert", model, *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not Path("out").exists()


def test_a_layout_may_be_written_by_the_flag_too(run: Any, model: str, tmp_path: Path) -> None:
    assert run("convert", model, "-o", tmp_path / "copy").exit_code == 0
    assert (tmp_path / "copy" / "ecliptic.json").is_file()


def test_the_model_itself_is_never_the_output(run: Any, model: str) -> None:
    result = run("convert", model, "--to", "torch", "-o", model, "--force")
    assert result.exit_code == 1
    assert "is read by this command" in result.stderr
