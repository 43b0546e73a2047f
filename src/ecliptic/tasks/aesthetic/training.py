"""Trains a head on rated images, or on choices between two images, and tells how good it is.

All measures are of images that a fit has not seen: the images are split into five parts, and each
part is scored by a head that was fitted on the other four. Groups (an author, a series) are never
split. N images, P pairs, E vector size.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.engine import Card
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import (
    FOLDS,
    Interval,
    average_ranks,
    bootstrap,
    correlate_rows,
    cross_predict,
    fit_choices,
    fit_ridge,
    pearson,
    spearman,
    split_folds,
    take_groups,
    wilson,
)
from ecliptic.tasks.aesthetic.agreement import find_agreement
from ecliptic.tasks.aesthetic.head import AestheticHead

FEWEST = 20  # rated images, or choices; with fewer, the intervals say nothing
SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the images, in the learning curve
FEWEST_LEARNT = 10  # images of a point of the curve
RESAMPLES, FEWEST_RESAMPLES = 2_000, 1_000  # for an interval
MOST_RANKED = 2_000_000  # numbers, with the larger one


@dataclass(frozen=True)
class RatingReport:
    """How well the scores of unseen images follow their ratings."""

    images: int
    merged: int  # ratings of an image that has another one; they are averaged
    groups: int | None  # that were kept together; None: each image by itself
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

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ChoiceReport:
    """How well the scores of unseen pairs follow the choices."""

    pairs: int
    images: int
    groups: int | None  # of pairs that were kept together; None: each pair by itself
    alpha: float
    accuracy: Interval  # share of pairs whose preferred image has the higher score
    loss: float  # mean negative log likelihood; ln 2, 0.693, is guessing
    curve: tuple[tuple[int, float], ...]  # (pairs, accuracy) with fewer pairs, then all
    seen: bool  # whether images of a tested pair were in other pairs that were learnt from

    @property
    def useful(self) -> bool:
        """Whether the choices are predicted better than by chance."""
        return bool(self.accuracy.low > 0.5)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class HeadFit:
    """A head, and how good it is."""

    head: AestheticHead
    report: RatingReport | ChoiceReport


def train_on_ratings(
    vectors: Tensor,
    ratings: Sequence[float] | Tensor,
    card: Card,
    groups: Sequence[Hashable] | None = None,
    *,
    name: str = "own head",
    seed: int = 0,
) -> HeadFit:
    """Fit a head to ratings by ridge regression on the centred unit vectors.

    Args:
        vectors: (N, E) of `clip.encode_image`; equal ones are one image, and their ratings are
            averaged.
        ratings: (N,) numbers; higher is better.
        card: `clip.card` of the model that made the vectors.
        groups: (N,) the author or series of each image; those of a group are tested together.
        name: of the head, for people.
        seed: of the split into parts, and of the intervals.

    Raises:
        ConfigError: too few images or groups, or all ratings are equal.
        ShapeError, NumericalError: another number of ratings or groups; NaN; no unit vectors.
    """
    y = torch.as_tensor(ratings, dtype=torch.float64)
    _check_rows(len(vectors), y, groups)
    rows, members = _find_equal(vectors)
    _check_enough(len(rows), "rated images")
    x = vectors[rows]
    counts = torch.bincount(members).double()
    single, y = y, torch.zeros(len(rows)).double().index_add(0, members, y) / counts
    marks = _number_groups(groups, rows, members)
    folds = split_folds(marks, seed=seed)
    fit = fit_ridge(x, y, folds)
    head = _make_head(fit.weight, fit.bias, card, name, vectors)
    order = _bootstrap_order(fit.held_out, y, None if groups is None else marks, seed)
    report = RatingReport(
        images=len(rows),
        merged=len(vectors) - len(rows),
        groups=None if groups is None else len(torch.unique(marks)),
        alpha=fit.alpha,
        spearman=order,
        pearson=pearson(fit.held_out, y),
        error=float((fit.held_out - y).abs().mean()),
        guessing=float((fit.means - y).abs().mean()),
        curve=(*_curve_of_ratings(x, y, marks, folds, seed), (len(rows), order.value)),
        agreement=find_agreement(single, members, FEWEST, seed),
    )
    return HeadFit(_describe(head, "ratings", report), report)


def train_on_choices(
    preferred: Tensor,
    others: Tensor,
    card: Card,
    groups: Sequence[Hashable] | None = None,
    *,
    name: str = "own head",
    seed: int = 0,
) -> HeadFit:
    """Fit a head to choices between two images by logistic regression on their difference.

    Pairs that share an image are tested together, unless so many share one that this leaves too
    few parts; the report says so.

    Args:
        preferred: (P, E) vectors of the images that were chosen.
        others: (P, E) vectors of those that were not.
        card: `clip.card` of the model that made the vectors.
        groups: (P,) of each pair, such as the person that chose or the series of the images.
        name: of the head, for people.
        seed: of the split into parts, and of the intervals.

    Raises:
        ConfigError: too few pairs or groups.
        ShapeError, NumericalError: another number of vectors or groups; NaN; no unit vectors.
    """
    _check_rows(len(preferred), others[:, 0], groups)
    _check_enough(len(preferred), "choices")
    both = torch.cat([preferred, others])
    rows, members = _find_equal(both)
    ends = members.view(2, -1)  # (2, P) the images of each pair
    marks, seen = _group_pairs(ends, groups)
    folds = split_folds(marks, seed=seed)
    fit = fit_choices(preferred, others, folds)
    scores = both[rows].double() @ fit.weight
    head = _make_head(fit.weight, -float(scores.mean()), card, name, both)
    right = (fit.margins > 0).double()
    curve = _curve_of_choices(preferred, others, marks, folds, seed)
    report = ChoiceReport(
        pairs=len(preferred),
        images=len(rows),
        groups=None if groups is None else len(torch.unique(marks)),
        alpha=fit.alpha,
        accuracy=_bound_accuracy(right, marks, seed),
        loss=float(F.softplus(-fit.margins).mean()),
        curve=(*curve, (len(preferred), float(right.mean()))),
        seen=seen,
    )
    return HeadFit(_describe(head, "choices", report), report)


def _bound_accuracy(right: Tensor, marks: Tensor, seed: int) -> Interval:
    """The share of right pairs; pairs of one group are not independent, so groups are drawn."""
    if len(torch.unique(marks)) == len(marks):
        return wilson(int(right.sum()), len(right))
    return bootstrap(right, groups=marks.numpy(), seed=seed)


def _make_head(
    weight: Tensor, bias: float, card: Card, name: str, vectors: Tensor
) -> AestheticHead:
    head = AestheticHead(weight, bias, card.name, card.space, name)
    head.apply(vectors)  # raises for rows that are no unit vectors
    return head


def _describe(head: AestheticHead, kind: str, report: RatingReport | ChoiceReport) -> AestheticHead:
    """The same head, with its report."""
    about = {"kind": kind} | report.to_json()
    return AestheticHead(head.weight, head.bias, head.model, head.space, head.name, about)


def _check_rows(count: int, values: Tensor, groups: Sequence[Hashable] | None) -> None:
    if len(values) != count or (groups is not None and len(groups) != count):
        found = "no groups" if groups is None else f"{len(groups)} groups"
        raise ShapeError(f"{count} vectors need as many answers, got {len(values)} and {found}.")


def _check_enough(count: int, what: str) -> None:
    if count < FEWEST:
        raise ConfigError(
            f"{FEWEST} different {what} are needed at least, got {count}; add {FEWEST - count} or "
            "more. A few hundred make a useful head."
        )


def _find_equal(vectors: Tensor) -> tuple[list[int], Tensor]:
    """The first row of each different vector, and for each row the place of its own there."""
    first: dict[bytes, int] = {}
    members = [
        first.setdefault(row.tobytes(), len(first))
        for row in vectors.detach().cpu().float().contiguous().numpy()
    ]
    rows = [-1] * len(first)
    for row, place in enumerate(members):
        if rows[place] < 0:
            rows[place] = row
    return rows, torch.tensor(members)


def _number_groups(groups: Sequence[Hashable] | None, rows: list[int], members: Tensor) -> Tensor:
    """(N,) a number for the group of each different image; groups that share an image are one."""
    if groups is None:
        return torch.arange(len(rows))
    numbers: dict[Hashable, int] = {}
    marks = [numbers.setdefault(group, len(numbers)) for group in groups]
    joined = _join(
        len(numbers), zip(marks, (marks[rows[m]] for m in members.tolist()), strict=True)
    )
    return torch.tensor([joined[marks[row]] for row in rows])


def _group_pairs(ends: Tensor, groups: Sequence[Hashable] | None) -> tuple[Tensor, bool]:
    """(P,) the group of each pair, and whether pairs of two groups share images."""
    if groups is not None:
        numbers: dict[Hashable, int] = {}
        marks = torch.tensor([numbers.setdefault(group, len(numbers)) for group in groups])
        if len(numbers) < FOLDS:
            raise ConfigError(f"choices need at least {FOLDS} groups, got {len(numbers)}.")
    else:
        joined = _join(int(ends.max()) + 1, ((a, b) for a, b in ends.T.tolist()))
        marks = torch.tensor([joined[first] for first in ends[0].tolist()])
        sizes = torch.bincount(marks)
        if int((sizes > 0).sum()) < FOLDS or int(sizes.max()) > len(marks) / 2:
            marks = torch.arange(len(marks))
    homes = torch.unique(torch.stack([ends.flatten(), marks.repeat(2)], dim=1), dim=0)[:, 0]
    return marks, len(torch.unique(homes)) < len(homes)


def _join(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` things, the first of those that are joined with it through `pairs`."""
    parents = list(range(count))

    def find(thing: int) -> int:
        while parents[thing] != thing:
            parents[thing] = parents[parents[thing]]
            thing = parents[thing]
        return thing

    for one, other in pairs:
        a, b = sorted((find(one), find(other)))
        parents[b] = a
    return [find(thing) for thing in range(count)]


