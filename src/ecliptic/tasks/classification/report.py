"""The report on a classifier as plain data, and as text.

Shares are Wilson's intervals of 95 %.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ecliptic.scoring import NONE_OF_THESE, Interval, Reliability, wilson
from ecliptic.settings import to_dict
from ecliptic.tasks.classification.decisions import show_share

SHARE = "{:.1%}"
FEWEST_OF_BIN = 10  # images of a bin of confidences that says something by itself
_WIDEST = 12  # labels of a confusion matrix in a text
_COLUMNS = 80  # of a terminal
_HARD = 8  # images in a text


def say_answer(name: str, probability: float | None, *, abstained: bool) -> str:
    """An answer with its probability, if it has one: "food 90.4%", "abstained (food 65.6%)"."""
    said = name if probability is None else f"{name} {SHARE.format(probability)}"
    return f"abstained ({said})" if abstained else said


@dataclass(frozen=True)
class LabelRow:
    """How one label does."""

    label: str
    images: int  # that show it
    found: int  # of these, the ones it is the best label of, or is given to
    given: int  # images it is the best label of, or is given to, right or wrong
    average_precision: float | None = None
    answered: int | None = None  # of those given, not abstained from; None without abstentions
    right: int | None = None  # of those answered

    @property
    def recall(self) -> Interval | None:
        """The share of its images that were found."""
        return wilson(self.found, self.images) if self.images else None

    @property
    def precision(self) -> Interval | None:
        """The share of its answers that are right; an image that is abstained from has none."""
        right, count = self.found, self.answers
        if self.right is not None:
            right = self.right
        return wilson(right, count) if count else None

    @property
    def answers(self) -> int:
        """How often it is the answer."""
        return self.given if self.answered is None else self.answered


@dataclass(frozen=True)
class HardImage:
    """An image whose truth was held to be unlikely."""

    place: int  # among the images, from 0
    name: str
    truth: str
    answer: str
    chance: float  # the probability of the truth
    confidence: float | None  # that of the answer; None where it has none
    abstained: bool = False
    worst: str = ""  # of several labels, the one that was judged worst; `chance` is about it
    in_truth: bool = True  # whether that label is right

    @property
    def mistake(self) -> str:
        """The label that was judged worst, with its probability: "food 93.8%, not in the truth"."""
        if self.in_truth:
            return f"{self.worst} {SHARE.format(self.chance)}, in the truth"
        return f"{self.worst} {SHARE.format(1 - self.chance)}, not in the truth"

    @property
    def said(self) -> str:
        """The answer with its probability, or that it abstains."""
        return say_answer(self.answer, self.confidence, abstained=self.abstained)


@dataclass(frozen=True)
class AnsweredShare:
    """What abstaining does."""

    answered: Interval  # the share of images with an answer
    accuracy: Interval | None  # of the answers; None without any
    leaves: Interval | None = None  # of a tree: the share of answered nodes that are a label
    promised_answered: float | None = None
    promised_accuracy: float | None = None


@dataclass(frozen=True)
class KeptShare:
    """Whether images of the labels are kept from "none of these" as promised."""

    promised: float
    kept: Interval  # the share of images of the labels whose best score is high enough


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
    top5: Interval | None = None  # with more than 5 labels
    confusion: tuple[tuple[int, ...], ...] = ()  # row: truth, column: answer; "none" last
    answered: AnsweredShare | None = None
    sets: SetCoverage | None = None
    kept: KeptShare | None = None
    unknown: UnknownDetection | None = None
    mean_average_precision: float | None = None  # with several labels
    notes: tuple[str, ...] = ()  # what makes the numbers doubtful, for people
    promised: tuple[str, float] | None = None  # "recall" or "precision" of each of several labels

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON, with what is computed from the fields."""
        data: dict[str, Any] = to_dict(self)
        data["log_loss"] = None if math.isinf(self.log_loss) else self.log_loss
        data["expected_calibration_error"] = self.reliability.expected_error
        data["largest_calibration_error"] = self.reliability.largest_error_of(FEWEST_OF_BIN)
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
            found["mean average precision"] = SHARE.format(self.mean_average_precision)
        found |= self._promise_facts()
        if self.unknown is not None:
            found |= self._unknown_facts(self.unknown)
        found["calibration error (ECE)"] = SHARE.format(self.reliability.expected_error)
        if (largest := self.reliability.largest_error_of(FEWEST_OF_BIN)) is not None:
            found["largest of a bin (MCE)"] = SHARE.format(largest)
        found["Brier score"] = f"{self.brier:.4f}"
        found["log loss"] = self._say_log_loss()
        return found

    def _promise_facts(self) -> dict[str, str]:
        """What was promised beside what was measured."""
        found: dict[str, str] = {}
        if answered := self.answered:
            found["answered"] = _beside(answered.answered, answered.promised_answered)
            found["accuracy of answers"] = _beside(answered.accuracy, answered.promised_accuracy)
            if answered.leaves is not None:
                found["answers that are a label"] = answered.leaves.show(SHARE)
        if self.sets is not None:
            found["right label in the set"] = _beside(self.sets.coverage, self.sets.promised)
            found["labels in a set"] = f"{self.sets.size:.2f}, {self.sets.empty} sets are empty"
        if self.kept is not None:
            found['kept from "none of these"'] = _beside(self.kept.kept, self.kept.promised)
        if self.promised is not None:
            name, share = self.promised
            shares = ((getattr(row, name), row.label) for row in self.rows)
            known = [(one, label) for one, label in shares if one is not None]
            if known:
                least, label = min(known, key=lambda pair: pair[0].value)
                found[f"lowest {name} of a label"] = f"{label} {_beside(least, share)}"
        return found

    def _say_log_loss(self) -> str:
        if math.isfinite(self.log_loss):
            return f"{self.log_loss:.4f}"
        if self.unknown is not None and not self.unknown.has_probability:
            return f'infinite: "{NONE_OF_THESE}" has no probability'
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
        yield from _align(_LABEL_HEADS, map(_label_cells, self.rows))
        yield from self._reliability_lines()
        yield from self._confusion_lines()
        yield from self._hardest_lines()

    def _reliability_lines(self) -> Iterator[str]:
        yield ""
        bins = self.reliability
        rows = (
            (SHARE.format(sure), SHARE.format(right), f"{count:,}")
            for sure, right, count in zip(
                bins.confidences, bins.accuracies, bins.counts, strict=True
            )
            if count
        )
        yield from _align(("confidence ", "right ", "images "), rows)

    def _confusion_lines(self) -> Iterator[str]:
        if not 0 < len(self.confusion) <= _WIDEST:
            return
        names = [*self.labels, NONE_OF_THESE][: len(self.confusion)]
        cells = [[f"{n:,}" for n in row] for row in self.confusion]
        table = list(_align(("", *(f"{name} " for name in names)), _beside_names(names, cells)))
        if max(map(len, table)) > _COLUMNS:
            numbers = [f"{n}" for n in range(1, len(names) + 1)]
            names = [f"{n} {name}" for n, name in zip(numbers, names, strict=True)]
            table = list(_align(("", *(f"{n} " for n in numbers)), _beside_names(names, cells)))
        yield from ("", "truth in rows, best labels in columns", *table)

    def _hardest_lines(self) -> Iterator[str]:
        if not self.hardest:
            return
        shown = self.hardest[:_HARD]
        yield ""
        if self.several:
            yield "hardest images, with the label that was judged worst"
            rows = [(one.mistake, one.truth, one.answer, one.name) for one in shown]
            yield from _align(("judged worst", "truth", "answer", "image"), rows)
            return
        yield "hardest images, with the probability of the truth"
        cells = [(SHARE.format(one.chance), one.truth, one.said, one.name) for one in shown]
        yield from _align((" ", "truth", "answer", "image"), cells)


_LABEL_HEADS = ("label", "images ", "found", "answers ", "precision")


def _label_cells(row: LabelRow) -> tuple[str, ...]:
    recall = row.recall.show(SHARE) if row.recall else "no image"
    precision = row.precision.show(SHARE) if row.precision else "no answer"
    return row.label, f"{row.images:,}", recall, f"{row.answers:,}", precision


def _beside_names(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[name, *row] for name, row in zip(names, cells, strict=True)]


def _align(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; a column whose head ends in a space is aligned at the right."""
    cells = [[head.rstrip() for head in heads], *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        shown = (
            cell.rjust(width) if head.endswith(" ") else cell.ljust(width)
            for cell, width, head in zip(row, widths, heads, strict=True)
        )
        yield "  ".join(shown).rstrip()


def _beside(measured: Interval | None, promised: float | None) -> str:
    """A share, and what was promised about it."""
    shown = measured.show(SHARE) if measured else "no answer"
    return shown if promised is None else f"{shown}, promised {show_share(promised)}"
