"""No command replaces or loses a file unasked, and it finds out before its work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.waiting import alarm_after, special_files

NO_MODEL = "/no/such/model.safetensors"  # loading it would be another error


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(60)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "shapes"\n')
    return path


COMMANDS: dict[str, list[str]] = {  # each writes OUT, before which it would miss its model
    "embed": ["embed", "-t", "a", "-m", NO_MODEL, "-o", "OUT.npy"],
    "similarity": ["similarity", "IMAGE", "-m", NO_MODEL, "--plot", "OUT.png"],
    "condition": ["condition", "a", "--for", "sd1", "-e", NO_MODEL, "-o", "OUT.safetensors"],
    "page": ["condition", "a", "--for", "sd1", "-e", NO_MODEL, "--page", "OUT.html"],
    "captions": ["captions", "write", "TABLE", "--for", "sd1", "-e", NO_MODEL, "-o", "OUT"],
    "old captions": ["condition", "TABLE", "--for", "sd1", "-e", NO_MODEL, "-o", "OUT"],
    "demo": ["demo", "-m", NO_MODEL, "-o", "OUT.html"],
    "sketch": ["sketch", "a cat", "-m", NO_MODEL, "-o", "OUT.svg", "--page", "OUT.html"],
    "edit": ["edit", "IMAGE", "--from", "a", "--to", "b", "-m", NO_MODEL, "-o", "OUT.png"],
}
EXISTING = {"embed": [".npy", ".npy.json", ".npy.rejects.jsonl"], "similarity": [".png"],
            "condition": [".safetensors"], "page": [".html"], "demo": [".html"],
            "sketch": [".svg", ".html"], "edit": [".png"],
            "captions": [".rejects.jsonl"], "old captions": [".rejects.jsonl"]}  # fmt: skip


def fill(words: list[str], out: Path, table: Path, images: Path) -> list[str]:
    places = {"OUT": str(out), "TABLE": str(table), "IMAGE": str(images / "a.png")}
    for name, value in places.items():
        words = [word.replace(name, value) for word in words]
    return words


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["classify", "IMAGE", "-l", "a,b"], "--out"),
        (["classify", "-l", "a,b", "--calibrate", "TABLE"], "--out, --save or --page"),
        (["similarity", "IMAGE", "--text", "a"], "--out or --plot"),
        (["score", "TABLE"], "--per-item"),
        (["condition", "a", "--for", "sd1"], "--out or --page"),
        (["aesthetic", "IMAGE", "--head", "TABLE"], "--out, --page or --save"),
    ],
)
def test_force_without_an_output_is_refused(
    run: Any, tmp_path: Path, table: Path, images: Path, words: list[str], flags: str
) -> None:
    model = ["-e" if words[0] == "condition" else "-m", NO_MODEL]
    refused = run(*fill([*words, *model], tmp_path / "out", table, images), "--force")
    assert refused.exit_code == 2
    assert f"--force does nothing without {flags}." in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("command", "suffix"), [(c, s) for c, suffixes in EXISTING.items() for s in suffixes]
)
def test_every_file_of_a_command_is_replaced_only_by_force(
    run: Any, tmp_path: Path, table: Path, images: Path, command: str, suffix: str
) -> None:
    precious = tmp_path / f"out{suffix}"
    precious.write_text("precious")
    words = fill(COMMANDS[command], tmp_path / "out", table, images)
    refused = run(*words)
    assert refused.exit_code == 1
    assert f"out{suffix} exists; pass --force" in refused.stderr
    forced = run(*words, "--force")
    assert NO_MODEL in forced.stderr, forced.stderr
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("command", COMMANDS)
def test_a7_a_folder_that_cannot_be_written_is_an_error_before_the_work(
    run: Any,
    tmp_path: Path,
    table: Path,
    images: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(folder: Path) -> None:
        from ecliptic.errors import StorageError

        raise StorageError(f"{folder} cannot be written: Read-only file system.")

    monkeypatch.setattr("ecliptic.storage.outputs.try_folder", refuse)
    result = run(*fill(COMMANDS[command], tmp_path / "out", table, images))
    assert result.exit_code == 1
    assert "Read-only file system" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_in_the_place_of_an_output_is_an_error_before_the_work(
    run: Any, tmp_path: Path, table: Path, images: Path, command: str
) -> None:
    for suffix in EXISTING[command]:
        (tmp_path / f"out{suffix}").mkdir()
    result = run(*fill(COMMANDS[command], tmp_path / "out", table, images), "--force")
    assert result.exit_code == 1
    assert "which a file cannot replace" in result.stderr


def test_an_input_is_never_replaced_not_even_by_force(
    run: Any, model: str, tmp_path: Path, images: Path, recipe: Path
) -> None:
    weights = Path(model) / "model.safetensors"
    vectors = tmp_path / "v.npy"
    assert run("embed", "-t", "a", "-m", model, "-o", vectors).exit_code == 0
    texts = tmp_path / "texts.npy"
    texts.write_text("a cat\n")
    data = tmp_path / "data"
    data.mkdir()
    for words in (
        ["embed", "-t", "a", "-m", weights, "-o", weights],
        ["embed", "--texts", texts, "-m", model, "-o", texts],
        ["similarity", images / "a.png", "-m", model, "--plot", images / "a.png"],
        ["similarity", images, "-m", model, "--plot", images / "sub" / "b.png"],
        ["condition", "a", "--for", "sd1", "-e", weights, "-o", weights],
        ["condition", "a", "--for", "sd1", "-e", model, "--lora", f"{weights}=0.5",
         "-o", weights],
        ["convert", weights, weights],
        ["convert", model, model],
        ["train", recipe, "--data", data, "--out", data],
        ["demo", "-m", weights, "-o", weights],
    ):  # fmt: skip
        result = run(*words, "--force")
        assert result.exit_code == 1, words
        assert "is read by this command" in result.stderr, (words, result.stderr)


def test_two_outputs_of_one_command_are_not_one_file(
    run: Any, tmp_path: Path, encoders: list[str]
) -> None:
    out = tmp_path / "a.safetensors"
    words = ["condition", "a", "--for", "sdxl", *encoders, "-o", out, "--page", out]
    result = run(*words, "--force")
    assert result.exit_code == 1
    assert "would be written twice" in result.stderr


def test_links_are_replaced_and_never_followed(
    run: Any, model: str, tmp_path: Path, images: Path, encoders: list[str]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    plot, page = tmp_path / "plot.png", tmp_path / "page.html"
    listed = tmp_path / "v.npy.rejects.jsonl"
    for path in (plot, page, listed, tmp_path / "v.npy.json", tmp_path / "v.npy"):
        path.symlink_to(victim)
    words = ["similarity", images / "a.png", "-t", "a cat", "-m", model, "--plot", plot]
    assert run(*words, "--force").exit_code == 0
    words = ["condition", "a", "--for", "sdxl", *encoders, "--page", page, "--force"]
    assert run(*words).exit_code == 0
    words = ["embed", images, "-m", model, "-o", tmp_path / "v.npy", "--force"]
    assert run(*words).exit_code == 3
    assert victim.read_text() == "precious"
    assert json.loads(listed.read_text())["index"] == 1
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"


INPUTS: dict[str, list[str]] = {  # commands that read the file PATH
    "embed a text file": ["embed", "--texts", "PATH", "-o", "OUT.npy"],
    "embed a table": ["embed", "PATH.csv", "--column", "a", "-o", "OUT.npy"],
    "similarity": ["similarity", "--texts", "PATH"],
    "similarity of vectors": ["similarity", "PATH.npy"],
    "labels": ["classify", "IMAGE", "--labels-file", "PATH"],
    "labels by mistake": ["classify", "IMAGE", "--labels", "PATH"],
    "templates": ["classify", "IMAGE", "--labels", "a,b", "--templates", "PATH"],
    "a head": ["aesthetic", "IMAGE", "--head", "PATH.pth"],
    "ratings": ["aesthetic", "--train", "PATH.csv"],
    "lint": ["lint", "PATH"],
    "a model": ["info", "PATH.safetensors"],
    "doctor": ["doctor", "PATH.safetensors", "mini"],
    "convert": ["convert", "PATH.safetensors", "OUT"],
    "tokens": ["tokens", "a", "-m", "PATH.safetensors"],
    "captions": ["captions", "write", "PATH.jsonl", "--for", "sdxl", "ENCODERS", "-o", "OUT"],
    "a LoRA": ["condition", "a", "--for", "sdxl", "ENCODERS", "--lora", "PATH"],
    "an inversion": ["condition", "a", "--for", "sdxl", "ENCODERS", "--inversion", "PATH"],
    "a recipe": ["train", "PATH.toml", "--data", "DATA"],
    "a cache": ["captions", "verify", "PATH"],
}


@pytest.mark.parametrize("command", INPUTS)
def test_no_command_waits_for_a_pipe_or_reads_a_device(
    run: Any, tmp_path: Path, images: Path, encoders: list[str], command: str
) -> None:
    words = INPUTS[command]
    suffix = next((Path(word).suffix for word in words if word.startswith("PATH.")), "")
    pipe, _, zero = special_files(tmp_path, suffix)
    for path in (pipe, zero):
        filled = fill(words, tmp_path / "out", tmp_path, images)
        filled = [str(path) if word.startswith("PATH") else word for word in filled]
        filled = [x for word in filled for x in (encoders if word == "ENCODERS" else [word])]
        result = run(*[word.replace("DATA", str(tmp_path)) for word in filled])
        assert result.exit_code in (1, 2), result.output
        assert result.stderr, result.output
        assert not isinstance(result.exception, OSError)


@pytest.mark.parametrize("image", ["pipe.png", "zero.png"])
def test_an_image_that_is_a_pipe_is_rejected_and_the_others_are_done(
    run: Any, model: str, images: Path, tmp_path: Path, image: str
) -> None:
    special_files(images, ".png")
    out = tmp_path / "v.npy"
    result = run("embed", images, "-m", model, "-o", out)
    assert result.exit_code == 3
    reasons = {Path(row["source"]).name: row["reason"] for row in map(
        json.loads, Path(f"{out}.rejects.jsonl").read_text().splitlines())}  # fmt: skip
    assert "must be a regular file" in reasons[image]
    assert "2 vectors" in result.stderr


def test_an_endless_standard_input_ends(
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.engine.sources.lines.LONGEST_LINE", 1 << 18)
    monkeypatch.setattr("ecliptic.engine.sources.lines.ENDLESS", 1 << 20)
    words = ["embed", "-", "--kind", "text", "-m", model, "-o", tmp_path / "v.npy"]
    result = run(*words, input=bytes(2 << 20))
    assert result.exit_code == 1
    assert "has no end within" in result.stderr
