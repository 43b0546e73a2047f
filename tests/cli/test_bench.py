"""`ecliptic bench` prints plain tables and JSON, and refuses what makes no sense."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import catalog
from ecliptic.speed import peer as peers_of_speed
from tests import peers, tiny

QUICK = ("--batch", "1,2", "--seconds", "60")


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.speed.clock.MOST_RUNS", 2)
    monkeypatch.setattr("ecliptic.speed.clock.SHORTEST", 1e-4)


def test_mini_is_measured_by_default_and_fits_a_terminal(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(peers_of_speed, "find_spec", lambda name: None)
    result = run("bench", *QUICK)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("model         mini: 8.0 M parameters, 32 MB in fp32")
    assert "64 pixels (robust), 32 tokens" in lines[1]
    assert "How it runs:" in lines
    table = lines[lines.index("Images or captions a second, median and range of the runs:") + 1 :]
    assert table[0].split() == ["what", "batch", "a", "second", "lowest", "highest", "runs"]
    assert table[1].startswith("images, from pixels              1 ")
    assert max(map(len, table[:9])) <= 78
    said = " ".join(result.stdout.split())
    assert "open_clip was not measured: open_clip is not installed; `pip install open_clip" in said
    assert "ratio" not in said
    assert "measuring 8 rows, for " in result.stderr


def test_a_search_for_int8_layers_is_named_once(run: Any, model: str) -> None:
    words = ("--batch", "1", "--seconds", "0.1", "--peer", "none", "--precision", "int8")
    result = run("bench", model, *words)
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert told.count("note: finding the layers that can be int8") == 1
    assert "needs no search; the row of loading holds its time" in told
    assert " in int8" in result.stdout


@pytest.mark.parametrize(("load", "shown"), [(1000.0, True), (0.0, False)])
def test_a_busy_machine_is_named(
    run: Any, model: str, monkeypatch: pytest.MonkeyPatch, load: float, shown: bool
) -> None:
    monkeypatch.setattr("ecliptic.speed.measuring.read_load", lambda: load)
    result = run("bench", model, "--batch", "1", "--seconds", "0.1", "--peer", "none")
    assert result.exit_code == 0, result.stderr
    assert ("1000.0 programs used or wanted a core before this began" in result.stdout) is shown


def test_json_holds_every_number(run: Any, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("bench", model, *QUICK, "--peer", "none", "--precision", "bf16", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["model"]["name"] == "tiny-vit"
    assert found["model"]["precision"] == "bf16"
    assert found["model"]["weight_bytes"] < 2.1 * found["model"]["parameters"]
    assert {choice["what"] for choice in found["choices"]} >= {"precision", "text", "image"}
    assert [(row["what"], row["batch"]) for row in found["rows"]][:2] == [
        ("images, from pixels", 1),
        ("images, from pixels", 2),
    ]
    assert all(row["rate"]["median"] > 0 and row["peer"] is None for row in found["rows"])
    assert all(0 < use["loaded"] <= use["peak"] for use in found["memory"])
    assert (found["peer"], found["notes"]) == ("", [])


def test_open_clip_stands_beside_with_its_cosines(
    run: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = peers.open_clip()
    monkeypatch.setenv("COLUMNS", "80")
    result = run("bench", model, *QUICK)
    assert result.exit_code == 0, result.stderr
    _, _, beside = result.stdout.partition(f"Beside open_clip {library.__version__}, ")
    lines = beside.splitlines()
    assert lines[0] == "with the same weights and inputs, in turns:"
    assert lines[1].split() == ["what", "batch", "ecliptic", "open_clip", "ratio", "cosine"]
    rows = [line for line in lines[2:] if line.startswith(("images", "captions"))]
    assert len(rows) == 6
    assert max(map(len, rows)) <= 78
    assert all(float(row.split()[-1]) > 0.99999 for row in rows)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_architecture_is_measured_with_random_weights(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["resnet"])
    result = run("bench", "--random", "RN50", *QUICK, "--peer", "none", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["model"]["name"] == "RN50 with random weights"
    assert result.stderr.startswith("making random weights of RN50\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "a batch must be at least 1, got 0"),
        (["--batch", "1,-8"], "must be whole numbers with commas between, such as 1,8,32"),
        (["--batch", ""], "must be whole numbers with commas between"),
        (["--batch", "1,8,1"], "1 stands twice"),
        (["--batch", "99999999"], "at most 4,096"),
        (["--seconds", "0"], "seconds must be a number above 0, got 0.0"),
        (["--seconds", "nan"], "seconds must be a number above 0, got nan"),
        (["--seconds", "inf"], "seconds must be a number above 0, got inf"),
        (["--peer", "openclip"], "openclip"),
        (["mini", "--random", "ViT-B-32"], "name either MODEL or --random"),
        (["--random", "mini"], "mini is built in with its weights; leave --random out"),
        (["--random", "ViT-B-32", "--activation", "gelu"], "--activation has no effect with --ran"),
        (["--random", "ViT-B-32", "--image-spec", "size=1"], "--image-spec has no effect"),
        (["--device", "gpu"], "there is no device 'gpu'"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(run: Any, words: list[str], said: str) -> None:
    result = run("bench", *words)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "loading" not in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ViT-B-33/openai"], "no model or file is called 'ViT-B-33/openai'"),
        (["--random", "ViT-B-33"], "did you mean 'ViT-B-32'?"),
        (["--device", "cuda:7"], "device 'cuda:7' cannot be used"),
        (["nowhere/model.pt"], "nowhere/model.pt"),
    ],
)
def test_a_model_or_device_that_is_not_there_is_an_error(
    run: Any, words: list[str], said: str
) -> None:
    offline = [] if "--random" in words else ["--offline"]
    result = run("bench", *words, *offline)
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_random_weights_leave_nothing_behind(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    assert run("bench", "--random", "ViT-B-32", *QUICK, "--peer", "none").exit_code == 0
    assert list(tmp_path.iterdir()) == []
