"""Verdicts with their reasons, thresholds with their promises, and what is never called safe."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecliptic.engine import Clip, Vectors, save_vectors
from ecliptic.errors import (
    ConfigError,
    ImageError,
    InputError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
)
from ecliptic.scoring import recall_threshold
from ecliptic.tasks import Concept, Moderator, review_queue
from ecliptic.tasks.moderation.prototypes import reaches
from tests.tasks.moderation.samples import BREAD, FOOD, PEN, SWORD, WEAPONS, labelled, noise


def test_a_score_is_the_nearest_concept_minus_the_nearest_contrast(clip: Clip) -> None:
    concept = replace(WEAPONS, positive=(SWORD, "a dagger"), contrast=(PEN, "a pencil"))
    moderator = Moderator(clip, [concept, FOOD])
    rows = noise(50)
    texts = clip.encode_text([SWORD, "a dagger", PEN, "a pencil", BREAD])
    cosines = F.normalize(rows).double() @ texts.double().T
    expected = cosines[:, :2].amax(1) - cosines[:, 2:4].amax(1)
    scores = moderator.scores(rows)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores[:, 0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(scores[:, 1], cosines[:, 4], atol=1e-6, rtol=0)
    assert len(moderator.scores(rows[:0])) == 0


def test_every_verdict_has_its_reasons(clip: Clip) -> None:
    moderator = Moderator(clip, [WEAPONS, FOOD], version="mine")
    rows = clip.encode_text([SWORD, PEN, BREAD])  # in place of images
    sword, pen, bread = moderator.check(rows, ["sword.png", "pen.png", "bread.png"])
    assert (sword.name, sword.action, sword.concepts[0]) == ("sword.png", "review", "weapons")
    reason = next(one for one in sword.reasons if one.concept == "weapons")
    assert (reason.nearest, reason.contrast) == (SWORD, PEN)
    assert reason.nearest_cosine == pytest.approx(1, abs=1e-6)
    assert reason.margin == reason.score - reason.threshold == pytest.approx(reason.score)
    assert "weapons" not in pen.concepts
    assert "food" in bread.concepts
    assert {one.rules for one in (sword, pen, bread)} == {moderator.version}
    assert moderator.version.startswith("mine-")
    assert sword.to_json()["reasons"][0]["margin"] == sword.reasons[0].margin


def test_the_strongest_action_wins_and_leads_the_queue(clip: Clip) -> None:
    concepts = [replace(WEAPONS, action="block"), replace(FOOD, threshold=-1.0)]
    verdicts = Moderator(clip, concepts).check(clip.encode_text([PEN, SWORD, BREAD]))
    queue = review_queue(verdicts)
    assert queue[0].action == "block"
    assert len(queue) == 3, "everything is at least labelled here"
    allowed = Moderator(clip, [replace(FOOD, threshold=2.0)]).check(noise(2))
    assert [one.action for one in allowed] == ["allow"] * 2
    assert review_queue(allowed) == []


def test_nan_zero_and_broken_images_are_never_allowed(clip: Clip, tmp_path: Path) -> None:
    moderator = Moderator(clip, [replace(FOOD, threshold=5.0)])  # flags nothing
    rows = noise(4)
    rows[0, 0], rows[1, 3], rows[2] = float("nan"), float("-inf"), 0.0
    actions = [one.action for one in moderator.check(rows)]
    assert actions == ["reject", "reject", "reject", "allow"]
    assert actions == [one.action for one in moderator.check(rows.numpy())]
    assert all(one.flagged for one in moderator.check(rows)[:3])
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = np.zeros((20, 20, 3), np.uint8)
    broken, fine = moderator.check([tmp_path / "broken.png", image])
    assert (broken.action, fine.action) == ("reject", "allow")
    assert broken.name == str(tmp_path / "broken.png")
    assert broken.to_json()["error"] == broken.error
    for method in (moderator.scores, lambda some: moderator.fit(some, [True] * 4)):
        with pytest.raises(NumericalError, match="row 0"):
            method(rows)
    with pytest.raises(ImageError):
        moderator.scores([tmp_path / "broken.png"])


def test_a_score_that_is_no_number_counts_as_found() -> None:
    scores = torch.tensor([float("nan"), 0.6, 0.5, 0.4])
    assert reaches(scores, 0.5).tolist() == [True, True, True, False]


def test_example_images_are_found_again(clip: Clip, swords: Path) -> None:
    concept = Concept("weapons", examples=(str(swords),), threshold=0.999)
    paths = sorted(swords.iterdir())
    verdicts = Moderator(clip, [concept]).check(paths)
    assert [one.action for one in verdicts] == ["label"] * 3
    assert [one.reasons[0].nearest for one in verdicts] == list(map(str, paths))


def test_references_bring_texts_and_images_to_one_scale(clip: Clip, swords: Path) -> None:
    concept = Concept("weapons", positive=(SWORD,), examples=(str(swords),))
    with pytest.raises(ConfigError, match="texts and example images, whose cosines are on"):
        Moderator(clip, [concept])
    reference = noise(60, seed=3)
    moderator = Moderator(clip, [concept], reference=reference)
    (prototypes,) = moderator.ruleset.prototypes
    levels = F.normalize(reference).double() @ prototypes.vectors.double().T
    levels = (levels - levels.mean(0)) / levels.std(0)
    torch.testing.assert_close(moderator.scores(reference)[:, 0], levels.amax(1))
    assert moderator.ruleset.references == 60
    with pytest.raises(ConfigError, match=r"4 reference images are too few.*20 \(16 more\)"):
        Moderator(clip, [concept], reference=reference[:4])
    with pytest.raises(ConfigError, match="equally like the concept"):
        Moderator(clip, [concept], reference=reference[:1].repeat(30, 1))


def test_a_concept_without_a_threshold_decides_nothing(clip: Clip) -> None:
    moderator = Moderator(clip, [replace(WEAPONS, threshold=None)])
    assert moderator.scores(noise(2)).shape == (2, 1)
    with pytest.raises(ConfigError, match="'weapons' has no threshold; set one"):
        moderator.check(noise(2))
    with pytest.raises(ConfigError, match="'weapons' has no threshold"):
        moderator.audit(noise(2), [True, False])


def test_examples_that_cannot_be_read_are_named(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.png"):
        Moderator(clip, [Concept("x", examples=(str(tmp_path),))])
    with pytest.raises(InputError, match=r"no file has this name or matches it: .*\*.png"):
        Moderator(clip, [Concept("x", examples=(str(tmp_path / "none" / "*.png"),))])


# --- thresholds --------------------------------------------------------------------------------


def test_a_recall_is_kept_on_the_labelled_images(clip: Clip) -> None:
    rows, truth = labelled(clip, 80, 200)
    moderator = Moderator(clip, [replace(WEAPONS, threshold=None)])
    assert moderator.fit(rows, truth, recall=0.9, confidence=0.9) is moderator
    (tuning,) = moderator.ruleset.tunings
    assert tuning is not None
    assert (tuning.target, tuning.wanted, tuning.confidence) == ("recall", 0.9, 0.9)
    assert (tuning.positives, tuning.negatives) == (80, 200)
    scores = moderator.scores(rows)[:, 0]
    promised = recall_threshold(scores[:80], 0.9, 0.9).threshold
    assert 0 < promised - moderator.concepts[0].threshold < 1e-5, "a border image is kept"
    flagged = torch.tensor([one.flagged for one in moderator.check(rows)])
    assert int(flagged[80:].sum()) == tuning.false_alarms
    assert bool((flagged == (scores >= moderator.concepts[0].threshold)).all())


@pytest.mark.parametrize("trials", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_the_recall_holds_as_often_as_promised(trials: int, clip: Clip) -> None:
    """Thresholds of samples of 60, each measured on 4,000 other images with the concept."""
    moderator = Moderator(clip, [WEAPONS])
    rows, _ = labelled(clip, trials * 60, 0)
    others, _ = labelled(clip, 4000, 0, seed=9)
    many = moderator.scores(others)[:, 0].sort().values
    kept = 0
    for some in rows.split(60):
        moderator.fit(some, [True] * 60, recall=0.9, confidence=0.9)
        missed = int(torch.searchsorted(many, moderator.concepts[0].threshold))
        kept += missed <= 400
    assert kept / trials > 0.88, "0.9 is promised, and 0.947 is what 60 examples give"


def test_a_precision_is_a_target_too(clip: Clip) -> None:
    rows, truth = labelled(clip, 100, 300)
    moderator = Moderator(clip, [replace(WEAPONS, threshold=None)])
    moderator.fit(rows, truth, precision=0.8)
    (tuning,) = moderator.ruleset.tunings
    assert tuning is not None
    assert tuning.target == "precision"
    flagged = torch.tensor([one.flagged for one in moderator.check(rows)])
    assert float(truth[flagged].double().mean()) > 0.8


def test_a_mapping_tunes_some_of_the_concepts(clip: Clip) -> None:
    rows, truth = labelled(clip, 60, 60)
    moderator = Moderator(clip, [WEAPONS, FOOD]).fit(rows, {"weapons": truth}, recall=0.9)
    assert moderator.concepts[1].threshold == FOOD.threshold
    assert moderator.concepts[0].threshold != WEAPONS.threshold
    both = torch.stack([truth, ~truth], dim=1)
    assert None not in moderator.fit(rows, both, recall=0.9).ruleset.tunings


def test_wrong_labels_are_refused(clip: Clip) -> None:
    rows, truth = labelled(clip, 60, 60)
    moderator = Moderator(clip, [WEAPONS, FOOD])
    with pytest.raises(ShapeError, match="must have a column for each of 2 concepts"):
        moderator.fit(rows, truth)
    with pytest.raises(ConfigError, match="no concept 'weapon'; did you mean 'weapons'"):
        moderator.fit(rows, {"weapon": truth})
    with pytest.raises(ShapeError, match=r"truth \(3,\)"):
        moderator.fit(rows, {"weapons": [1, 0, 1]})
    with pytest.raises(ShapeError, match="true or false"):
        moderator.fit(rows, {"weapons": [2] * 120})
    with pytest.raises(ConfigError, match="either a recall or a precision"):
        moderator.fit(rows, {"weapons": truth}, recall=0.9, precision=0.9)
    before = moderator.version
    with pytest.raises(ConfigError, match=r"food: a recall of 0.95 .* 45 are missing"):
        moderator.fit(rows, {"weapons": truth, "food": [False] * 120})
    assert moderator.version == before, "a failure changes nothing"


# --- spaces and versions -----------------------------------------------------------------------


def test_vectors_of_another_space_are_refused(clip: Clip, other_clip: Clip, tmp_path: Path) -> None:
    from ecliptic.engine import load_vectors

    save_vectors(tmp_path / "v.npy", noise(3), other_clip.card, ["a", "b", "c"])
    stored = load_vectors(tmp_path / "v.npy")
    with pytest.raises(SpaceMismatchError):
        Moderator(clip, [WEAPONS]).check(stored)
    verdicts = Moderator(other_clip, [WEAPONS]).check(stored)
    assert [one.name for one in verdicts] == ["a", "b", "c"]
    assert isinstance(stored, Vectors)
    with pytest.raises(ShapeError, match="vectors of 32 values"):
        Moderator(clip, [WEAPONS]).check(torch.ones(2, 7))
    with pytest.raises(ConfigError, match="2 images need as many names"):
        Moderator(clip, [WEAPONS]).check(noise(2), ["a"])


def test_any_change_of_a_verdict_is_another_version(clip: Clip, other_clip: Clip) -> None:
    variants = [
        Moderator(clip, [WEAPONS]),
        Moderator(clip, [WEAPONS, FOOD]),
        Moderator(clip, [replace(WEAPONS, threshold=0.1)]),
        Moderator(clip, [replace(WEAPONS, action="block")]),
        Moderator(clip, [replace(WEAPONS, contrast=(BREAD,))]),
        Moderator(clip, [WEAPONS], reference=noise(30)),
        Moderator(clip, [WEAPONS], version="b"),
        Moderator(other_clip, [WEAPONS]),
    ]
    assert len({one.version for one in variants}) == len(variants)
    assert Moderator(clip, [WEAPONS]).version == variants[0].version
    assert variants[0].version in repr(variants[0])
