"""Trains a head on rated images, or on choices between two images, and tells how good it is.

All measures are of images that a fit has not seen: the images are split into five parts, and each
part is scored by a head that was fitted on the other four. Groups (an author, a series) are never
split. N images, P pairs, E vector size.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.engine import Card, Vectors, given_vectors
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import (
    bound_correlation,
    bound_share,
    cross_choose,
    cross_predict,
    fit_choices,
    fit_ridge,
    pearson,
    spearman,
    split_folds,
    take_groups,
)
from ecliptic.tasks.aesthetic.agreement import find_agreement
from ecliptic.tasks.aesthetic.copies import (
    are_copies,
    find_copies,
    group_pairs,
    number_groups,
    number_pairs,
)
from ecliptic.tasks.aesthetic.head import AestheticHead
from ecliptic.tasks.aesthetic.reports import ChoiceReport, RatingReport

FEWEST = 20  # rated images, or pairs; with fewer, the intervals say nothing
SHARES = (1 / 8, 1 / 4, 1 / 2)  # of the images, in the learning curve
FEWEST_LEARNT = 10  # images of a point of the curve
ImageVectors: TypeAlias = Tensor | NDArray[Any] | Vectors  # (N, E)
Groups: TypeAlias = Sequence[Hashable] | NDArray[Any] | Tensor | None


@dataclass(frozen=True)
class HeadFit:
    """A head, and how good it is."""

    head: AestheticHead
    report: RatingReport | ChoiceReport


def train_on_ratings(
    vectors: ImageVectors,
    ratings: Sequence[float] | NDArray[Any] | Tensor,
    card: Card,
    groups: Groups = None,
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
        seed: of the split into parts.

    Raises:
        ConfigError: too few images or groups, or all ratings are equal.
        ShapeError, NumericalError: another number of ratings or groups; NaN; no unit vectors.
        SpaceMismatchError: stored vectors of another model than the card's.
    """
    given = _read_vectors(vectors, card)
    y, named = _read_ratings(ratings), _read_groups(groups)
    _check_rows(len(given), len(y), named)
    rows, members = find_copies(given)
    _check_enough(len(rows), "rated images")
    x = given[rows]
    counts = torch.bincount(members).double()
    single, y = y, torch.zeros(len(rows)).double().index_add(0, members, y) / counts
    marks = torch.arange(len(rows)) if named is None else number_groups(named, rows, members)
    folds = split_folds(marks, seed=seed)
    fit = fit_ridge(x, y, folds)
    head = _make_head(fit.weight, fit.bias, card, name, given)
    order = bound_correlation(fit.comparable, y, marks, fit.noise)
    units = len(torch.unique(marks))
    report = RatingReport(
        images=len(rows),
        merged=len(given) - len(rows),
        groups=None if named is None else units,
        units=units,
        alpha=fit.alpha,
        spearman=order,
        pearson=pearson(fit.comparable, y),
        error=float((fit.held_out - y).abs().mean()),
        guessing=float((fit.means - y).abs().mean()),
        curve=(*_curve_of_ratings(x, y, marks, folds, seed), (len(rows), order.value)),
        agreement=find_agreement(single, members, FEWEST, seed),
    )
    return HeadFit(_describe(head, "ratings", report), report)


def train_on_choices(
    preferred: ImageVectors,
    others: ImageVectors,
    card: Card,
    groups: Groups = None,
    *,
    name: str = "own head",
    seed: int = 0,
) -> HeadFit:
    """Fit a head to choices between two images by logistic regression on their difference.

    Pairs that share an image are tested together, unless so many share one that this leaves too
    few parts; then only the choices between the same two images are, and the report says so.

    Args:
        preferred: (P, E) vectors of the images that were chosen.
        others: (P, E) vectors of those that were not.
        card: `clip.card` of the model that made the vectors.
        groups: (P,) of each pair, such as the person that chose or the series of the images.
        name: of the head, for people.
        seed: of the split into parts.

    Raises:
        ConfigError: too few pairs or groups, or a choice between copies of one image.
        ShapeError, NumericalError: another number of vectors or groups; NaN; no unit vectors.
        SpaceMismatchError: stored vectors of another model than the card's.
    """
    one, other = (_read_vectors(rows, card) for rows in (preferred, others))
    named = _read_groups(groups)
    _check_rows(len(one), len(other), named)
    if len(same := are_copies(one, other).nonzero()[:, 0]):
        raise ConfigError(
            f"choice {int(same[0])} is between two copies of one image; leave it out."
        )
    both = torch.cat([one, other])
    rows, members = find_copies(both)
    ends = members.view(2, -1)  # (2, P) the images of each pair
    _check_enough(len(torch.unique(number_pairs(ends))), "pairs of images")
    marks, seen = group_pairs(ends, named)
    folds = split_folds(marks, seed=seed)
    fit = fit_choices(one, other, folds)
    scores = both[rows].double() @ fit.weight
    head = _make_head(fit.weight, -float(scores.mean()), card, name, both)
    right = fit.margins > 0
    units = len(torch.unique(marks))
    report = ChoiceReport(
        pairs=len(one),
        images=len(rows),
        groups=None if named is None else units,
        units=units,
        alpha=fit.alpha,
        accuracy=bound_share(right, marks, fit.noise),
        loss=float(F.softplus(-fit.margins).mean()),
        curve=(*_curve_of_choices(one, other, marks, folds, seed), (len(one), _share(right))),
        seen=seen,
    )
    return HeadFit(_describe(head, "choices", report), report)


