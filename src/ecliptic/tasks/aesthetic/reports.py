"""What a training found: how well the scores of unseen images follow ratings or choices."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ecliptic.scoring import ALPHAS, STRENGTHS, Interval


@dataclass(frozen=True)
class RatingReport:
    """How well the scores of unseen images follow their ratings."""

    images: int
    merged: int  # ratings of an image that has another one; they are averaged
    groups: int | None  # that were kept together; None: each image by itself
    units: int  # independent observations that the interval counts: groups, or images
    alpha: float  # strength of the penalty
    spearman: Interval  # of the order: 1 is the order of the ratings, 0 is chance
    pearson: float
    error: float  # mean absolute error
    guessing: float  # the same of a head that always says the mean rating
    curve: tuple[tuple[int, float], ...]  # (images, Spearman) with fewer images, then all
    agreement: float | None = None  # Spearman's of the ratings with those of as many other people

    @property
    def useful(self) -> bool:
        """Whether the order is better than chance, and the scores better than the mean."""
        return bool(self.spearman.low > 0 and self.error < self.guessing)

    @property
    def limit(self) -> str:
        """Whether the penalty is the "strongest" or "weakest" that was tried; else ""."""
        return _name_limit(self.alpha, ALPHAS)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ChoiceReport:
    """How well the scores of unseen pairs follow the choices."""

    pairs: int
    images: int
    groups: int | None  # of pairs that the caller named, kept together; None: none were named
    units: int  # independent observations that the interval counts: groups, or sets of pairs
    alpha: float
    accuracy: Interval  # share of pairs whose preferred image has the higher score
    loss: float  # mean negative log likelihood; ln 2, 0.693, is guessing
    curve: tuple[tuple[int, float], ...]  # (pairs, accuracy) with fewer pairs, then all
    seen: bool  # whether images of a tested pair were in other pairs that were learnt from

    @property
    def useful(self) -> bool:
        """Whether the choices are predicted better than by chance."""
        return bool(self.accuracy.low > 0.5)

    @property
    def limit(self) -> str:
        """Whether the penalty is the "strongest" or "weakest" that was tried; else ""."""
        return _name_limit(self.alpha, STRENGTHS)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def _name_limit(alpha: float, tried: Sequence[float]) -> str:
    return {max(tried): "strongest", min(tried): "weakest"}.get(alpha, "")