def _bootstrap_order(scores: Tensor, ratings: Tensor, groups: Tensor | None, seed: int) -> Interval:
    """Spearman's correlation, with an interval from drawing images or groups again."""

    def correlate(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        places = torch.from_numpy(drawn).long()
        rows = average_ranks(scores[places]), average_ranks(ratings[places])
        return correlate_rows(*rows).numpy()

    count = max(FEWEST_RESAMPLES, min(RESAMPLES, MOST_RANKED // len(scores)))
    places = torch.arange(len(scores), dtype=torch.float64)
    marks = None if groups is None else groups.numpy()
    found = bootstrap(places, correlate, seed=seed, resamples=count, groups=marks)
    return Interval(found.low, spearman(scores, ratings), found.high)


def _curve_of_ratings(
    x: Tensor, y: Tensor, marks: Tensor, folds: Tensor, seed: int
) -> list[tuple[int, float]]:
    points = []
    for share in SHARES:
        used = take_groups(marks, folds, share, seed)
        if _is_point(used) and len(torch.unique(y[used])) > 1:
            points.append((int(used.sum()), spearman(cross_predict(x, y, folds, used), y)))
    return points


def _curve_of_choices(
    preferred: Tensor, others: Tensor, marks: Tensor, folds: Tensor, seed: int
) -> list[tuple[int, float]]:
    points = []
    for share in SHARES:
        used = take_groups(marks, folds, share, seed)
        if _is_point(used):
            fit = fit_choices(preferred[used], others[used], folds[used])
            points.append((int(used.sum()), float((fit.margins > 0).double().mean())))
    return points


def _is_point(used: Tensor) -> bool:
    """Whether a part of the images is enough for a point of the curve, and not all of them."""
    return FEWEST_LEARNT <= int(used.sum()) < len(used)
