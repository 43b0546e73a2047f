"""Conformal prediction: sets of labels that hold the right one as often as promised.

The promise holds on average over images like those of the calibration, drawn in the same way and
not used to make the probabilities. With one level for each label (Mondrian) it holds for the images
of each label, which matters for rare ones. N images, L labels.
Source: Sadinle et al. 2019, arXiv:1609.00451 (LAC, least ambiguous sets); Romano et al. 2020,
arXiv:2006.02544 (APS, adaptive sets; here without random numbers); Vovk et al. 2005 (Mondrian).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.labels.reliability import check_answers

SetKind: TypeAlias = Literal["lac", "aps"]


@dataclass(frozen=True)
class ConformalSets:
    """Which labels of an image belong to its set: those with a score of at most the level.

    The score of a label is 1 - its probability (LAC), or the sum of the probabilities from the
    highest down to its own (APS).
    """

    coverage: float  # the promised share of sets that hold the right label
    levels: tuple[float, ...]  # one for all labels, or one for each
    kind: SetKind = "lac"
    examples: int = 0  # that it was set on

    def contains(self, probabilities: Tensor) -> Tensor:
        """(N, L) probabilities -> (N, L) whether each label is in the set; it may be empty.

        Raises:
            ShapeError: not as many labels as levels.
        """
        count = len(self.levels)
        if probabilities.ndim != 2 or count not in (1, probabilities.shape[1]):
            raise ShapeError(
                f"{count} levels need probabilities (N, {count}), got {tuple(probabilities.shape)}."
            )
        levels = torch.tensor(self.levels, dtype=torch.float64)
        return nonconformity(probabilities, self.kind) <= levels


def nonconformity(probabilities: Tensor, kind: SetKind) -> Tensor:
    """(N, L) probabilities -> (N, L) scores; the larger, the less a label fits. NaN stays NaN."""
    p = probabilities.double()
    if kind == "lac":
        return 1 - p
    falling, order = p.sort(dim=1, descending=True, stable=True)
    return torch.empty_like(p).scatter_(1, order, falling.cumsum(dim=1))


def fewest_for_sets(coverage: float) -> int:
    """The fewest examples with which sets can promise a coverage without holding every label.

    Raises:
        ConfigError: a share that is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must be a share between 0 and 1, got {coverage!r}.")
    fewest = max(1, math.floor(coverage / (1 - coverage)))
    while _place(fewest, coverage) > fewest:
        fewest += 1
    return fewest


def fit_sets(
    probabilities: Tensor,
    truth: Tensor,
    coverage: float,
    kind: SetKind = "lac",
    *,
    per_label: bool = False,
    names: Sequence[str] = (),
) -> ConformalSets:
    """Sets that hold the right label with the probability `coverage`, at least.

    The mean coverage is at most 1 / (N + 1) more where no two scores are equal.

    Args:
        probabilities: (N, L) of images that did not take part in making them.
        truth: (N,) places of the right labels.
        coverage: the wanted share, between 0 and 1.
        kind: "lac" has the smallest sets; "aps" spreads the misses more evenly over easy and hard
            images.
        per_label: a level for each label.
        names: of the labels, for the error about one of them.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: too few examples, of a label too if `per_label`; the message says how many
            are needed.
    """
    check_answers(probabilities, truth)
    fewest = fewest_for_sets(coverage)
    if bool((truth < 0).any()):
        raise ConfigError(
            'sets hold labels, so examples of "none of these" set none; leave them out.'
        )
    own = nonconformity(probabilities, kind).gather(1, truth[:, None])[:, 0]
    own = own.nan_to_num(nan=math.inf)
    groups = (
        [truth == label for label in range(probabilities.shape[1])] if per_label else [truth >= 0]
    )
    if short := [(place, int(g.sum())) for place, g in enumerate(groups) if int(g.sum()) < fewest]:
        place, count = short[0]
        name = repr(names[place]) if names else f"label {place}"
        which = f" of each label; {name} has {count}" if per_label else f", got {count}"
        raise ConfigError(
            f"sets with a coverage of {coverage:g} need at least {fewest} examples{which}. Add "
            "examples, or ask for a lower coverage."
        )
    levels = tuple(_level(own[group], coverage) for group in groups)
    return ConformalSets(coverage, levels, kind, len(truth))


def _level(scores: Tensor, coverage: float) -> float:
    return float(scores.sort().values[_place(len(scores), coverage) - 1])


def _place(n: int, coverage: float) -> int:
    """ceil((n + 1) coverage), where a product that is whole may be rounded up a little."""
    return math.ceil((n + 1) * coverage - 1e-9)
