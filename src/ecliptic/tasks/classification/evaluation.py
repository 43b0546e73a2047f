"""Judges a classifier on labelled images: how often it is right, and whether it knows.

Every share has an interval. N images, L labels.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ecliptic.scoring import (
    NONE,
    NONE_OF_THESE,
    Interval,
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
)
from ecliptic.tasks.classification.decisions import Decisions
from ecliptic.tasks.classification.predictions import Predictions
from ecliptic.tasks.classification.report import (
    AnsweredShare,
    ClassificationReport,
    HardImage,
    LabelRow,
    SetCoverage,
    UnknownDetection,
)

HARDEST = 24  # images that a report shows
TOP = 5
_RESAMPLES, _DRAWN, _FEWEST = 10_000, 4_000_000, 1_000  # of the bootstrap, and numbers it draws


def judge(
    found: Predictions,
    truth: Tensor,
    names: Sequence[str],
    decisions: Decisions,
    *,
    several: bool,
) -> ClassificationReport:
    """The report on predictions for images whose labels are known.

    Args:
        found: what was predicted for N images.
        truth: (N,) places of the right labels or `NONE`; with `several`, (N, L) bools.
        names: of the images.
        decisions: the promises behind the predictions.
        several: whether an image may have several labels.
    """
    return (_judge_several if several else _judge_one)(found, truth, names, decisions)


def mean_per_class_interval(hits: Sequence[int], counts: Sequence[int], seed: int = 0) -> Interval:
    """The mean accuracy of the classes that are present, and a stratified bootstrap interval.

    The images of each class are drawn again by themselves, which for counts of hits is a binomial
    draw with their measured share; 95 %.
    """
    present = [(hit, count) for hit, count in zip(hits, counts, strict=True) if count]
    right, total = np.array(present, dtype=np.int64).T
    resamples = max(_FEWEST, min(_RESAMPLES, _DRAWN // len(present)))
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(total, right / total, size=(resamples, len(total)))
    means = (drawn / total).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return Interval(low, float((right / total).mean()), high)


def _judge_one(
    found: Predictions, truth: Tensor, names: Sequence[str], decisions: Decisions
) -> ClassificationReport:
    p, count, n = found.probabilities, len(found.names), len(truth)
    known = truth != NONE
    places = {name: place for place, name in enumerate((*found.names, NONE_OF_THESE))}
    answers = torch.tensor([places[label] for label in found.labels])
    wanted = truth.where(known, count)
    right = (answers == wanted) & ~_tied(p, wanted)
    confidence = found.confidences
    sure, best = add_none(p).max(dim=1)
    rows = _label_rows(found.names, wanted, answers, right, p)
    top = None
    if count >= TOP and bool(known.any()):
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
        log_loss=log_loss(p, truth),
        brier=brier_score(p, truth),
        reliability=reliability_bins(sure, best == wanted),
        confusion=_confusion(wanted, answers, count),
        rows=rows,
        hardest=_hardest(found, chances_of(p, truth), wanted, confidence, names),
        answered=_answered(found, right) if decisions.answer or found.abstained.any() else None,
        sets=_judge_sets(found, truth, decisions),
        unknown=_judge_unknown(found, known) if not bool(known.all()) else None,
    )


def _judge_several(
    found: Predictions, truth: Tensor, names: Sequence[str], decisions: Decisions
) -> ClassificationReport:
    """The report for several labels per image; probabilities are judged pair by pair."""
    p, n = found.probabilities, len(truth)
    given = torch.tensor([[name in some for name in found.names] for some in found.sets])
    exact = (given == truth).all(dim=1)
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
    worst = torch.where(truth, p, 1 - p).min(dim=1).values  # the pair that was judged worst
    hard = worst.argsort(stable=True)[:HARDEST].tolist()
    return ClassificationReport(
        images=n,
        labels=found.names,
        several=True,
        accuracy=wilson(int(exact.sum()), n),
        mean_per_class=mean_per_class_interval(
            [row.found for row in rows], [row.images for row in rows]
        )
        if any(row.images for row in rows)
        else None,
        mean_average_precision=_number(mean_average_precision(p, truth)),
        log_loss=log_loss(pairs, flat),
        brier=brier_score(pairs, flat) / 2,
        reliability=reliability_bins(p.reshape(-1), flat.bool()),
        rows=rows,
        hardest=tuple(
            HardImage(
                place=place,
                name=names[place],
                truth=_join(found.names, truth[place]),
                answer=", ".join(found.sets[place]) or NONE_OF_THESE,
                chance=float(worst[place]),
                confidence=float(found.confidences[place]),
            )
            for place in hard
        ),
        promised="recall"
        if any(isinstance(one, RecallThreshold) for one in decisions.labels)
        else "precision"
        if decisions.labels
        else "",
    )


def _tied(probabilities: Tensor, wanted: Tensor) -> Tensor:
    """(N,) whether another label is exactly as likely as the right one, which counts as wrong."""
    rows = add_none(probabilities)
    own = rows.gather(1, wanted[:, None])
    return (rows == own).sum(dim=1) > 1


def _label_rows(
    names: Sequence[str], wanted: Tensor, answers: Tensor, right: Tensor, p: Tensor
) -> tuple[LabelRow, ...]:
    shown = [*names, NONE_OF_THESE] if bool((wanted == len(names)).any()) else list(names)
    rows = add_none(p)
    return tuple(
        LabelRow(
            label=name,
            images=int((wanted == place).sum()),
            found=int(right[wanted == place].sum()),
            given=int((answers == place).sum()),
            average_precision=_number(average_precision(rows[:, place], wanted == place)),
        )
        for place, name in enumerate(shown)
    )


def _confusion(wanted: Tensor, answers: Tensor, count: int) -> tuple[tuple[int, ...], ...]:
    """Counts with "none of these" last, where it is the truth or an answer."""
    size = count + 1 if bool(((wanted == count) | (answers == count)).any()) else count
    return tuple(tuple(row) for row in confusion_matrix(wanted, answers, size).tolist())


def _hardest(
    found: Predictions, chance: Tensor, wanted: Tensor, confidence: Tensor, names: Sequence[str]
) -> tuple[HardImage, ...]:
    """The images whose right label was given the lowest probability."""
    shown = (*found.names, NONE_OF_THESE)
    order = chance.argsort(stable=True)[:HARDEST].tolist()
    return tuple(
        HardImage(
            place=place,
            name=names[place],
            truth=shown[int(wanted[place])],
            answer=found.labels[place],
            chance=float(chance[place]),
            confidence=float(confidence[place]),
        )
        for place in order
    )


def _answered(found: Predictions, right: Tensor) -> AnsweredShare:
    answered = ~found.abstained
    count = int(answered.sum())
    hits = int(right[answered].sum())
    share = wilson(count, len(answered))
    return AnsweredShare(share, wilson(hits, count) if count else None)


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


def _judge_unknown(found: Predictions, known: Tensor) -> UnknownDetection:
    """How well the best score tells images of the labels from others."""
    best = found.scores.max(dim=1).values
    inside, outside = best[known], best[~known]
    return UnknownDetection(
        images=int((~known).sum()),
        auroc=_number(auroc(inside, outside)),
        false_positive_rate=_number(false_positive_rate(inside, outside)),
    )


def _join(names: Sequence[str], row: Tensor) -> str:
    right = [name for name, held in zip(names, row.tolist(), strict=True) if held]
    return ", ".join(right) or NONE_OF_THESE


def _number(value: float) -> float | None:
    """None for a measure that has no value, as JSON has no NaN."""
    return None if math.isnan(value) else value
