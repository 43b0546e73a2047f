"""Measured recall and false alarms, by concept and group, and what they mean at a site.

A share that nobody measured, such as the recall of a group without positives, is None.
N images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecliptic.checks import check_range
from ecliptic.errors import ConfigError, ShapeError, did_you_mean
from ecliptic.scoring import Interval, wilson
from ecliptic.tasks.moderation.copies import keep_first
from ecliptic.tasks.moderation.labels import to_flags
from ecliptic.tasks.moderation.sampling import expected_load, expected_precision

EVERYTHING = "all"  # the group of all images
LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class SliceAudit:
    """One concept in one group of images."""

    concept: str
    group: str  # "all" for all images
    positives: int  # images that show the concept
    negatives: int
    found: int  # positives that were flagged
    false_alarms: int  # negatives that were flagged
    prevalence: float  # share of positives for precision and load
    recall: Interval | None  # Wilson
    false_alarm_rate: Interval | None  # share of negatives that are flagged; Wilson
    precision: Interval | None  # at the prevalence, from the ends of both intervals: not exact
    load: Interval | None  # share of all images that are flagged, in the same way

    def to_json(self) -> dict[str, Any]:
        """Plain data; an interval is [low, value, high]."""

        def plain(value: Any) -> Any:
            return [value.low, value.value, value.high] if isinstance(value, Interval) else value

        return {name: plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class AuditReport:
    """The slices of one audit: for each concept all images first, then its groups."""

    rules: str  # version
    slices: tuple[SliceAudit, ...]
    level: float = LEVEL  # of the intervals

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        slices = [one.to_json() for one in self.slices]
        return {"rules": self.rules, "level": self.level, "slices": slices}


def audit_scores(
    flagged: Mapping[str, Any],
    truth: Mapping[str, Any],
    groups: Sequence[str] | None = None,
    *,
    prevalence: float | None = None,
    level: float = LEVEL,
    copies: Tensor | None = None,
) -> tuple[SliceAudit, ...]:
    """Count right and wrong flags of each concept, in all images and in each group.

    Args:
        flagged: (N,) bools of each concept.
        truth: (N,) bools of the same concepts.
        groups: a name for each image.
        prevalence: share of images that show the concept where the moderator will be used; None
            is the share in all these labels, for each group too: groups can be compared.
        level: of the intervals.
        copies: (N,) a number for each image, the same for equal ones; each number counts once in
            all images, and once in each group.

    Raises:
        ShapeError: not one flag, or not one group, for each image; or flags that are neither true
            nor false.
        ConfigError: a prevalence or level that is no share, a concept without flags, or a group
            that is no text.
    """
    check_audit(prevalence, level)
    found: list[SliceAudit] = []
    for concept, said in truth.items():
        if concept not in flagged:
            near = did_you_mean(concept, flagged) or f"there are {', '.join(flagged) or 'none'}."
            raise ConfigError(f"there are no flags of {concept!r}; {near}")
        positive = to_flags(f"the truth of {concept!r}", said)
        hits = to_flags(f"the flags of {concept!r}", flagged[concept])
        if positive.shape != hits.shape:
            raise ShapeError(f"{len(positive)} images need as many flags, got {len(hits)}.")
        share = prevalence
        for name, rows in _divide(groups, len(positive)).items():
            kept = rows if copies is None else keep_first(rows, copies)
            part = _measure(concept, name, hits[kept], positive[kept], share, level)
            share = part.prevalence  # of all images, which come first
            found.append(part)
    return tuple(found)


def check_audit(prevalence: float | None, level: float) -> None:
    """Raise ConfigError for a prevalence or a level that is no share."""
    check_range("level", level, 0, 1, above=True, below=True)
    if prevalence is not None:
        check_range("prevalence", prevalence, 0, 1)


def _divide(groups: Sequence[str] | None, count: int) -> dict[str, Tensor]:
    """(N,) which images are in each part: all of them first, then each group."""
    parts = {EVERYTHING: torch.ones(count, dtype=torch.bool)}
    if groups is None:
        return parts
    if len(groups) != count:
        raise ShapeError(f"{count} images need as many groups, got {len(groups)}.")
    for place, group in enumerate(groups):
        if not isinstance(group, str):
            raise ConfigError(f"groups must be texts, got {group!r} at {place}; name each group.")
    for group in sorted(set(groups)):
        name = f"{group} (group)" if group == EVERYTHING else group
        parts[name] = torch.tensor([one == group for one in groups])
    return parts


def _measure(
    concept: str, group: str, flagged: Tensor, real: Tensor, prevalence: float | None, level: float
) -> SliceAudit:
    positives, negatives = int(real.sum()), int((~real).sum())
    found, alarms = int((flagged & real).sum()), int((flagged & ~real).sum())
    recall = wilson(found, positives, level) if positives else None
    rate = wilson(alarms, negatives, level) if negatives else None
    share = positives / max(1, len(real)) if prevalence is None else prevalence
    precision = load = None
    if recall and rate:
        precision = _combine(
            expected_precision(recall.low, rate.high, share),
            expected_precision(recall.value, rate.value, share),
            expected_precision(recall.high, rate.low, share),
        )
        load = _combine(
            expected_load(recall.low, rate.low, share),
            expected_load(recall.value, rate.value, share),
            expected_load(recall.high, rate.high, share),
        )
    return SliceAudit(
        concept, group, positives, negatives, found, alarms, share, recall, rate, precision, load
    )


def _combine(low: float, value: float, high: float) -> Interval | None:
    """An interval; None if nothing is flagged, so that a share of it has no value."""
    return None if math.isnan(value) else Interval(0.0 if math.isnan(low) else low, value, high)
