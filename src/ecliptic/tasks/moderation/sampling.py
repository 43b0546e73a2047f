"""A random sample of the accepted images, without which nobody knows what is missed."""

import math
import random
from collections.abc import Iterable

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError
from ecliptic.scoring import Interval, wilson
from ecliptic.tasks.moderation.verdicts import ImageVerdict


def sample_accepted(
    verdicts: Iterable[ImageVerdict], count: int, seed: int = 0
) -> list[ImageVerdict]:
    """At most `count` of the allowed images, drawn at random, in their order."""
    allowed = [one for one in verdicts if not one.flagged]
    check_count("count", count, 0)
    chosen = random.Random(seed).sample(range(len(allowed)), min(count, len(allowed)))
    return [allowed[place] for place in sorted(chosen)]


def recall_with_sample(
    found: int, accepted: int, sampled: int, missed: int, level: float = 0.95
) -> Interval:
    """The recall, where all flagged images and a random sample of the accepted ones are labelled.

    Args:
        found: flagged images that show the concept.
        accepted: images that were not flagged.
        sampled: those of them that a person labelled, drawn at random.
        missed: those of the sample that show the concept.
        level: of the interval, which follows from Wilson's for the share that is missed.

    Raises:
        ConfigError: counts that contradict each other, or no image that shows the concept.
    """
    for name, number in (("found", found), ("accepted", accepted), ("missed", missed)):
        check_count(name, number, 0)
    check_count("sampled", sampled, 0 if accepted == 0 else 1)
    if not missed <= sampled <= accepted:
        raise ConfigError(
            f"missed {missed} must be at most sampled {sampled}, and that at most accepted "
            f"{accepted}."
        )
    if found + missed == 0:
        raise ConfigError(
            "no labelled image shows the concept, so its recall is not known; label more images."
        )
    if accepted == 0:
        return Interval(1.0, 1.0, 1.0)
    share = wilson(missed, sampled, level)
    # the misses of the sample are certain; the share is that of the images beside it
    most = missed + (accepted - sampled) * share.high
    least = missed + (accepted - sampled) * share.low
    value = found / (found + accepted * missed / sampled)
    return Interval(found / (found + most), value, found / (found + least))


def expected_precision(recall: float, false_alarms: float, prevalence: float) -> float:
    """The share of flagged images that show the concept, by the rule of Bayes; NaN if none is."""
    right = prevalence * recall
    flagged = right + (1 - prevalence) * false_alarms
    return right / flagged if flagged else math.nan


def expected_load(recall: float, false_alarms: float, prevalence: float) -> float:
    """The share of all images that is flagged."""
    return prevalence * recall + (1 - prevalence) * false_alarms
