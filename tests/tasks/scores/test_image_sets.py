"""Two sets of images are compared as a whole, with an interval or a test."""

from typing import Any

import numpy as np
import pytest

from ecliptic import scoring
from ecliptic.engine import Vectors
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.tasks import SET_SCORES, score_sets

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(40, 8)), RNG.normal(size=(30, 8)) + 0.5


def test_each_score_of_sets_follows_its_formula() -> None:
    near = score_sets(A, B, "clip-i")
    assert near.score == pytest.approx(float(scoring.clip_i(A, B).mean()))
    assert near.interval == scoring.bootstrap(scoring.clip_i(A, B))
    assert score_sets(A, B).score == scoring.cmmd(A, B)
    assert score_sets(A, B).p == scoring.cmmd_test(A, B)
    published = score_sets(A, B, "cmmd-published")
    assert published.score == scoring.cmmd(A, B, unbiased=False)
    assert any("differ in size" in note for note in published.notes)
    assert any("30 images are few" in note for note in published.notes)


@pytest.mark.parametrize("name", SET_SCORES)
def test_a_score_of_sets_tells_its_numbers(name: str) -> None:
    found = score_sets(A, B, name)
    data = found.to_json()
    assert (data["metric"], data["n"]) == (name, [40, 30])
    assert (data["interval"] is None) == (data["p"] is not None)
    assert found.facts()["n"] == "40 and 30 images"


def test_names_that_are_not_one_for_each_image_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 and 2 names cannot belong to 40 and 30 images"):
        score_sets(A, B, names=(["1", "2"], ["1", "2"]))


@pytest.mark.parametrize(
    ("given", "match"),
    [((A, B[:1]), "at least 2 images each, got 40 and 1"), ((A, B, "fid"), "metric must be one")],
)
def test_sets_that_have_no_score_are_refused(given: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        score_sets(*given)


def test_images_of_one_name_are_pairs_whatever_their_folder_suffix_and_order() -> None:
    content = RNG.normal(size=(40, 8))
    x, y = (content + 0.3 * RNG.normal(size=(40, 8)) for _ in range(2))
    names = [f"a/{i}.png" for i in range(40)]
    others = [f"b/c/{i}.jpg" for i in reversed(range(40))]
    found = score_sets(x, y[::-1].copy(), names=(names, others))
    assert found.paired
    assert found.to_json()["paired"] is True
    assert found.score == pytest.approx(scoring.cmmd(x, y, paired=True))
    assert found.p == scoring.cmmd_test(x, y, paired=True)
    assert "images of one name" in found.facts()["test"]
    assert "not compared with each other" in found.convention
    published = score_sets(x, y[::-1].copy(), "cmmd-published", names=(names, others))
    assert published.score == pytest.approx(scoring.cmmd(x, y, unbiased=False))
    assert published.p == found.p


def test_stored_vectors_are_paired_by_their_ids() -> None:
    x = RNG.normal(size=(12, 4)).astype(np.float32)
    ids = tuple(f"{i}.png" for i in range(12))
    first = Vectors(x, tuple(f"a/{name}" for name in ids), "space", "exact", "some")
    second = Vectors(
        x[::-1] + 1, tuple(f"b/{name}" for name in ids[::-1]), "space", "exact", "some"
    )
    found = score_sets(first, second)
    assert found.paired
    assert found.p == scoring.cmmd_test(x, x + 1, paired=True)
    assert not score_sets(first, x + 1).paired


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        ((["1", "2"], ["3", "4"]), 0),
        ((["1.png", "1.jpg"], ["1.png", "2.png"]), 1),
        ((["1", "2"], ["1", "2", "3"]), 2),
    ],
)
def test_sets_of_other_names_are_mixed(names: Any, shared: int) -> None:
    found = score_sets(A[: len(names[0])], A[5 : 5 + len(names[1])], names=names)
    assert not found.paired
    assert "all images" in found.facts()["test"]
    said = [note for note in found.notes if "in both sets and others are not" in note]
    assert len(said) == (shared > 0)
    assert all(note.startswith(f"{shared} name") for note in said)
