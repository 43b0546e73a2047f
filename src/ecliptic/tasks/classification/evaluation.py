"""Judges a classifier on labelled images: how often it is right, and whether it knows.

Every share has an interval. N images, L labels.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.scoring import (
    NONE,
    NONE_OF_THESE,
    Interval,
    LabelTree,
    PrecisionThreshold,
    RecallThreshold,
    add_none,
    auroc,
    average_precision,
    brier_score,
    chances_of,
    confusion_matrix,
    false_positive_rate,
    label_ranks,
    log_loss,
    mean_average_precision,
    reliability_bins,
    wilson,
    wilson_of_share,
)
from ecliptic.tasks.classification.decisions import Decisions
from ecliptic.tasks.classification.predictions import Predictions
from ecliptic.tasks.classification.report import (
    AnsweredShare,
    ClassificationReport,
    HardImage,
    KeptShare,
    LabelRow,
    SetCoverage,
    UnknownDetection,
)

HARDEST = 24  # images that a report shows
TOP = 5
_ROUNDING = 1e-12  # of a sum of probabilities


def judge(
    found: Predictions,
    truth: Tensor,
    names: Sequence[str],
    decisions: Decisions,
    tree: LabelTree | None = None,
    *,
    several: bool,
) -> ClassificationReport:
    """The report on predictions for images whose labels are known.

    Args:
        found: what was predicted for N images.
        truth: (N,) places of the right labels or `NONE`; with `several`, (N, L) bools.
        names: of the images.
        decisions: the promises behind the predictions.
        tree: of the labels, where nodes are answered.
        several: whether an image may have several labels.
    """
    if several:
        return _judge_several(found, truth, names, decisions)
    return _judge_one(found, truth, names, decisions, tree)


def mean_per_class_interval(hits: Sequence[int], counts: Sequence[int]) -> Interval:
    """The mean accuracy of the classes that are present, with an interval of 95 %.

    It is Wilson's interval for the number of images that a plain share with the same variance would
    have. The variance adds up that of each class, (h + 1/2) of (n + 1) right, so that classes
    without a mistake have one too. The images of each class are a sample of that class.

    Source: Korn & Graubard 1998, Survey Methodology 24 (the effective size of a sample).
    """
    present = [(hit, count) for hit, count in zip(hits, counts, strict=True) if count]
    mean = math.fsum(hit / count for hit, count in present) / len(present)
    rates = [(hit + 0.5) / (count + 1) for hit, count in present]
    rate = math.fsum(rates) / len(rates)
    sizes = (count for _, count in present)
    parts = (p * (1 - p) / count for p, count in zip(rates, sizes, strict=True))
    size = rate * (1 - rate) * len(present) ** 2 / math.fsum(parts)
    return wilson_of_share(mean, size)


def _judge_one(
    found: Predictions,
    truth: Tensor,
    names: Sequence[str],
    decisions: Decisions,
    tree: LabelTree | None,
) -> ClassificationReport:
    p, count, n = found.probabilities, len(found.names), len(truth)
    known = truth != NONE
    places = {name: place for place, name in enumerate((*found.names, NONE_OF_THESE))}
    answers = torch.tensor([places[label] for label in found.labels])
    wanted = truth.where(known, count)
    judged = ~found.confidences.isnan()  # the answer has a probability
    right = (answers == wanted) & ~(_tied(p, wanted) & judged)
    gives = _gives_label(found) if _may_abstain(found, decisions) else None
    rows = _label_rows(found, wanted, answers, right, gives)
    unknown = _judge_unknown(found, known) if not bool(known.all()) else None
    top = None
    if count > TOP and bool(known.any()):
        ranks = label_ranks(p[known], truth[known])
        top = wilson(int((ranks <= TOP).sum()), len(ranks))
    return ClassificationReport(
        images=n,
        labels=found.names,
        accuracy=wilson(int(right.sum()), n),
        mean_per_class=mean_per_class_interval(
            [row.found for row in rows], [row.images for row in rows]
        ),
        top5=top,
        log_loss=log_loss(p, truth) if unknown is None or unknown.has_probability else math.inf,
        brier=brier_score(p, truth),
        reliability=reliability_bins(found.confidences[judged], (answers == wanted)[judged]),
        confusion=_confusion(wanted, answers, count),
        rows=rows,
        hardest=_hardest(found, truth, right & ~judged, names),
        answered=_answered(found, truth, right, tree, decisions),
        sets=_judge_sets(found, truth, decisions),
        kept=_judge_kept(found, known, decisions),
        unknown=unknown,
    )


def _judge_several(
    found: Predictions, truth: Tensor, names: Sequence[str], decisions: Decisions
) -> ClassificationReport:
    """The report for several labels per image; probabilities are judged pair by pair."""
    p, n = found.probabilities, len(truth)
    given = torch.tensor([[name in some for name in found.names] for some in found.sets])
    pairs = torch.stack([1 - p.reshape(-1), p.reshape(-1)], dim=1)
    flat = truth.reshape(-1).long()
    rows = tuple(
        LabelRow(
            label=name,
            images=int(truth[:, place].sum()),
            found=int((truth & given)[:, place].sum()),
            given=int(given[:, place].sum()),
            average_precision=_number(average_precision(p[:, place], truth[:, place])),
        )
        for place, name in enumerate(found.names)
    )
    hits, counts = [row.found for row in rows], [row.images for row in rows]
    return ClassificationReport(
        images=n,
        labels=found.names,
        several=True,
        accuracy=wilson(int((given == truth).all(dim=1).sum()), n),
        mean_per_class=mean_per_class_interval(hits, counts) if any(counts) else None,
        mean_average_precision=_number(mean_average_precision(p, truth)),
        log_loss=log_loss(pairs, flat),
        brier=brier_score(pairs, flat) / 2,
        reliability=reliability_bins(p.reshape(-1), flat.bool()),
        rows=rows,
        hardest=_hardest_of_several(found, truth, names),
        promised=_name_promise(decisions),
    )


def _hardest_of_several(
    found: Predictions, truth: Tensor, names: Sequence[str]
) -> tuple[HardImage, ...]:
    """The images with the label that was judged worst."""
    p = found.probabilities
    least = torch.where(truth, p, 1 - p).min(dim=1)
    places = least.values.argsort(stable=True)[:HARDEST].tolist()
    return tuple(
        HardImage(
            place=place,
            name=names[place],
            truth=_join(found.names, truth[place]),
            answer=", ".join(found.sets[place]) or NONE_OF_THESE,
            chance=float(least.values[place]),
            confidence=_number(float(found.confidences[place])),
            worst=found.names[worst],
            in_truth=bool(truth[place, worst]),
        )
        for place, worst in zip(places, least.indices[places].tolist(), strict=True)
    )


def _name_promise(decisions: Decisions) -> tuple[str, float] | None:
    if not decisions.labels:
        return None
    one = decisions.labels[0]
    if isinstance(one, RecallThreshold):
        return "recall", one.recall
    return "precision", one.precision


def _tied(probabilities: Tensor, wanted: Tensor) -> Tensor:
    """(N,) whether another label is exactly as likely as the right one, which counts as wrong."""
    rows = add_none(probabilities)
    own = rows.gather(1, wanted[:, None])
    return (rows == own).sum(dim=1) > 1


def _may_abstain(found: Predictions, decisions: Decisions) -> bool:
    """Whether an image may get no answer, or a group of labels."""
    return bool(decisions.answer or found.nodes or found.abstained.any())


def _gives_label(found: Predictions) -> Tensor:
    """(N,) whether the best label is the answer: not abstained from, and no group of a tree."""
    gives = ~found.abstained
    for row, node in enumerate(found.nodes):
        gives[row] &= node in ("", found.labels[row])
    return gives


def _label_rows(
    found: Predictions, wanted: Tensor, answers: Tensor, right: Tensor, gives: Tensor | None
) -> tuple[LabelRow, ...]:
    count, rows = len(found.names), add_none(found.probabilities)
    shown = [*found.names, NONE_OF_THESE] if bool((wanted == count).any()) else found.names
    return tuple(
        LabelRow(
            label=name,
            images=int((wanted == place).sum()),
            found=int(right[wanted == place].sum()),
            given=int((answers == place).sum()),
            average_precision=_number(average_precision(rows[:, place], wanted == place)),
            answered=None if gives is None else int((gives & (answers == place)).sum()),
            right=None if gives is None else int((gives & right & (answers == place)).sum()),
        )
        for place, name in enumerate(shown)
    )


def _confusion(wanted: Tensor, answers: Tensor, count: int) -> tuple[tuple[int, ...], ...]:
    """Counts with "none of these" last, where it is the truth or an answer."""
    size = count + 1 if bool(((wanted == count) | (answers == count)).any()) else count
    return tuple(tuple(row) for row in confusion_matrix(wanted, answers, size).tolist())


def _hardest(
    found: Predictions, truth: Tensor, easy: Tensor, names: Sequence[str]
) -> tuple[HardImage, ...]:
    """The images whose right label was given the lowest probability, without the easy ones.

    Easy are right answers that have no probability.
    """
    shown, chance = (*found.names, NONE_OF_THESE), chances_of(found.probabilities, truth)
    order = chance.masked_fill(easy, math.inf).argsort(stable=True)
    said = [found.answer(row) for row in range(len(found))]
    return tuple(
        HardImage(
            place=place,
            name=names[place],
            truth=shown[int(truth[place])],  # NONE is -1, the last
            answer=said[place][0],
            chance=float(chance[place]),
            confidence=said[place][1],
            abstained=bool(found.abstained[place]),
        )
        for place in order[: len(order) - int(easy.sum())][:HARDEST].tolist()
    )


def _answered(
    found: Predictions,
    truth: Tensor,
    right: Tensor,
    tree: LabelTree | None,
    decisions: Decisions,
) -> AnsweredShare | None:
    """What was answered, and how right; None where every image gets an answer."""
    if not _may_abstain(found, decisions):
        return None
    answered, leaves = ~found.abstained, None
    if tree is not None and found.nodes:
        right = _right_nodes(found, truth, right, tree)
        given = [node for node in found.nodes if node]
        leaves = wilson(sum(map(tree.leaves.__contains__, given)), len(given)) if given else None
    count = int(answered.sum())
    hits = int(right[answered].sum())
    promise = decisions.answer
    return AnsweredShare(
        wilson(count, len(answered)),
        wilson(hits, count) if count else None,
        leaves,
        promise.recall if isinstance(promise, RecallThreshold) else None,
        promise.precision if isinstance(promise, PrecisionThreshold) else None,
    )


def _right_nodes(found: Predictions, truth: Tensor, right: Tensor, tree: LabelTree) -> Tensor:
    """(N,) whether the node of each image is its right label or above it."""
    good = right.clone()
    for row, (node, place) in enumerate(zip(found.nodes, truth.tolist(), strict=True)):
        if node:
            above = [tree.groups[group] for group in tree.paths[place]] if place != NONE else []
            good[row] = place != NONE and node in (tree.leaves[place], *above)
    return good


def _judge_sets(found: Predictions, truth: Tensor, decisions: Decisions) -> SetCoverage | None:
    if decisions.sets is None:
        return None
    known = [place for place, right in enumerate(truth.tolist()) if right != NONE]
    if not known:
        return None
    held = sum(found.names[int(truth[place])] in found.sets[place] for place in known)
    sizes = [len(found.sets[place]) for place in known]
    return SetCoverage(
        decisions.sets.coverage,
        wilson(held, len(known)),
        math.fsum(sizes) / len(sizes),
        sizes.count(0),
    )


def _judge_kept(found: Predictions, known: Tensor, decisions: Decisions) -> KeptShare | None:
    if decisions.known is None or not bool(known.any()):
        return None
    kept = decisions.known.accepts(found.scores.max(dim=1).values[known])
    return KeptShare(decisions.known.recall, wilson(int(kept.sum()), len(kept)))


def _judge_unknown(found: Predictions, known: Tensor) -> UnknownDetection:
    """How well the best score tells images of the labels from others."""
    best = found.scores.max(dim=1).values
    inside, outside = best[known], best[~known]
    left = add_none(found.probabilities)[:, -1]
    return UnknownDetection(
        images=int((~known).sum()),
        has_probability=bool((left > _ROUNDING).any()),
        auroc=_number(auroc(inside, outside)),
        false_positive_rate=_number(false_positive_rate(inside, outside)),
    )


def _join(names: Sequence[str], row: Tensor) -> str:
    right = [name for name, held in zip(names, row.tolist(), strict=True) if held]
    return ", ".join(right) or NONE_OF_THESE


def _number(value: float) -> float | None:
    """None for a measure that has no value, as JSON has no NaN."""
    return None if math.isnan(value) else value
