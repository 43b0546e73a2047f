"""What a classifier says about images. N images, L labels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.scoring import NONE_OF_THESE, STOP, LabelTree, add_none
from ecliptic.tasks.classification.decisions import Decisions


@dataclass(frozen=True, eq=False)
class Predictions:
    """The answers for N images, in order.

    An image whose vector is zero says nothing, so it is abstained from. "None of these" has no
    probability where a threshold of the scores says it, or where none of several labels is given.
    """

    names: tuple[str, ...]  # (L,) the labels
    probabilities: Tensor  # (N, L) float64; what a row lacks to 1 is "none of these"
    scores: Tensor  # (N, L) behind them, in the units of cosines
    labels: tuple[str, ...]  # (N,) the best one, or "none of these"; of several, the likeliest
    confidences: Tensor  # (N,) the probability of that label; NaN where it has none (see below)
    abstained: Tensor  # (N,) whether it is not sure enough to answer
    sets: tuple[tuple[str, ...], ...] = ()  # (N,) the labels that may be right; of several: given
    nodes: tuple[str, ...] = ()  # (N,) the deepest sure node of a tree; "" where it abstains
    node_chances: tuple[float, ...] = ()  # (N,) the probability of that node; NaN where it has none

    def __len__(self) -> int:
        return len(self.labels)

    def answer(self, row: int) -> tuple[str, float | None]:
        """What is said about an image, and how sure it is; None where that has no probability.

        It is the node of a tree, where nodes are answered, and what it would be where it abstains.
        """
        name, sure = self.labels[row], float(self.confidences[row])
        if self.nodes and self.nodes[row]:
            name, sure = self.nodes[row], self.node_chances[row]
        return name, None if math.isnan(sure) else sure


def answer_one(
    probabilities: Tensor,
    scores: Tensor,
    names: tuple[str, ...],
    decisions: Decisions,
    tree: LabelTree | None = None,
    sure: float | None = None,
) -> Predictions:
    """One label for each image.

    Args:
        probabilities: (N, L).
        scores: (N, L).
        names: the labels.
        decisions: when to abstain.
        tree: of the labels.
        sure: the probability that a node of the tree must have.
    """
    top, best = add_none(probabilities).max(dim=1)
    turned = torch.zeros_like(best, dtype=torch.bool)  # to "none of these", by its score
    if decisions.known is not None:
        turned = ~decisions.known.accepts(scores.max(dim=1).values)
    none = (best == len(names)) | turned
    best = torch.where(none, len(names), best)
    confidences = torch.where(turned, torch.nan, top)
    abstained = torch.zeros_like(none)
    if decisions.answer is not None:
        abstained = ~decisions.answer.accepts(top)
    sets: tuple[tuple[str, ...], ...] = ()
    if decisions.sets is not None:
        sets = _name_sets(decisions.sets.contains(probabilities), names)
    nodes: tuple[str, ...] = ()
    node_chances: tuple[float, ...] = ()
    if tree is not None and sure is not None:
        places = torch.where(none | abstained, STOP, tree.deepest(probabilities, sure))
        nodes, node_chances = _name_nodes(tree, probabilities, places)
        abstained |= (places == STOP) & ~none
    shown = (*names, NONE_OF_THESE)
    labels = tuple(shown[place] for place in best.tolist())
    return Predictions(
        names, probabilities, scores, labels, confidences, abstained, sets, nodes, node_chances
    )


def answer_several(
    shares: Tensor, scores: Tensor, names: tuple[str, ...], decisions: Decisions
) -> Predictions:
    """Any number of labels for each image; without thresholds, those that are likelier than not.

    Args:
        shares: (N, L) the probability of each label by itself.
        scores: (N, L).
        names: the labels.
        decisions: the threshold of each label.
    """
    if decisions.labels:
        columns = zip(decisions.labels, scores.T, strict=True)
        given = torch.stack([one.accepts(column) for one, column in columns], dim=1)
    else:
        given = shares >= 0.5
    sure, best = shares.masked_fill(~given, -1).max(dim=1)  # of those that are given
    nothing = ~given.any(dim=1)
    confidences = torch.where(nothing, torch.nan, sure)
    labels = tuple(
        NONE_OF_THESE if empty else names[place]
        for place, empty in zip(best.tolist(), nothing.tolist(), strict=True)
    )
    sets = _name_sets(given, names)
    return Predictions(names, shares, scores, labels, confidences, torch.zeros_like(nothing), sets)


def _name_nodes(
    tree: LabelTree, probabilities: Tensor, places: Tensor
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The nodes at `places` and their probabilities; "" and NaN for `STOP`."""
    found = places != STOP
    chances = tree.node_probabilities(probabilities.double())
    own = chances.gather(1, places.where(found, 0)[:, None])[:, 0]
    names = ("" if place == STOP else tree.names[place] for place in places.tolist())
    return tuple(names), tuple(own.where(found, torch.nan).tolist())


def _name_sets(inside: Tensor, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(name for name, held in zip(names, row, strict=True) if held)
        for row in inside.tolist()
    )
