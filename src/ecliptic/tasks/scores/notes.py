"""The sentences that go with scores: what a reader of the numbers should know.

N values, each of a row or of a group of rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecliptic.scoring import FEWEST_UNITS
from ecliptic.tasks.scores.metrics import Metric

FEW = 10  # values; below, the interval is only rough, and below `FEWEST_UNITS` there is none


@dataclass(frozen=True)
class ScoredRun:
    """What was scored, and by what."""

    metric: Metric
    prefix: str  # of every caption
    model: str  # its name; "" if unknown
    space: str  # the fingerprint of its vectors
    rows: int  # with a score
    units: int  # that are independent: the rows, or their groups or captions
    different: int  # rows
    rejected: int  # rows without one
    cut: int  # rows with a text that was cut
    cut_shown: tuple[str, ...] = ()  # what the first of them lost, for people
    stored: bool = False  # vectors, whose captions are not known

    @property
    def noun(self) -> str:
        """What the units are."""
        if self.metric.by_prompt:
            return "caption"
        return "row" if self.units == self.rows else "group"

    def show_rows(self, noun: str = "row") -> str:
        """For people: "20 rows", "20 rows in 4 groups", "20 rows; 2 rows were rejected"."""
        shown = count_things(self.rows, noun)
        if self.metric.by_prompt:
            shown = count_things(self.units, "caption")
        elif self.noun == "group":
            shown += f" in {count_things(self.units, 'group')}"
        if not self.rejected:
            return shown
        be = "was" if self.rejected == 1 else "were"
        return f"{shown}; {count_things(self.rejected, 'row')} {be} rejected"


def count_things(number: int, noun: str) -> str:
    """A number of things: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def note_run(run: ScoredRun) -> list[str]:
    """About the model and the rows."""
    metric, notes = run.metric, list[str]()
    if run.units < FEW:
        be, ask = "is" if run.units == 1 else "are", f"score {FEW} {run.noun}s or more."
        why = (
            "too few for an interval"
            if run.units < FEWEST_UNITS
            else "few: the interval is only rough"
        )
        notes.append(f"{count_things(run.units, run.noun)} {be} {why}; {ask}")
    if run.different < run.rows and run.noun != "group":
        notes.append(
            f"only {run.different:,} of {run.rows:,} rows are different; a row that is there again "
            "tells nothing new and makes the interval too narrow, so leave it out."
        )
    if run.model and run.model != metric.known:
        notes.append(f"published with {metric.known}; scores of {run.model} are on another scale.")
    if run.stored and metric.prefix:
        notes.append(
            f"stored vectors are taken as they are, but {metric.name} begins each caption with "
            f"{metric.prefix!r}; without it scores differ, so write it before the texts that you "
            "embed."
        )
    if run.cut:
        have = "has" if run.cut == 1 else "have"
        more = "; ..." * (run.cut > len(run.cut_shown))
        notes.append(
            f"{count_things(run.cut, 'row')} {have} a text that is too long: words at the end are "
            f"dropped ({'; '.join(run.cut_shown)}{more}); the end-of-text mark stays."
        )
    return notes


def note_values(run: ScoredRun, values: NDArray[np.float64]) -> list[str]:
    """About (N,) values that are equal: those that are clamped, or rows that are there again."""
    notes = list[str]()
    found, counts = np.unique(values, return_counts=True)
    tied = int(counts.max())
    others = len(values) - tied
    if others == 0 and tied >= FEWEST_UNITS:
        notes.append(
            f"all {tied:,} {run.noun}s have one score, so the interval has no width, and does not "
            "tell how far the scores of others may be."
        )
    elif tied > 1 and others < FEW <= len(values):
        notes.append(
            f"{tied:,} of {len(values):,} {run.noun}s have one score, "
            f"{found[counts.argmax()]:.4f}, and only {others:,} another: the interval is only "
            "rough; score more."
        )
    if run.metric.by_prompt and len(values) == run.rows:
        notes.append("every caption has one image, which is always preferred; give more of each.")
    return notes
