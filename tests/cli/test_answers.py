"""`similarity` and `classify` print the numbers of the API."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecliptic.checkpoints import write
from ecliptic.engine import load
from tests import tiny


def test_texts_are_rows_and_images_columns(run: Any, model: str, images: Path) -> None:
    one, two = images / "a.png", images / "sub/b.png"
    words = ["similarity", one, two, "-t", "a cat", "-t", "a dog", "-t", "x", "-m", model]
    found = json.loads(run(*words, "--json").stdout)
    assert found["rows"] == ["a cat", "a dog", "x"]
    assert found["columns"] == [str(one), str(two)]
    expected = load(model).similarity(["a cat", "a dog", "x"], [one, two])
    np.testing.assert_allclose(found["cosines"], expected.numpy(), atol=1e-6)
    assert f"{expected[0, 0]:.3f}" in run(*words).stdout


def test_one_kind_is_compared_with_itself(run: Any, model: str, images: Path) -> None:
    for words in ([images / "a.png", images / "sub"], ["-t", "a", "-t", "b"]):
        found = json.loads(run("similarity", *words, "-m", model, "--json").stdout)
        assert found["rows"] == found["columns"]
        np.testing.assert_allclose(np.diag(found["cosines"]), 1, atol=1e-6)


def test_many_columns_become_a_ranking_of_the_others(run: Any, model: str) -> None:
    words = [word for i in range(12) for word in ("-t", f"text {i}")]
    result = run("similarity", *words, "-m", model)
    assert result.exit_code == 0
    first = result.stdout.split("\n\n")[0].splitlines()
    assert first[0] == "text 0"
    assert len(first) == 6
    assert all(line.split(maxsplit=1)[1] != "text 0" for line in first[1:])


def test_stored_vectors_join_in_their_space_only(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.npy"
    assert run("embed", images / "a.png", "-m", model, "-o", out).exit_code == 0
    found = json.loads(run("similarity", out, "-t", "a cat", "-m", model, "--json").stdout)
    assert found["columns"] == [str(images / "a.png")]
    alone = run("similarity", out, "-m", tmp_path / "no model is loaded", "--json")
    assert json.loads(alone.stdout)["cosines"][0][0] == pytest.approx(1, abs=1e-6)

    write(tiny.checkpoint("vit", seed=1), tmp_path / "other")
    mixed = run("similarity", out, "-t", "a cat", "-m", tmp_path / "other")
    assert mixed.exit_code == 1
    assert "two spaces cannot be compared" in mixed.stderr
    other = tmp_path / "w.npy"
    assert run("embed", "-t", "a", "-m", tmp_path / "other", "-o", other).exit_code == 0
    assert "another space" in run("similarity", out, other).stderr


def test_rejected_images_exit_with_3(run: Any, model: str, images: Path) -> None:
    result = run("similarity", images, "-t", "a cat", "-m", model)
    assert result.exit_code == 3
    assert "broken.png" in result.stderr


def test_plot_draws_the_matrix(run: Any, model: str, images: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    words = ["similarity", images / "a.png", "-t", "a cat", "-m", model, "--plot", plot]
    assert run(*words).exit_code == 0
    with Image.open(plot) as drawn:
        assert min(drawn.size) > 20


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("x.foo", 2, ".png"),
        ("x", 2, ".png"),
        ("nodir/x.png", 1, "nodir"),
        ("a.png/x.png", 1, "a.png"),
    ],
)
def test_a_plot_that_cannot_be_written_stops_before_the_model_is_loaded(
    run: Any, images: Path, name: str, code: int, message: str
) -> None:
    words = ["similarity", images / "a.png", "-m", "no such model", "--plot", images / name]
    result = run(*words)
    assert result.exit_code == code
    assert message in result.stderr
    assert "no such model" not in result.stderr


def test_classify_ranks_labels_as_the_api_does(run: Any, model: str, images: Path) -> None:
    labels = ["cat", "dog", "bird"]
    words = ["classify", images / "a.png", "-l", "cat, dog,bird", "-m", model]
    (found,) = json.loads(run(*words, "--templates", "photo", "--json").stdout)
    expected = load(model).classify(images / "a.png", labels, "photo")[0]
    assert [one["label"] for one in found["labels"]] == [
        labels[i] for i in expected.argsort(descending=True)
    ]
    assert [one["probability"] for one in found["labels"]] == pytest.approx(
        sorted(expected.tolist(), reverse=True), abs=1e-5
    )
    (best,) = json.loads(run(*words, "--templates", "photo", "-k", 1, "--json").stdout)
    assert best["labels"] == found["labels"][:1]


def test_labels_and_templates_may_come_from_files(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels").write_text("cat\n\ndog, or hound\n")
    (tmp_path / "templates").write_text("a drawing of {}\n{} again\n")
    words = ["classify", images / "a.png", "--labels-file", tmp_path / "labels", "-m", model]
    (found,) = json.loads(run(*words, "--templates", tmp_path / "templates", "--json").stdout)
    assert {one["label"] for one in found["labels"]} == {"cat", "dog, or hound"}


def test_rejected_images_stand_among_the_results(run: Any, model: str, images: Path) -> None:
    result = run("classify", images, "-l", "cat,dog", "-m", model, "--json")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert [Path(one["image"]).name for one in found] == ["a.png", "broken.png", "b.png"]
    assert "reason" in found[1]


def test_a_file_given_as_a_label_is_a_mistake(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    result = run("classify", images / "a.png", "-l", tmp_path / "labels.txt", "-m", model)
    assert result.exit_code == 2
    assert "--labels-file" in result.stderr


def test_a_single_label_is_warned_of(run: Any, model: str, images: Path) -> None:
    result = run("classify", images / "a.png", "-l", "cat", "-m", model)
    assert result.exit_code == 0
    assert "the only label" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--labels"),
        (["-l", "a", "--labels-file", "b"], 2, "--labels"),
        (["-l", " , "], 2, "no labels"),
        (["-l", "a", "--templates", "phto"], 1, "photo"),
    ],
)
def test_labels_are_asked_for_kindly(
    run: Any, model: str, images: Path, words: list[str], code: int, message: str
) -> None:
    result = run("classify", images / "a.png", "-m", model, *words)
    assert result.exit_code == code
    assert message in result.stderr
