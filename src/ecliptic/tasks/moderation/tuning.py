"""Sets the threshold of a concept on labelled images, and refuses labels that promise too much.

A promise counts images that differ. So a copy of another labelled image counts once, equal images
with different labels are refused, and an example of the concept, which it finds anyway, is left
out. N images, E vector size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, warn
from ecliptic.scoring import (
    fewest_accepted,
    fewest_positives,
    precision_threshold,
    recall_threshold,
)
from ecliptic.tasks.moderation.copies import are_among, find_copies
from ecliptic.tasks.moderation.prototypes import Prototypes, reaches
from ecliptic.tasks.moderation.rulesets import Tuning

RECALL = 0.95  # without another wish
# The vector of an image depends on its batch by rounding, and a cosine moves with it by up to
# `ROUNDING`; in half precision by `ROUNDING_HALF`. A threshold for recall is lowered by as much as
# a score can move, so that no image on the border is lost.
ROUNDING, ROUNDING_HALF = 1e-6, 1e-3
_NAMED = 3  # images that a message names


@dataclass(frozen=True)
class Promise:
    """What a threshold should keep."""

    target: str  # "recall" or "precision"
    wanted: float  # the share of it
    confidence: float

    @classmethod
    def of(cls, recall: float | None, precision: float | None, confidence: float) -> "Promise":
        """The promise, before any image is encoded for it.

        Raises:
            ConfigError: both, or what is no share.
        """
        if recall is not None and precision is not None:
            raise ConfigError("give either a recall or a precision, not both.")
        if precision is not None:
            fewest_accepted(precision, confidence)  # checks both
            return cls("precision", precision, confidence)
        wanted = RECALL if recall is None else recall
        fewest_positives(wanted, confidence)
        return cls("recall", wanted, confidence)


def rounding(computed_in: str) -> float:
    """How far a cosine moves with the batch of its image, for a precision of the model."""
    return ROUNDING if computed_in in ("fp32", "float64") else ROUNDING_HALF


def count_once(rows: Tensor, truths: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """(N,) the place of the first labelled image that each equals.

    Raises:
        ConfigError: equal images have different labels.

    Warns:
        UserWarning: images are copies of others.
    """
    first = find_copies(rows)
    for concept, truth in truths.items():
        if wrong := (truth != truth[first]).nonzero()[:, 0].tolist():
            other = names[int(first[wrong[0]])]
            raise ConfigError(
                f"{concept}: {len(wrong)} labelled images equal others that have another label: "
                f"{names[wrong[0]]} equals {other}; correct one of the two."
            )
    copies = first != torch.arange(len(first))
    if bool(copies.any()):
        warn(
            f"{int(copies.sum())} of {len(rows)} labelled images are copies of others and do not "
            f"count again: {_name(names, copies)}"
        )
    return first


def find_examples(
    concept: str, rows: Tensor, names: Sequence[str], prototypes: Prototypes, computed_in: str
) -> Tensor:
    """(N,) which labelled images are examples of the concept itself; a warning names them."""
    own = are_among(rows, prototypes.vectors, rounding(computed_in))
    if bool(own.any()):
        warn(
            f"{concept}: {int(own.sum())} of {len(rows)} labelled images are examples of the "
            f"concept, which it finds anyway, and do not count: {_name(names, own)}"
        )
    return own


def set_threshold(
    scores: Tensor,
    positive: Tensor,
    prototypes: Prototypes,
    promise: Promise,
    computed_in: str,
) -> Tuning:
    """The threshold of one concept.

    Args:
        scores: (N,) of labelled images, each of which counts once.
        positive: (N,) whether each shows the concept.
        prototypes: of the concept.
        promise: what to keep.
        computed_in: the precision of the model.

    Raises:
        ConfigError: too few labelled images, or for a precision all of one kind.
    """
    if promise.target == "precision":
        if bool(positive.all()) or not bool(positive.any()):
            kind = "show" if bool(positive.any()) else "do not show"
            raise ConfigError(
                f"all {len(positive)} labelled images {kind} the concept, so nothing is known "
                "about its precision; label images of both kinds."
            )
        found = precision_threshold(scores, positive, promise.wanted, promise.confidence)
        threshold = found.threshold
    else:
        wanted, confidence = promise.wanted, promise.confidence
        threshold = recall_threshold(scores[positive], wanted, confidence).threshold
        threshold -= rounding(computed_in) * prototypes.unit
    others = scores[~positive]
    return Tuning(
        target=promise.target,
        wanted=promise.wanted,
        confidence=promise.confidence,
        threshold=threshold,
        positives=int(positive.sum()),
        negatives=len(others),
        false_alarms=int(reaches(others, threshold).sum()),
        computed_in=computed_in,
    )


def _name(names: Sequence[str], rows: Tensor) -> str:
    """The first of the named rows, and how many more there are."""
    places = rows.nonzero()[:, 0].tolist()
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return ", ".join(names[place] for place in places[:_NAMED]) + more
