"""Audits count by group with honest intervals; a sample of the rest tells what is missed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import wilson
from ecliptic.tasks import (
    ImageVerdict,
    Moderator,
    Reason,
    SliceAudit,
    audit_scores,
    recall_with_sample,
    sample_accepted,
)
from tests.tasks.moderation.samples import WEAPONS, labelled


def audit(
    hits: int, positives: int, alarms: int, negatives: int, prevalence: float | None = None
) -> SliceAudit:
    flagged = [True] * hits + [False] * (positives - hits)
    flagged += [True] * alarms + [False] * (negatives - alarms)
    truth = torch.arange(positives + negatives) < positives
    (found,) = audit_scores({"x": flagged}, {"x": truth}, prevalence=prevalence)
    return found


def test_rare_concepts_have_a_low_precision() -> None:
    """The published arithmetic: 0.1 % of images, recall 95 %, 1 % false alarms: 8.7 %."""
    found = audit(95, 100, 10, 1000, prevalence=0.001)
    assert found.precision is not None
    assert found.load is not None
    assert found.precision.value == pytest.approx(0.0868, abs=1e-4)
    assert found.load.value == pytest.approx(0.001 * 0.95 + 0.999 * 0.01)
    assert found.recall == wilson(95, 100)
    assert found.false_alarm_rate == wilson(10, 1000)
    assert found.precision.low < found.precision.value < found.precision.high


def test_without_a_prevalence_it_is_that_of_the_labels() -> None:
    found = audit(8, 10, 3, 30)
    assert found.prevalence == 0.25
    assert found.precision is not None
    assert found.precision.value == pytest.approx(8 / 11)


def test_what_nobody_measured_is_not_a_number_but_none() -> None:
    for found in (audit(0, 0, 1, 5), audit(3, 4, 0, 0)):
        assert None in (found.recall, found.false_alarm_rate)
        assert found.precision is found.load is None
    nothing = audit(0, 5, 0, 5)
    assert nothing.precision is None, "nothing is flagged"
    assert nothing.recall is not None
    assert nothing.recall.value == 0
    assert audit(0, 0, 0, 0).recall is None


def test_groups_are_measured_apart(clip: Clip) -> None:
    rows, truth = labelled(clip, 50, 50)
    moderator = Moderator(clip, [WEAPONS])
    groups = ["flat" if row % 3 else "round" for row in range(100)]
    report = moderator.audit(rows, truth, groups=groups)
    everything, flat, rounded = report.slices
    assert [one.group for one in report.slices] == ["all", "flat", "round"]
    assert everything.found == flat.found + rounded.found
    assert everything.positives == 50
    assert report.rules == moderator.version
    flagged = [one.flagged for one in moderator.check(rows)]
    assert everything.found == sum(flagged[:50])
    plain = report.to_json()["slices"][0]
    assert plain["recall"] == [
        getattr(everything.recall, part) for part in ("low", "value", "high")
    ]
    with pytest.raises(ShapeError, match="100 images need as many groups, got 3"):
        moderator.audit(rows, truth, groups=["a", "b", "c"])
    with pytest.raises(ConfigError, match="prevalence must be a number at least 0"):
        moderator.audit(rows, truth, prevalence=1.5)


def test_groups_are_compared_at_one_prevalence() -> None:
    """Two groups with the same recall and false alarms have one precision, however they mix."""
    truth = [True] * 10 + [False] * 10 + [True] * 10 + [False] * 90
    flags = [True] * 8 + [False] * 2 + [True] * 1 + [False] * 9
    flags += [True] * 8 + [False] * 2 + [True] * 9 + [False] * 81
    found = audit_scores({"x": flags}, {"x": truth}, ["a"] * 20 + ["b"] * 100)
    assert [one.prevalence for one in found] == [20 / 120] * 3
    values = [one.precision.value for one in found if one.precision]
    assert values == [pytest.approx(16 / 26)] * 3


def test_a_group_called_all_is_told_apart() -> None:
    flags = torch.ones(2, dtype=torch.bool)
    found = audit_scores({"x": flags}, {"x": flags}, ["all", "b"])
    assert [one.group for one in found] == ["all", "all (group)", "b"]
    with pytest.raises(ShapeError, match="2 images need as many flags, got 1"):
        audit_scores({"x": [True]}, {"x": flags})


def test_what_cannot_be_counted_is_refused(clip: Clip) -> None:
    flags = [True, False]
    with pytest.raises(ConfigError, match="there are no flags of 'weapon'; did you mean 'weapons'"):
        audit_scores({"weapons": flags}, {"weapon": flags})
    for wrong in ([0.3, 1.0], [float("nan"), 0.0], [5, 1], ["yes", "no"], [None, True]):
        for flagged, truth in ((wrong, flags), (flags, wrong)):
            with pytest.raises(ShapeError, match="must be true or false, or 1 or 0"):
                audit_scores({"x": flagged}, {"x": truth})
    for groups in (["a", None], [1, "a"]):
        with pytest.raises(ConfigError, match="groups must be texts, got"):
            audit_scores({"x": flags}, {"x": flags}, groups)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="must be true or false, or 1 or 0"):
        Moderator(clip, [WEAPONS]).fit(labelled(clip, 1, 0)[0], ["yes"])


def verdicts(count: int) -> list[ImageVerdict]:
    reason = Reason("x", 0.0, 0.5, flagged=False)
    allowed = ImageVerdict("a", "allow", (reason,), "v")
    return [
        replace(allowed, name=str(n), action="label" if n % 10 == 0 else "allow")
        for n in range(count)
    ]


def test_a_sample_is_random_and_holds_only_accepted_images() -> None:
    some = verdicts(100)
    drawn = sample_accepted(some, 20, seed=1)
    assert len(drawn) == len({one.name for one in drawn}) == 20
    assert all(one.action == "allow" for one in drawn)
    assert drawn == sample_accepted(some, 20, seed=1) != sample_accepted(some, 20, seed=2)
    assert len(sample_accepted(some, 1000)) == 90
    assert sample_accepted(some, 0) == []


def test_a_sample_tells_the_recall() -> None:
    found = recall_with_sample(found=90, accepted=1000, sampled=100, missed=1)
    assert found.value == pytest.approx(90 / 100)
    assert 0 < found.low < found.value < found.high < 1
    whole = recall_with_sample(found=9, accepted=50, sampled=50, missed=1)
    assert whole.low == whole.value == whole.high == 0.9, "all are labelled, nothing is guessed"
    assert recall_with_sample(5, 0, 0, 0).value == 1
    with pytest.raises(ConfigError, match="its recall is not known"):
        recall_with_sample(0, 100, 10, 0)
    with pytest.raises(ConfigError, match="missed 11 must be at most sampled 10"):
        recall_with_sample(5, 100, 10, 11)
    with pytest.raises(ConfigError, match="sampled must be at least 1"):
        recall_with_sample(5, 100, 0, 0)


def test_the_interval_of_the_sample_holds_the_recall() -> None:
    """500 sites with 60 missed images among 3,000 accepted ones, of which 300 are sampled."""
    rng, held = np.random.default_rng(0), 0
    truth = 200 / 260
    for missed in rng.hypergeometric(60, 2940, 300, size=500):
        interval = recall_with_sample(200, 3000, 300, int(missed))
        held += interval.low <= truth <= interval.high
    assert 0.93 <= held / 500 <= 1
