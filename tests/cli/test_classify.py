"""`ecliptic classify` with the calibration of a model."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ecliptic.checkpoints import write
from ecliptic.scoring import NONE_OF_THESE, Calibration
from tests import tiny
from tests.cli.conftest import Run


def test_the_command_says_none_of_these(run: Run, images: Path, tmp_path: Path) -> None:
    checkpoint = replace(tiny.checkpoint("vit"), calibration=Calibration(0.05, 0.3))
    write(checkpoint, tmp_path / "model")
    asked = ["classify", images / "a.png", "--model", tmp_path / "model", "--labels"]
    [row] = json.loads(run(*asked, "cat,dog", "--json").stdout)
    shares = {label["label"]: label["probability"] for label in row["labels"]}
    assert set(shares) == {"cat", "dog", NONE_OF_THESE}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert NONE_OF_THESE not in run(*asked, "cat,dog", "--no-calibrated").stdout
    found = tmp_path / "found.csv"
    run(*asked, "cat,dog", "-o", found)
    with found.open(newline="") as file:
        assert {one["label"] for one in csv.DictReader(file)} == set(shares)


def test_one_label_is_no_longer_always_right(run: Run, images: Path, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    for name, calibration in (("with", Calibration(0.05, 0.3)), ("without", None)):
        write(replace(checkpoint, calibration=calibration), tmp_path / name)
        asked = ["classify", images / "a.png", "--model", tmp_path / name, "--labels", "cat"]
        assert ("the only label" in run(*asked).stderr) == (calibration is None)


def test_a_calibration_that_is_not_there_or_a_name_that_is_taken(
    run: Run, model: str, images: Path, tmp_path: Path
) -> None:
    asked = ["classify", images / "a.png", "--labels", f"cat,{NONE_OF_THESE}", "--model"]
    found = run(*asked, model, "--calibrated")
    assert found.exit_code == 1
    assert "has no calibration in its card; leave --calibrated out" in " ".join(
        found.stderr.split()
    )
    assert run(*asked, model).exit_code == 0, "without a calibration it is a label like others"
    write(replace(tiny.checkpoint("vit"), calibration=Calibration(0.05, 0.3)), tmp_path / "model")
    found = run(*asked, tmp_path / "model")
    assert found.exit_code == 2
    assert "leave that label out" in " ".join(found.stderr.split())
