"""The numbers that a run of scores comes down to, and the sentences that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ecliptic.scoring import Interval, bootstrap
from ecliptic.tasks.scores.metrics import Metric, total

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
class ScoredRun:
    """What was scored, and by what."""

    metric: Metric
    prefix: str  # of every caption
    model: str  # its name; "" if unknown
    space: str  # the fingerprint of its vectors
    rows: int  # with a score
    rejected: int  # rows without one
    cut: int  # rows with a text that was cut


@dataclass(frozen=True)
class ScoreSummary:
    """Mean, median and interval of scores, with what one needs to compare them."""

    run: ScoredRun
    n: int  # values that the mean is of
    score: float  # the mean, by the metric's convention
    median: float
    interval: Interval | None  # of the score; None for one value
    level: float
    notes: tuple[str, ...]
    best: tuple[ScoredExample, ...]
    worst: tuple[ScoredExample, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        interval = self.interval
        ends = [interval.low, interval.high] if interval else None
        return {
            "metric": self.run.metric.name,
            "convention": self.run.metric.convention,
            "prefix": self.run.prefix,
            "model": self.run.model,
            "space": self.run.space,
            "n": self.n,
            "mean": round(self.score, _DIGITS),
            "median": round(self.median, _DIGITS),
            "interval": [round(end, _DIGITS) for end in ends] if ends else None,
            "level": self.level,
            "rejected": self.run.rejected,
            "cut": self.run.cut,
            "notes": list(self.notes),
            "best": [one.to_json() for one in self.best],
            "worst": [one.to_json() for one in self.worst],
        }

    def facts(self) -> dict[str, str]:
        """Names and values, for people."""
        shown = f"{self.score:.4f}"
        if self.interval:
            shown = f"{self.interval.show('{:.4f}')}, {self.level:.0%} bootstrap interval"
        metric = self.run.metric
        things = "captions" if metric.by_prompt else "rows"
        found = {"metric": metric.name, "mean": shown, "median": f"{self.median:.4f}"}
        found |= {"n": f"{self.n:,} {things}", "convention": metric.convention}
        if self.run.prefix:
            found["prefix"] = repr(self.run.prefix)
        if self.run.model:
            found["model"] = self.run.model
        return found


def summarise(
    run: ScoredRun,
    values: Tensor,
    groups: Sequence[int] | None,
    examples: tuple[tuple[ScoredExample, ...], tuple[ScoredExample, ...]],
    level: float,
    seed: int,
) -> ScoreSummary:
    """The summary of (N,) values; `examples` are the best and the worst rows."""
    metric, mean = run.metric, float(values.mean())
    units = len(values) if groups is None else len(set(groups))
    interval = None
    if units > 1:
        found = bootstrap(values, level=level, seed=seed, groups=groups)
        interval = Interval(*(total(metric, end) for end in (found.low, mean, found.high)))
    return ScoreSummary(
        run=run,
        n=len(values),
        score=total(metric, mean),
        median=float(np.median(values.numpy())),
        interval=interval,
        level=level,
        notes=tuple(_notes(run, len(values), units)),
        best=examples[0],
        worst=examples[1],
    )


def _notes(run: ScoredRun, values: int, units: int) -> list[str]:
    """What a reader of the numbers should know."""
    metric, notes = run.metric, list[str]()
    if units < FEW:
        one = "one alone has no interval" if units == 1 else "the interval is only rough"
        notes.append(f"{units} is few: {one}; score more rows.")
    if run.model and run.model != metric.known:
        notes.append(f"published with {metric.known}; scores of {run.model} are on another scale.")
    if run.cut:
        notes.append(f"{run.cut:,} rows have a text that was too long; its end was dropped.")
    if metric.by_prompt and values == run.rows:
        notes.append("every caption has one image, which is always preferred; give more of each.")
    return notes
