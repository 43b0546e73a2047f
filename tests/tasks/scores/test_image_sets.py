"""Two sets of images are compared as a whole, with an interval or a test."""

from typing import Any

import numpy as np
import pytest

from ecliptic import scoring
from ecliptic.errors import ConfigError
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


@pytest.mark.parametrize(
    ("given", "match"),
    [((A, B[:1]), "at least 2 images each, got 40 and 1"), ((A, B, "fid"), "metric must be one")],
)
def test_sets_that_have_no_score_are_refused(given: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        score_sets(*given)
