"""Wrong usage exits with 2, a failure of the work with 1; the words say which and why."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecliptic.cli.encoders import TextFamily
from ecliptic.cli.output import count
from ecliptic.diffusion import FAMILIES
from ecliptic.engine import load_vectors
from tests.cli.test_train import RECIPE


@pytest.mark.parametrize(
    ("number", "noun", "plural", "written"),
    [
        (0, "vector", "", "0 vectors"),
        (1, "vector", "", "1 vector"),
        (2, "vector", "", "2 vectors"),
        (12345, "entry", "entries", "12,345 entries"),
    ],
)
def test_a_count_is_singular_or_plural(number: int, noun: str, plural: str, written: str) -> None:
    assert count(number, noun, plural) == written


@pytest.mark.parametrize("words", [["lint", "missing.txt", "--strict"], ["lint", "a/b.csv"]])
def test_a_missing_file_is_no_text_without_findings(run: Any, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert f"there is no file {words[1]}" in result.stderr
    assert "finding" not in result.stderr


def test_a_text_that_ends_like_a_file_can_be_piped(run: Any) -> None:
    result = run("lint", "-", input="a screenshot of notes.txt")
    assert result.exit_code == 0
    assert "in 1 text" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["embed", "missing.csv"],
        ["embed", "missing.csv", "--column", "a", "-m", "no such model"],
        ["condition", "missing.csv"],
        ["condition", "missing.txt"],
        ["captions", "write", "missing.csv", "--for", "sd1", "-e", "no such model", "-o", "c"],
        ["classify", "missing.csv", "-l", "a,b", "--column", "a"],
        ["classify", "missing.npy", "-l", "a,b", "-m", "no such model"],
        ["similarity", "missing.npy", "-t", "a", "-m", "no such model"],
        ["demo", "--images", "missing.csv"],
        ["classify", "a.png", "--labels", "missing.txt"],
        ["classify", "a.png", "--labels", "a,b", "--templates", "missing.txt"],
    ],
)
def test_a_missing_file_is_what_is_said_first(run: Any, words: list[str], images: Path) -> None:
    result = run(*[str(images / word) if word == "a.png" else word for word in words])
    assert result.exit_code == 1
    assert "there is no file missing." in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["embed"],
        ["similarity"],
        ["classify", "-l", "a,b"],
        ["moderate", "--rules", "RULES"],
        ["moderate", "--safety-checker", "no such folder"],
        ["aesthetic", "--head", "no such head"],
        ["score", "images", "--metric", "cmmd"],
        ["demo", "--images"],
    ],
)
def test_a_missing_path_is_an_error_before_the_work(
    run: Any, words: list[str], images: Path, tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(
        '[[concepts]]\nname = "a"\npositive = ["b"]\nthreshold = 0.1\n'
    )
    places = {"RULES": str(tmp_path / "r.toml"), "images": str(images)}
    words = [places.get(word, word) for word in words]
    model = [] if {"--safety-checker", "demo"} & set(words) else ["-m", "no such model"]
    result = run(*words, images / "nosuch", *model)
    assert result.exit_code == 1, result.stderr
    assert f"there is no file or folder {images / 'nosuch'}; check" in result.stderr
    assert "no such model" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["models", "--bogus"],
        ["embed", "-t", "a", "-o", "v.csv"],
        ["embed", "-t", "a", "--batch-size", "0"],
        ["embed", "-t", "a", "--device", "foo"],
        ["embed", "-t", "a", "--device", "cuda:x"],
        ["classify", "a.png", "-l", " , "],
        ["classify", "a.png", "-l", "a,b", "-o", "results.txt"],
        ["classify", "a.png", "-l", "a,b", "-k", "0"],
        ["classify", "-l", "a,b"],
        ["embed", "-t", "a", "-t", "RECIPE"],
        ["similarity"],
        ["similarity", "-t", "a", "-o", "results"],
        ["similarity", "-t", "a", "--plot", "x.foo"],
        ["condition", "a", "--for", "sdxxl", "-e", "mini"],
        ["condition", "a", "--for", "sdxl", "-e", "mini", "--dialect", "midjourney"],
        ["condition", "a", "--for", "sdxl", "-e", "mini", "--device", "foo"],
        ["condition", "a", "--for", "sdxl", "-e", "mini", "--steps", "0"],
        ["info", "mini", "--image-spec", "resiz='squash'"],
        ["info", "mini", "--image-spec", "size="],
        ["info", "mini", "--heads", "two"],
        ["train", "RECIPE", "stps=2"],
        ["train", "RECIPE", "steps"],
        ["train"],
        ["lint", "a", "--dialect", "midjourney"],
        ["doctor", "mini", "mini", "--slack", "-1"],
        ["convert", "mini"],
        ["demo", "--limit", "0"],
        ["captions", "verify"],
    ],
)
def test_wrong_usage_exits_with_2_in_every_command(
    run: Any, words: list[str], tmp_path: Path, images: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    places = {"RECIPE": str(tmp_path / "recipe.toml"), "a.png": str(images / "a.png")}
    result = run(*[places.get(word, word) for word in words])
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["embed", "-t", "a", "-m", "no such model"],
        ["models", "no such model"],
        ["info", "missing.pt"],
        ["train", "missing.toml"],
        ["captions", "verify", "missing"],
        ["classify", "missing.png", "-l", "a,b"],
        ["similarity", "missing.png"],
    ],
)
def test_a_failure_of_the_work_exits_with_1(run: Any, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_recipe_that_is_wrong_itself_is_no_wrong_usage(run: Any, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('stps = 1\nname = "a"\n')
    result = run("train", tmp_path / "recipe.toml", "steps=2")
    assert result.exit_code == 1
    assert "did you mean 'steps'" in result.stderr


def test_a_model_that_there_is_not_is_an_error_with_a_hint(run: Any) -> None:
    for more in ([], ["--json"]):
        result = run("models", "nonsense", *more)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "'nonsense'" in result.stderr
    assert "did you mean 'ViT-B-32/openai'" in run("models", "ViT-B32/openai").stderr
    both = run("models", "openai", "laion2b")
    assert both.exit_code == 1
    assert "all of the words openai laion2b" in both.stderr


def test_models_finds_other_spellings(run: Any) -> None:
    found = json.loads(run("models", "ViT-B/32", "--json").stdout)
    assert [row["name"] for row in found] == ["ViT-B-32/openai"]


def test_the_families_are_those_with_text_encoders() -> None:
    names = [name for name, row in FAMILIES.items() if row.encoders]
    assert list(TextFamily.__args__) == names  # type: ignore[attr-defined]


def test_one_vector_is_not_called_vectors(run: Any, model: str, tmp_path: Path) -> None:
    result = run("embed", "-t", "a", "-m", model, "-o", tmp_path / "v.npy")
    assert result.stderr.startswith("1 vector of 32 values in ")


@pytest.mark.parametrize(("at", "kept"), [(70, True), (0, False)])
def test_f9_the_words_of_an_interruption_are_true(
    model: str, images: Path, tmp_path: Path, at: int, kept: bool
) -> None:
    out = tmp_path / "v.npy"
    code = (
        "import itertools, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored under nohup
        "from ecliptic.cli import main\n"
        "from ecliptic.engine.sources import read\n"
        "given = read.image_files\n"
        "def slowly(path):\n"
        "    (one,) = given(path)\n"
        "    for i in itertools.count():\n"
        f"        if i == {at}: os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield one\n"
        "read.image_files = slowly\n"
        "main.run()\n"
    )
    words = ["embed", str(images / "a.png"), "-m", model, "-o", str(out), "--batch-size", "2"]
    found = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 128 + signal.SIGINT, found.stderr
    if kept:
        said, result = found.stderr.splitlines()
        number = result.split()[0]
        assert said == f"interrupted after {number} items; the finished ones are kept"
        assert 2 <= int(number) == len(load_vectors(out).vectors) <= 70
    else:
        assert found.stderr == "interrupted after 0 items; nothing is written\n"
        assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_f9_an_interrupted_comparison_writes_nothing(
    model: str, images: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored under nohup
        "from ecliptic.cli import main\n"
        "from ecliptic.engine.sources import read\n"
        "read.image_files = lambda path: os.kill(os.getpid(), signal.SIGINT)\n"
        "main.run()\n"
    )
    words = ["classify", str(images), "-l", "a,b", "-m", model, "-o", str(tmp_path / "r.csv")]
    found = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 128 + signal.SIGINT
    assert found.stderr == "interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
