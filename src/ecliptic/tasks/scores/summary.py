"""The numbers that a run of scores comes down to, and the sentences that go with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ecliptic.scoring import FEWEST_UNITS, Interval, bootstrap
from ecliptic.tasks.scores.metrics import total
from ecliptic.tasks.scores.notes import ScoredRun, note_run, note_values

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

    run: ScoredRun
    n: int  # values that the mean is of
    score: float  # the mean, by the metric's convention
    median: float
    interval: Interval | None  # of the score; None for too few values
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
            "units": self.run.units,
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
            shown = self.interval.show_at(self.level)
        metric = self.run.metric
        found = {"metric": metric.name, "mean": shown, "median": f"{self.median:.4f}"}
        found |= {"n": self.run.show_rows(), "convention": metric.convention}
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
    interval = None
    if run.units >= FEWEST_UNITS:
        found = bootstrap(values, level=level, seed=seed, groups=groups)
        found = found.within(metric.least, metric.most)
        interval = Interval(*(total(metric, end) for end in (found.low, mean, found.high)))
    own = values.numpy()
    if groups is not None:
        own = np.bincount(groups, weights=own) / np.bincount(groups)
    return ScoreSummary(
        run=run,
        n=len(values),
        score=total(metric, mean),
        median=float(np.median(values.numpy())),
        interval=interval,
        level=level,
        notes=(*note_run(run), *note_values(run, own)),
        best=examples[0],
        worst=examples[1],
    )
