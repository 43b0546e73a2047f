"""The numbers that a run of scores comes down to, and the sentences that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ecliptic.scoring import Interval, bootstrap
from ecliptic.tasks.scores.metrics import Metric, total

if TYPE_CHECKING:
    from ecliptic.tasks.scores.sheet import ScoreSheet

FEW = 10  # values; below, the interval is only rough
_DIGITS = 6  # of numbers in JSON


@dataclass(frozen=True)
class ScoredExample:
    """A row and its score."""

    row: dict[str, Any]
    score: float

    def to_json(self) -> dict[str, Any]:
        """The row with its score."""
        return self.row | {"score": round(self.score, _DIGITS)}


@dataclass(frozen=True)
class ScoreSummary:
    """Mean, median and interval of scores, with what one needs to compare them."""

    metric: Metric
    prefix: str
    model: str
    space: str
    n: int  # values that the mean is of
    score: float  # the mean, by the metric's convention
    median: float
    interval: Interval | None  # of the score; None for one value
    level: float
    rejected: int
    cut: int
    notes: tuple[str, ...]
    best: tuple[ScoredExample, ...]
    worst: tuple[ScoredExample, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        interval = self.interval
        ends = [interval.low, interval.high] if interval else None
        return {
            "metric": self.metric.name,
            "convention": self.metric.convention,
            "prefix": self.prefix,
            "model": self.model,
            "space": self.space,
            "n": self.n,
            "mean": round(self.score, _DIGITS),
            "median": round(self.median, _DIGITS),
            "interval": [round(end, _DIGITS) for end in ends] if ends else None,
            "level": self.level,
            "rejected": self.rejected,
            "cut": self.cut,
            "notes": list(self.notes),
            "best": [one.to_json() for one in self.best],
            "worst": [one.to_json() for one in self.worst],
        }

    def facts(self) -> dict[str, str]:
        """Names and values, for people."""
        shown = f"{self.score:.4f}"
        if self.interval:
            shown = f"{self.interval.show('{:.4f}')}, {self.level:.0%} bootstrap interval"
        things = "captions" if self.metric.by_prompt else "rows"
        found = {"metric": self.metric.name, "mean": shown, "median": f"{self.median:.4f}"}
        found |= {"n": f"{self.n:,} {things}", "convention": self.metric.convention}
        if self.prefix:
            found["prefix"] = repr(self.prefix)
        if self.model:
            found["model"] = self.model
        return found


def summarise(
    sheet: "ScoreSheet",
    values: Tensor,
    groups: Sequence[int] | None,
    best: tuple[ScoredExample, ...],
    worst: tuple[ScoredExample, ...],
    level: float,
    seed: int,
) -> ScoreSummary:
    """The summary of (N,) values; see `ScoreSheet.summary`."""
    metric, mean = sheet.metric, float(values.mean())
    units = len(values) if groups is None else len(set(groups))
    interval = None
    if units > 1:
        found = bootstrap(values, level=level, seed=seed, groups=groups)
        interval = Interval(*(total(metric, end) for end in (found.low, mean, found.high)))
    return ScoreSummary(
        metric=metric,
        prefix=sheet.prefix,
        model=sheet.model,
        space=sheet.space,
        n=len(values),
        score=total(metric, mean),
        median=float(np.median(values.numpy())),
        interval=interval,
        level=level,
        rejected=len(sheet.rejects),
        cut=sheet.cut,
        notes=tuple(_notes(sheet, values, units)),
        best=best,
        worst=worst,
    )


def _notes(sheet: "ScoreSheet", values: Tensor, units: int) -> list[str]:
    """What a reader of the numbers should know."""
    metric, notes = sheet.metric, list[str]()
    if units < FEW:
        one = "one alone has no interval" if units == 1 else "the interval is only rough"
        notes.append(f"{units} is few: {one}; score more rows.")
    if sheet.model and sheet.model != metric.known:
        notes.append(
            f"published with {metric.known}, here with {sheet.model}: scores of two models cannot "
            "be compared."
        )
    if sheet.cut:
        notes.append(f"{sheet.cut:,} rows have a text that was too long; its end was dropped.")
    if metric.by_prompt and len(values) == sheet.values().shape[0]:
        notes.append("every caption has one image, which is always preferred; give more of each.")
    return notes
