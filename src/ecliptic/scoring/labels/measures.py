"""How often labels are right: ranks, accuracy, mean per class, confusion, mean precision.

A label is right only if it is ahead of all others, so ties and rows with NaN count as wrong; an
argmax would still name a label. N images, L labels.
"""

import math

import torch
from torch import Tensor

from ecliptic.errors import ShapeError
from ecliptic.scoring.labels.detection import average_precision
from ecliptic.scoring.labels.reliability import check_answers


def label_ranks(values: Tensor, truth: Tensor) -> Tensor:
    """(N,) the place of the right label of each row, from 1; equal labels stand before it.

    Args:
        values: (N, L) logits, cosines or probabilities.
        truth: (N,) places of the right labels.

    Raises:
        ShapeError: shapes that do not fit, or a row without a right label.
    """
    check_answers(values, truth)
    if bool((truth < 0).any()):
        raise ShapeError('a rank needs a right label; leave the rows of "none of these" out.')
    own = values.gather(1, truth[:, None])
    ahead = ~(values < own)  # NaN too
    return ahead.scatter(1, truth[:, None], False).sum(dim=1) + 1


def mean_per_class(right: Tensor, truth: Tensor) -> float:
    """The mean of the accuracies of all classes that are present; NaN if there are none.

    Args:
        right: (N,) whether each answer is right.
        truth: (N,) the class of each.

    Source: CLIP_benchmark's `mean_per_class_recall`; scikit-learn's balanced accuracy.
    """
    if right.ndim != 1 or right.shape != truth.shape:
        raise ShapeError(
            f"right {tuple(right.shape)} and truth {tuple(truth.shape)} must both be (N,)."
        )
    if not len(truth):
        return math.nan
    counts, hits = torch.bincount(truth), torch.bincount(truth, weights=right.double())
    present = counts > 0
    return float((hits[present] / counts[present]).mean())


def confusion_matrix(truth: Tensor, answers: Tensor, labels: int) -> Tensor:
    """(labels, labels) counts: row i and column j is the number of images of i answered as j."""
    if truth.shape != answers.shape:
        raise ShapeError(
            f"truth {tuple(truth.shape)} and answers {tuple(answers.shape)} must both be (N,)."
        )
    cells = torch.bincount(truth * labels + answers, minlength=labels * labels)
    return cells.view(labels, labels)


def mean_average_precision(values: Tensor, truth: Tensor) -> float:
    """The mean over labels of the average precision, for several labels per image.

    Labels without a positive image are left out; CLIP_benchmark counts them as 0.

    Args:
        values: (N, L) scores.
        truth: (N, L) whether each label is right.
    """
    if values.ndim != 2 or values.shape != truth.shape:
        raise ShapeError(
            f"values {tuple(values.shape)} and truth {tuple(truth.shape)} must both be (N, L)."
        )
    columns = zip(values.T, truth.T, strict=True)
    found = [p for p in (average_precision(*column) for column in columns) if not math.isnan(p)]
    return math.fsum(found) / len(found) if found else math.nan