def _read_vectors(vectors: ImageVectors, card: Card) -> Tensor:
    """(N, E) float32 vectors of the model of the card."""
    found = given_vectors(vectors, card)
    if found is None:
        shape = getattr(vectors, "shape", None) or type(vectors).__name__
        raise ShapeError(
            f"vectors must be (N, {card.embed}) floats of {card.name}, got {shape}; encode the "
            "images with that model."
        )
    return found.detach()


def _read_ratings(ratings: Sequence[float] | NDArray[Any] | Tensor) -> Tensor:
    """(N,) float64."""
    values = np.asarray(ratings.detach().cpu() if isinstance(ratings, Tensor) else ratings)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "fiub"):
        raise ShapeError(
            f"ratings must be one row of numbers, a number for each image, got {values.dtype} of "
            f"shape {values.shape}."
        )
    return torch.from_numpy(values.astype(np.float64))


def _read_groups(groups: Groups) -> Sequence[Hashable] | None:
    """Names that can be compared: a tensor or an array gives its values."""
    return groups.tolist() if isinstance(groups, Tensor | np.ndarray) else groups


def _make_head(
    weight: Tensor, bias: float, card: Card, name: str, vectors: Tensor
) -> AestheticHead:
    head = AestheticHead(weight, bias, card.name, card.space, name)
    head.apply(vectors)  # raises for rows that are no unit vectors
    return head


def _describe(head: AestheticHead, kind: str, report: RatingReport | ChoiceReport) -> AestheticHead:
    """The same head, with its report."""
    about = {"kind": kind} | report.to_json() | {"useful": report.useful}
    return AestheticHead(head.weight, head.bias, head.model, head.space, head.name, about)


def _check_rows(count: int, answers: int, groups: Sequence[Hashable] | None) -> None:
    if answers != count or (groups is not None and len(groups) != count):
        found = "no groups" if groups is None else f"{len(groups)} groups"
        raise ShapeError(f"{count} vectors need as many answers, got {answers} and {found}.")


def _check_enough(count: int, what: str) -> None:
    if count < FEWEST:
        raise ConfigError(
            f"{FEWEST} different {what} are needed at least, got {count}; add {FEWEST - count} or "
            "more. A few hundred make a useful head."
        )


def _share(right: Tensor) -> float:
    return float(right.double().mean())


def _curve_of_ratings(
    x: Tensor, y: Tensor, marks: Tensor, folds: Tensor, seed: int
) -> list[tuple[int, float]]:
    points = []
    for used in _parts_of_curve(marks, folds, seed):
        if len(torch.unique(y[used])) > 1:
            found = cross_predict(x, y, folds, used).comparable
            points.append((int(used.sum()), spearman(found, y)))
    return points


def _curve_of_choices(
    preferred: Tensor, others: Tensor, marks: Tensor, folds: Tensor, seed: int
) -> list[tuple[int, float]]:
    """Each point learns from a part of the pairs, and is tested on all."""
    points = []
    for used in _parts_of_curve(marks, folds, seed):
        found = cross_choose(preferred, others, folds, used).margins
        points.append((int(used.sum()), _share(found > 0)))
    return points


def _parts_of_curve(marks: Tensor, folds: Tensor, seed: int) -> list[Tensor]:
    """(N,) the rows that each point of the curve learns from; each has more than the one before."""
    parts: dict[int, Tensor] = {}
    for share in SHARES:
        used = take_groups(marks, folds, share, seed)
        if FEWEST_LEARNT <= (size := int(used.sum())) < len(used):
            parts.setdefault(size, used)
    return [parts[size] for size in sorted(parts)]
