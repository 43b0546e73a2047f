"""`convert --precision int8` writes a model that other commands use, and says what it lost."""

import json
from pathlib import Path
from typing import Any

import pytest

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine.quantising import bundled_images
from tests import tiny


def test_convert_writes_int8_and_a_report(run: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model")
    out, report = tmp_path / "int8", tmp_path / "report.json"
    words = ["convert", tmp_path / "model", out, "--precision", "int8", "--report", report]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert "image: " in told
    assert "of 90 inputs that were not calibrated on" in told
    assert "of the 10 nearest are the same" in told
    facts = json.loads(report.read_text())
    assert facts["wanted"] == 0.9998
    assert {tower["worst"] >= 0.9998 for tower in facts["towers"]} == {True}
    assert len(facts["layers"]) == 20
    assert facts["kept"] == [layer["name"] for layer in facts["layers"] if layer["kept"]]
    clip = ecliptic.load(out)
    assert clip.runtime.precision == "int8"
    assert facts["space"] == clip.card.space == ecliptic.load(tmp_path / "model").card.space
    refused = run(*words)
    assert refused.exit_code == 1
    assert "report.json exists; pass --force" in refused.stderr
    report.unlink()
    refused = run(*words)
    assert refused.exit_code == 1
    assert "int8 exists; pass --force" in refused.stderr
    again = run(*words, "--force", "--json", "--min-cosine", "0.99")
    assert json.loads(again.stdout)["wanted"] == 0.99
    assert run("info", out, "--json").exit_code == 0
    double = run("convert", out, tmp_path / "other", "--precision", "int8")
    assert double.exit_code == 1
    assert "is int8 already" in double.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--precision", "int8"], "note: finding the layers that can be int8"),
        (["--precision", "fp8", "--kernels", "plain"], "note: finding the layers that can be fp8"),
    ],
)
def test_every_command_of_vectors_can_use_them(
    run: Any, tmp_path: Path, flags: list[str], said: str
) -> None:
    write(tiny.checkpoint(), tmp_path / "model")
    bundled_images()[0].save(tmp_path / "a.png")
    words = ["classify", tmp_path / "a.png", "-l", "cat,dog", "--model", tmp_path / "model"]
    result = run(*words, *flags, "--json")
    assert result.exit_code == 0, result.stderr
    assert said in result.stderr
    usual = json.loads(run(*words, "--json").stdout)
    found = json.loads(result.stdout)
    assert found != usual
    for mine, theirs in zip(found[0]["labels"], usual[0]["labels"], strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=0.1)
    refused = run(*words, "--precision", "fp8")
    assert refused.exit_code == 1
    assert "--kernels plain, which computes it anywhere" in " ".join(refused.stderr.split())
    assert "note" not in refused.stderr


def test_images_and_texts_of_the_user_are_counted(run: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(bundled_images()[:20]):
        image.save(tmp_path / "pictures" / f"{number:02}.png")
    lines = "".join(f"a photo of {n} cats\n\n" for n in range(24))
    words = ["--calibrate", tmp_path / "pictures", "--texts", "-", "--json"]
    command = ("convert", tmp_path / "model", tmp_path / "out", "--precision", "int8", *words)
    result = run(*command, "--min-cosine", "0.9", input=lines)
    assert result.exit_code == 0, result.stderr
    towers = json.loads(result.stdout)["towers"]
    assert [(tower["inputs"], tower["calibrated_on"]) for tower in towers] == [(10, 10), (12, 12)]
    few = run(*command, "--force", input="one\n")
    assert few.exit_code == 1
    assert "needs 20 inputs of the text tower or more, got 1" in few.stderr
