"""When a classifier answers, abstains, or says "none of these": thresholds that keep promises.

N images, L labels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.scoring import (
    ConformalSets,
    PrecisionThreshold,
    RecallThreshold,
    add_none,
    fit_sets,
    precision_threshold,
    recall_threshold,
)
from ecliptic.tasks.classification.settings import FitSettings, Promises

Threshold: TypeAlias = PrecisionThreshold | RecallThreshold


@dataclass(frozen=True)
class Decisions:
    """The thresholds of a fitted classifier; None where nothing was promised."""

    answer: PrecisionThreshold | RecallThreshold | None = None  # of the best probability
    sets: ConformalSets | None = None
    known: RecallThreshold | None = None  # of the best score; below is "none of these"
    labels: tuple[PrecisionThreshold | RecallThreshold, ...] = ()  # of each score, for several

    def lines(self, names: Sequence[str]) -> list[str]:
        """What is promised, for people; `names` are the labels."""
        found: list[str] = []
        if isinstance(self.answer, PrecisionThreshold):
            found.append(_say_accuracy(self.answer))
        elif self.answer is not None:
            found.append(
                f"answers at a probability of {self.answer.threshold:.4f} or more: at least "
                f"{show_share(self.answer.recall)} of such images, at a confidence of "
                f"{show_share(self.answer.confidence)}"
            )
        if self.sets is not None:
            each = " of each label" if len(self.sets.levels) > 1 else ""
            found.append(
                f"sets that hold the right label for {show_share(self.sets.coverage)} of images"
                f"{each}, from {self.sets.examples} examples"
            )
        if self.known is not None:
            found.append(
                f'"none of these" below a score of {self.known.threshold:.4f}: at least '
                f"{show_share(self.known.recall)} of images of the labels are kept, at a "
                f"confidence of {show_share(self.known.confidence)}"
            )
        pairs = zip(names, self.labels, strict=False)
        found += [f"{name}: {_say_label(threshold)}" for name, threshold in pairs]
        return found


def show_share(share: float) -> str:
    """A promised share in percent, with all its digits: what is promised is never rounded."""
    return f"{100 * share:.10g} %"


def decide(
    probabilities: Tensor,
    scores: Tensor,
    truth: Tensor,
    names: Sequence[str],
    settings: FitSettings,
) -> Decisions:
    """Thresholds for one label per image.

    Args:
        probabilities: (N, L) of images that did not take part in making them.
        scores: (N, L) behind the probabilities.
        truth: (N,) places of the right labels, or `NONE`.
        names: the labels, for errors.
        settings: what is wanted, and whether each label has a level of the sets.

    Raises:
        ConfigError: too few images, with their number.
    """
    promises = settings.promises
    known, confidence = truth >= 0, promises.confidence
    top = scores.max(dim=1).values
    sets = kept = None
    if promises.known is not None:
        with _naming("known"):
            kept = recall_threshold(top[known], promises.known, confidence)
    if promises.sets is not None:
        sets = fit_sets(
            probabilities[known],
            truth[known],
            promises.sets,
            per_label=settings.per_label,
            names=names,
        )
    sure, best = add_none(probabilities).max(dim=1)
    if kept is not None:
        best = best.where(kept.accepts(top), probabilities.shape[1])
    right = best == truth.where(known, probabilities.shape[1])
    answer: Threshold | None = None
    if promises.accuracy is not None:
        with _naming("accuracy"):
            answer = precision_threshold(sure, right, promises.accuracy, confidence)
    if promises.answered is not None:
        with _naming("answered"):
            answer = recall_threshold(sure, promises.answered, confidence)
    return Decisions(answer, sets, kept)


def decide_each(
    scores: Tensor, truth: Tensor, promises: Promises, names: Sequence[str]
) -> Decisions:
    """A threshold of the score of each label, for several labels per image.

    Args:
        scores: (N, L); nothing was fitted to make them.
        truth: (N, L) whether each label is right.
        promises: what is wanted.
        names: the labels, for errors.

    Raises:
        ConfigError: too few images of a label, with their number.
    """
    found: list[Threshold] = []
    confidence = promises.confidence
    for name, z, y in zip(names, scores.T, truth.T, strict=True):
        with _naming(f"label {name!r}"):
            if promises.precision is not None:
                found.append(precision_threshold(z, y, promises.precision, confidence))
            if promises.recall is not None:
                found.append(recall_threshold(z[y], promises.recall, confidence))
    return Decisions(labels=tuple(found))


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Let errors about thresholds begin with what they are for."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None


def _say_accuracy(answer: PrecisionThreshold) -> str:
    return (
        f"answers at a probability of {answer.threshold:.4f} or more: about "
        f"{show_share(answer.precision)} right at a confidence of {show_share(answer.confidence)}; "
        f"of the examples {answer.accepted} of {answer.total} were answered, {answer.right} of "
        "them right"
    )


def _say_label(threshold: Threshold) -> str:
    where = f"given at a score of {threshold.threshold:.4f} or more"
    if isinstance(threshold, RecallThreshold):
        return (
            f"{where}: at least {show_share(threshold.recall)} found, at a confidence of "
            f"{show_share(threshold.confidence)}, from {threshold.positives} images"
        )
    return (
        f"{where}: about {show_share(threshold.precision)} right at a prevalence of "
        f"{threshold.prevalence:.1%}; {threshold.recall:.1%} of {threshold.positives} images found"
    )
