"""The report on a classifier as plain data, and as text.

Shares are Wilson's intervals of 95 %.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ecliptic.scoring import Interval, Reliability, wilson
from ecliptic.settings import to_dict
from ecliptic.tasks.classification.decisions import show_share

SHARE = "{:.1%}"
_WIDEST = 12  # labels of a confusion matrix in a text
_HARD = 8  # images in a text


@dataclass(frozen=True)
class LabelRow:
    """How one label does."""

    label: str
    images: int  # that show it
    found: int  # of these, answered so
    given: int  # answers of this label, right or wrong
    average_precision: float | None = None

    @property
    def recall(self) -> Interval | None:
        """The share of its images that were found."""
        return wilson(self.found, self.images) if self.images else None

    @property
    def precision(self) -> Interval | None:
        """The share of its answers that are right."""
        return wilson(self.found, self.given) if self.given else None


@dataclass(frozen=True)
class HardImage:
    """An image whose truth was held to be unlikely."""

    place: int  # among the images, from 0
    name: str
    truth: str
    answer: str
    chance: float  # the probability of the truth
    confidence: float | None  # that of the answer; None where it has none


@dataclass(frozen=True)
class AnsweredShare:
    """What abstaining does."""

    answered: Interval  # the share of images with an answer
    accuracy: Interval | None  # of the answers; None without any
    leaves: Interval | None = None  # of a tree: the share of answered nodes that are a label


@dataclass(frozen=True)
class SetCoverage:
    """Whether conformal sets keep their promise."""

    promised: float
    coverage: Interval  # the share of sets that hold the right label
    size: float  # mean number of labels in a set
    empty: int  # sets without a label


@dataclass(frozen=True)
class UnknownDetection:
    """How well the best score tells images of the labels from images of none of them."""

    images: int  # of none of the labels
    has_probability: bool  # whether "none of these" ever has one
    auroc: float | None
    false_positive_rate: float | None  # at 95 % of the labels' images kept


@dataclass(frozen=True)
class ClassificationReport:
    """How a classifier did on labelled images."""

    images: int
    labels: tuple[str, ...]
    accuracy: Interval  # with several labels: of images whose labels are all right
    mean_per_class: Interval | None  # mean share of each label's images that were found
    log_loss: float
    brier: float
    reliability: Reliability
    rows: tuple[LabelRow, ...]
    hardest: tuple[HardImage, ...]  # the lowest probability of the truth first
    several: bool = False
    top5: Interval | None = None  # with 5 labels or more
    confusion: tuple[tuple[int, ...], ...] = ()  # row: truth, column: answer; "none" last
    answered: AnsweredShare | None = None
    sets: SetCoverage | None = None
    unknown: UnknownDetection | None = None
    mean_average_precision: float | None = None  # with several labels
    notes: tuple[str, ...] = ()  # what makes the numbers doubtful, for people
    promised: str = ""  # "recall" or "precision" of each of several labels

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON, with what is computed from the fields."""
        data: dict[str, Any] = to_dict(self)
        data["log_loss"] = None if math.isinf(self.log_loss) else self.log_loss
        data["expected_calibration_error"] = self.reliability.expected_error
        data["largest_calibration_error"] = self.reliability.largest_error
        for row, plain in zip(self.rows, data["rows"], strict=True):
            plain["recall"], plain["precision"] = to_dict(row.recall), to_dict(row.precision)
        return data

    def facts(self) -> dict[str, str]:
        """The numbers with their names, for people."""
        found = {"images": f"{self.images:,}"}
        found["all labels right" if self.several else "accuracy"] = self.accuracy.show(SHARE)
        if self.mean_per_class is not None:
            found["mean per class"] = self.mean_per_class.show(SHARE)
        if self.top5 is not None:
            found["in the top 5"] = self.top5.show(SHARE)
        if self.mean_average_precision is not None:
            found["mean average precision"] = f"{self.mean_average_precision:.3f}"
        if self.answered is not None:
            found["answered"] = self.answered.answered.show(SHARE)
            right = self.answered.accuracy
            found["accuracy of answers"] = right.show(SHARE) if right else "no answer"
            if self.answered.leaves is not None:
                found["answers that are a label"] = self.answered.leaves.show(SHARE)
        if self.sets is not None:
            found["right label in the set"] = (
                f"{self.sets.coverage.show(SHARE)}, promised {show_share(self.sets.promised)}"
            )
            found["labels in a set"] = f"{self.sets.size:.2f}, {self.sets.empty} sets are empty"
        if self.unknown is not None:
            found |= self._unknown_facts(self.unknown)
        found["calibration error (ECE)"] = f"{self.reliability.expected_error:.4f}"
        found["largest of a bin (MCE)"] = f"{self.reliability.largest_error:.4f}"
        found["Brier score"] = f"{self.brier:.4f}"
        found["log loss"] = self._say_log_loss()
        return found

    def _say_log_loss(self) -> str:
        if math.isfinite(self.log_loss):
            return f"{self.log_loss:.4f}"
        if self.unknown is not None and not self.unknown.has_probability:
            return (
                f'infinite: "none of these" is right for {self.unknown.images:,} images, and '
                "the classifier gives it no probability"
            )
        return "infinite: a right label has the probability 0"

    def _unknown_facts(self, unknown: UnknownDetection) -> dict[str, str]:
        found = {"none of these": f"{unknown.images:,} images"}
        if unknown.auroc is not None and unknown.false_positive_rate is not None:
            found["known against unknown"] = (
                f"AUROC {unknown.auroc:.3f}, FPR at 95 % TPR {unknown.false_positive_rate:.1%}"
            )
        return found

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield from (f"warning: {note}" for note in self.notes)
        facts = self.facts()
        width = max(map(len, facts))
        yield from (f"{name:<{width}}  {value}" for name, value in facts.items())
        yield ""
        yield "label: images, found, precision"
        for row in self.rows:
            recall = row.recall.show(SHARE) if row.recall else "no image"
            precision = row.precision.show(SHARE) if row.precision else "never given"
            yield f"  {row.label}: {row.images}, {recall}, {precision}"
        yield from self._reliability_lines()
        yield from self._confusion_lines()
        if self.hardest:
            yield ""
            yield "hardest images (probability of the truth)"
        for one in self.hardest[:_HARD]:
            yield f"  {one.chance:.1%}  {one.name}: {one.truth}, answered {one.answer}"

    def _reliability_lines(self) -> Iterator[str]:
        yield ""
        yield "confidence: share that is right, images"
        bins = self.reliability
        rows = zip(bins.confidences, bins.accuracies, bins.counts, strict=True)
        yield from (f"  {sure:.2f}: {right:.2f}, {count}" for sure, right, count in rows if count)

    def _confusion_lines(self) -> Iterator[str]:
        if not 0 < len(self.confusion) <= _WIDEST:
            return
        names = [*self.labels, "none of these"][: len(self.confusion)]
        width = max(map(len, names))
        yield ""
        yield "truth in rows, answers in columns of the same order"
        cell = max(len(str(n)) for row in self.confusion for n in row)
        for name, row in zip(names, self.confusion, strict=True):
            yield f"  {name:<{width}}  " + " ".join(f"{n:>{cell}}" for n in row)
