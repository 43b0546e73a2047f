"""Puts scored images in order, and keeps the best of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ecliptic.errors import ShapeError

MOST_DIGITS = 6  # of a score, after the decimal point


@dataclass(frozen=True)
class ScoredImage:
    """An image and its score."""

    name: str  # for people
    score: float
    rank: int  # 1 is the best; equal scores keep the order of the images
    source: str | None = None  # the file, if there is one

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the file."""
        return {"image": self.name, "rank": self.rank, "score": round(self.score, MOST_DIGITS)}


def rank_images(
    names: Sequence[str], scores: Tensor, sources: Sequence[str | None] | None = None
) -> list[ScoredImage]:
    """All images, the highest score first.

    Args:
        names: N, for people.
        scores: (N,) of `AestheticHead.score`.
        sources: N files, or None where an image has none.

    Raises:
        ShapeError: another number of scores.
    """
    files = [None] * len(names) if sources is None else sources
    if scores.shape != (len(names),) or len(files) != len(names):
        raise ShapeError(f"{len(names)} images need as many scores, got {tuple(scores.shape)}.")
    order = scores.argsort(descending=True, stable=True).tolist()
    values = scores.tolist()
    return [
        ScoredImage(names[place], values[place], rank, files[place])
        for rank, place in enumerate(order, start=1)
    ]


def count_digits(scores: Sequence[float], least: int = 2) -> int:
    """Digits after the decimal point that tell scores apart: two of their range, at least `least`.

    Six at most, as many as a file has.
    """
    spread = max(scores, default=0.0) - min(scores, default=0.0)
    wanted = 1 - math.floor(math.log10(spread)) if spread > 0 else least
    return max(least, min(wanted, MOST_DIGITS))


def keep_best(
    ranked: Sequence[ScoredImage], least: float | None = None, best: int | None = None
) -> list[ScoredImage]:
    """Those with a score of at least `least`, and of these the first `best`."""
    high = [one for one in ranked if least is None or one.score >= least]
    return high[:best]
