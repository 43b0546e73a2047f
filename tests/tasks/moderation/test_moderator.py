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
from ecliptic.tasks import Concept, Moderator, review_queue
from ecliptic.tasks.moderation.prototypes import reaches
from tests.tasks.moderation.samples import BREAD, FOOD, PEN, SWORD, WEAPONS, noise


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
    allowed = Moderator(clip, [replace(FOOD, threshold=1.0)]).check(noise(2))
    assert [one.action for one in allowed] == ["allow"] * 2
    assert review_queue(allowed) == []


def test_the_first_reason_is_that_of_the_action(clip: Clip) -> None:
    wide = Concept("wide", positive=(SWORD,), threshold=-1.0, action="label")
    strong = Concept("strong", positive=(SWORD,), threshold=0.9, action="block")
    narrow = replace(strong, name="narrow", threshold=0.95)
    far = Concept("far", positive=(BREAD,), threshold=1.0, action="block")
    moderator = Moderator(clip, [wide, far, narrow, strong])
    sword, bread = moderator.check(clip.encode_text([SWORD, "a pen"]))
    assert sword.action == "block"
    assert [one.concept for one in sword.reasons] == ["strong", "narrow", "wide", "far"]
    assert [one.flagged for one in sword.reasons] == [True, True, True, False]
    assert bread.action == "label", "only the wide concept is over its threshold"
    assert bread.reasons[0].concept == "wide"
    margins = [one.margin for one in bread.reasons[1:]]
    assert margins == sorted(margins, reverse=True), "below the threshold only the margin counts"
    blocked = review_queue([bread, sword, *moderator.check(clip.encode_text([SWORD]))])
    assert [one.action for one in blocked] == ["block", "block", "label"]


def test_nan_zero_and_broken_images_are_never_allowed(clip: Clip, tmp_path: Path) -> None:
    moderator = Moderator(clip, [replace(FOOD, threshold=1.0)])  # flags nothing
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
    few = torch.cat([reference[:1].repeat(29, 1), reference[1:2]])
    with pytest.raises(ConfigError, match=r"30 reference images, of which 2 differ, are too few"):
        Moderator(clip, [concept], reference=few)
    twice = Moderator(clip, [concept], reference=reference.repeat(2, 1))
    assert twice.ruleset.references == 60, "each image counts once"
    assert torch.equal(twice.ruleset.prototypes[0].deviation, prototypes.deviation)


def test_a_concept_without_a_threshold_decides_nothing(clip: Clip) -> None:
    moderator = Moderator(clip, [replace(WEAPONS, threshold=None)])
    assert moderator.scores(noise(2)).shape == (2, 1)
    with pytest.raises(ConfigError, match="'weapons' has no threshold; set one"):
        moderator.check(noise(2))
    with pytest.raises(ConfigError, match="'weapons' has no threshold"):
        moderator.audit(noise(2), [True, False])


def test_zero_vectors_are_refused_where_nothing_can_be_rejected(clip: Clip) -> None:
    moderator, rows = Moderator(clip, [WEAPONS]), noise(60)
    rows[[7, 9]] = 0
    truth = [True] * 60
    for work in (
        lambda: moderator.scores(rows),
        lambda: moderator.fit(rows, truth),
        lambda: moderator.audit(rows, truth),
        lambda: Moderator(clip, [WEAPONS], reference=rows),
    ):
        with pytest.raises(NumericalError, match="2 of 60 vectors are zero, the first at 7"):
            work()
    assert [one.action for one in moderator.check(rows)].count("reject") == 2


def test_what_decides_nothing_is_refused(clip: Clip, swords: Path) -> None:
    both = replace(WEAPONS, contrast=(PEN, SWORD))
    with pytest.raises(ConfigError, match=f"'{SWORD}' stands on both sides of 'weapons'"):
        Moderator(clip, [both])
    images = Concept("x", examples=(str(swords),), contrast_examples=(f"{swords}/*-1.png",))
    with pytest.raises(ConfigError, match=r"sword-1.png' stands on both sides"):
        Moderator(clip, [images])
    for threshold, what in ((1000, "no image could be"), (-1.5, "all would be flagged")):
        with pytest.raises(ConfigError, match=f"are from -1 to 1, so {what}"):
            Moderator(clip, [replace(FOOD, threshold=threshold)])
    deviations = Moderator(clip, [replace(FOOD, threshold=3.0)], reference=noise(40))
    low, high = deviations.ruleset.prototypes[0].ends
    own = float(deviations.scores(deviations.ruleset.prototypes[0].vectors))
    assert low < -3 < 3 < own == pytest.approx(high), "its own text has the highest score"


@pytest.mark.parametrize("reference", [None, noise(40)])
def test_the_ends_of_the_scores_are_those_that_vectors_can_have(
    clip: Clip, reference: torch.Tensor | None
) -> None:
    moderator = Moderator(clip, [WEAPONS], reference=reference)
    prototypes = moderator.ruleset.prototypes[0]
    low, high = prototypes.ends
    sword, pen = prototypes.vectors / prototypes.deviation[:, None].float()
    own = moderator.scores(torch.stack([sword - pen, pen - sword])).flatten()
    assert own.tolist() == pytest.approx([high, low], abs=1e-4), "the way from one to the other"
    several = replace(WEAPONS, positive=(SWORD, "a dagger"), contrast=(PEN, BREAD))
    many = Moderator(clip, [several], reference=reference)
    low, high = many.ruleset.prototypes[0].ends
    found = many.scores(torch.cat([noise(2000), many.ruleset.prototypes[0].vectors]))
    assert low <= float(found.min()) < float(found.max()) <= high
    for beyond, what in ((high + 0.01, "no image could be"), (low - 0.01, "all would be flagged")):
        with pytest.raises(ConfigError, match=f"is outside its scores, .*so {what}"):
            Moderator(clip, [replace(several, threshold=beyond)], reference=reference)


def test_examples_that_cannot_be_read_are_named(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"an example of 'x' cannot be used: .*broken\.png"):
        Moderator(clip, [Concept("x", examples=(str(tmp_path),))])
    with pytest.raises(InputError, match=r"no file has this name or matches it: .*\*.png"):
        Moderator(clip, [Concept("x", examples=(str(tmp_path / "none" / "*.png"),))])


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
