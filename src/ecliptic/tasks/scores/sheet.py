"""All scores of one run: the values in memory, 8 bytes each, and what belongs to them on disk.

N scored rows, S systems.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.checks import check_count
from ecliptic.engine import Clip, Comparable, Rejects, Vectors
from ecliptic.errors import ConfigError, InputError, ShapeError
from ecliptic.inputs import ImageSource, describe
from ecliptic.scoring import PairedComparison, compare_pairs, softmax_in_groups
from ecliptic.tasks.scores.metrics import Metric, RowVectors, find_metric, total
from ecliptic.tasks.scores.notes import ScoredRun, note_run
from ecliptic.tasks.scores.rows import ScoreRow
from ecliptic.tasks.scores.scorer import RowScorer, ScoredBatch
from ecliptic.tasks.scores.spool import RowSpool
from ecliptic.tasks.scores.summary import ScoredExample, ScoreSummary, summarise

CUT_SHOWN, CUT_LENGTH = 3, 40  # texts whose dropped end is named, and characters of it
_VECTORS = 4096  # rows of stored vectors that are scored at once


@dataclass
class ScoreSheet:
    """The scores of rows, made by `score_rows`."""

    metric: Metric
    prefix: str = ""
    model: str = ""  # its name
    space: str = ""  # the fingerprint of its vectors
    rejects: Rejects = field(default_factory=Rejects)
    cut: int = 0  # rows with a text that was cut
    cut_shown: list[str] = field(default_factory=list)  # a row, and what was dropped
    spool: RowSpool = field(default_factory=RowSpool)
    parts: list[Tensor] = field(default_factory=list)  # (n, S) each
    groups: list[int] = field(default_factory=list)  # numbers of the groups of all rows, if given
    prompts: list[int] = field(default_factory=list)  # of the captions, if they are shared
    names: dict[str, int] = field(default_factory=dict, repr=False)  # of groups and captions
    complete: int = 0  # rows of which everything is here; Ctrl-C may leave one batch half done
    stored: bool = False  # scores of stored vectors
    _codes: "array[int]" = field(
        default_factory=lambda: array("q"), repr=False
    )  # equal rows, equal

    def values(self) -> Tensor:
        """(N, S) float64, one column for each system."""
        values = torch.cat(self.parts) if self.parts else torch.empty(0, 1, dtype=torch.float64)
        values = values[: self.complete]
        if self.metric.by_prompt:
            prompts = self.prompts[: self.complete]
            return softmax_in_groups(values[:, 0], prompts)[:, None]
        return values

    def rows(self) -> Iterator[dict[str, Any]]:
        """What each score belongs to, with the score or scores, in order."""
        names = self.columns()[-self._systems() :]
        spooled = islice(self.spool, self.complete)
        for row, own in zip(spooled, self.values().tolist(), strict=True):
            yield row | dict(zip(names, own, strict=True))

    def columns(self) -> tuple[str, ...]:
        """The names of what `rows` gives."""
        scores = ("score",) if self._systems() == 1 else ("first_score", "second_score")
        references = ("references",) if self.metric.references else ()
        group = ("group",) if self.groups else ()
        return ("row", *self._images(), *self.metric.texts, *references, *group, *scores)

    def _systems(self) -> int:
        return self.parts[0].shape[1] if self.parts else 1

    def _images(self) -> tuple[str, ...]:
        return self.metric.images if self._systems() == 1 else ("first", "second")

    def add(self, batch: ScoredBatch) -> None:
        """Add the scores of a batch."""
        self.parts.append(batch.values)
        self.spool.add(self._describe(row) for row in batch.rows)
        for row in batch.rows:
            if row.group:
                self.groups.append(self.names.setdefault(row.group, len(self.names)))
            if self.metric.by_prompt:
                self.prompts.append(self.names.setdefault(row.texts[0], len(self.names)))
            self._codes.append(_code(row, len(self._codes)))
        for place, row, error in batch.rejected:
            labels = ", ".join(label for label in row.labels if label != row.name)
            name = f"{row.name} ({labels})" if labels else row.name
            self.rejects.add(place, name, error)
        self.cut += len(batch.cut)
        room = CUT_SHOWN - len(self.cut_shown)
        for name, find in batch.cut[: max(room, 0)]:
            self.cut_shown.append(f"{name} loses {find()[:CUT_LENGTH].strip()!r}")
        self.complete += len(batch.rows)

    def _describe(self, row: ScoreRow) -> dict[str, Any]:
        found: dict[str, Any] = {"row": row.name}
        found |= zip(self._images(), row.labels, strict=True)
        found |= zip(self.metric.texts, row.texts, strict=True)
        if row.references:
            found["references"] = list(row.references)
        return found | ({"group": row.group} if row.group else {})

    def summary(self, examples: int = 3, level: float = 0.95, seed: int = 0) -> ScoreSummary:
        """Mean, median, interval, and the worst and best rows.

        Args:
            examples: how many rows of each end.
            level: of the interval.
            seed: of its resamples.

        Raises:
            InputError: no row has a score.
            ConfigError: scores of two systems; use `comparison`.
        """
        values = self._checked(systems=1)[:, 0]
        counted, groups = values, self._groups()
        if self.metric.by_prompt:
            counted = self._best_of_prompts(values)
        return summarise(self.run(), counted, groups, self.extremes(examples), level, seed)

    def comparison(self, level: float = 0.95, seed: int = 0) -> PairedComparison:
        """The two systems, row by row.

        Where a metric clamps the mean, those of the systems are clamped, and their difference is of
        the means before that.

        Raises:
            InputError: no row has both scores.
            ConfigError: scores of one system; or fewer than 2 rows.
        """
        values = self._checked(systems=2)
        found = compare_pairs(values[:, 0], values[:, 1], level, seed, self._groups())
        first, second = self.means()
        span = self.metric.most - self.metric.least
        difference = found.difference.within(-span, span)
        return replace(found, first=first, second=second, difference=difference)

    def comparison_notes(self) -> tuple[str, ...]:
        """What a reader of the comparison should know."""
        notes = note_run(self.run())
        if (
            self.metric.floor is not None
            and min(self.values().mean(0).tolist()) < self.metric.floor
        ):
            notes.append(
                f"{self.metric.name} clamps a mean at {self.metric.floor:g}; the difference, its "
                "interval and the test are of the means before that."
            )
        return tuple(notes)

    def means(self) -> list[float]:
        """The score of each system: the mean, by the metric's convention."""
        return [total(self.metric, mean) for mean in self.values().mean(dim=0).tolist()]

    def run(self) -> ScoredRun:
        """What was scored, and by what."""
        units = self.complete
        if self.groups or self.metric.by_prompt:
            units = len(set((self.prompts or self.groups)[: self.complete]))
        return ScoredRun(
            self.metric,
            self.prefix,
            self.model,
            self.space,
            rows=self.complete,
            units=units,
            different=self.complete if self.stored else len(set(self._codes[: self.complete])),
            rejected=len(self.rejects),
            cut=self.cut,
            cut_shown=tuple(self.cut_shown),
            stored=self.stored,
        )

    def _groups(self) -> list[int] | None:
        return self.groups[: self.complete] or None

    def _checked(self, systems: int) -> Tensor:
        """(N, S) values, of so many systems."""
        values = self.values()
        if not len(values):
            raise InputError("none of the items could be used.")
        if values.shape[1] != systems:
            has, call = ("two systems", "comparison") if systems == 1 else ("one system", "summary")
            raise ConfigError(f"there are scores of {has} here; use `{call}`.")
        return values

    def _best_of_prompts(self, values: Tensor) -> Tensor:
        numbers = torch.tensor(self.prompts[: self.complete])
        best = torch.zeros(int(numbers.max()) + 1, dtype=values.dtype)
        best.scatter_reduce_(0, numbers, values, "amax")
        return best[torch.unique(numbers)]

    def extremes(self, count: int) -> tuple[tuple[ScoredExample, ...], tuple[ScoredExample, ...]]:
        """The best and the worst rows; of two systems, those by which the first leads and trails.

        Equal ones are in the order of the rows. No row is on both sides, so of few rows there are
        fewer than `count`.
        """
        count = check_count("examples", count, 0)
        values = self.values()
        values = values[:, 0] - values[:, 1] if values.shape[1] == 2 else values[:, 0]
        half = (len(values) + 1) // 2
        best = values.argsort(descending=True, stable=True)[: min(count, half)].tolist()
        taken, ascending = set(best), values.argsort(stable=True)[: 2 * count].tolist()
        worst = [i for i in ascending if i not in taken][:count]
        wanted, numbers = {*best, *worst}, values.tolist()
        found = {i: row for i, row in enumerate(self.spool) if i in wanted}
        return (
            tuple(ScoredExample(found[i], numbers[i]) for i in best),
            tuple(ScoredExample(found[i], numbers[i]) for i in worst),
        )


def _code(row: ScoreRow, place: int) -> int:
    """A number that is the same for equal rows; an image in memory equals no other."""
    named = all(isinstance(image, str | bytes | Path) for image in row.images)
    return hash((row.images if named else place, row.texts, row.references))


def start_sheet(scorer: RowScorer) -> ScoreSheet:
    """A sheet without rows, for what `scorer` scores."""
    card = scorer.clip.card
    return ScoreSheet(scorer.metric, scorer.beginning, card.name, card.space)


def score_rows(
    scorer: RowScorer,
    rows: Iterable[ScoreRow],
    advance: Callable[[int], object] = lambda _: None,
    sheet: ScoreSheet | None = None,
) -> ScoreSheet:
    """Score any number of rows; rows that cannot be used are in `rejects` of the result.

    Args:
        scorer: the model and the metric.
        rows: read lazily.
        advance: called with the number of rows done since the last call.
        sheet: of `start_sheet`, to which the rows are added; it keeps them when Ctrl-C ends this.
    """
    sheet = sheet or start_sheet(scorer)
    for batch in scorer.stream(rows):
        sheet.add(batch)
        advance(len(batch))
    return sheet


def score_pairs(
    clip: Clip,
    images: Sequence[ImageSource],
    captions: Sequence[str],
    metric: str = "clipscore",
    *,
    references: Sequence[Sequence[str]] | None = None,
    prefix: str | None = None,
) -> ScoreSheet:
    """Score images with their captions.

    Args:
        clip: the model.
        images: N paths, PIL images, arrays or bytes.
        captions: N texts; number i describes image i.
        metric: "clipscore", "refclipscore", "clip-t", "torchmetrics" or "preference".
        references: for "refclipscore", N lists of captions of people.
        prefix: before every caption and reference; None is that of the metric.

    Raises:
        ConfigError: an unknown metric, or one that needs other inputs.
        ShapeError: not as many captions, or references, as images.
    """
    chosen = find_metric(metric)
    if chosen.images != ("image",) or chosen.texts != ("caption",):
        raise ConfigError(
            f"the score {metric} needs {', '.join(chosen.columns)} in each row; make `ScoreRow`s, "
            "and call `score_rows`."
        )
    if chosen.references != (references is not None):
        raise ConfigError(
            f"the score {metric} {'needs references' if chosen.references else 'has none'}; "
            f"{'pass' if chosen.references else 'leave out'} references."
        )
    given = [references] if references is not None else []
    if any(len(some) != len(images) for some in (captions, *given)):
        raise ShapeError(f"{len(images)} images need as many captions, and references if any.")
    rows = (
        ScoreRow(
            f"row {i}",
            (image,),
            (captions[i],),
            () if references is None else tuple(references[i]),
            (describe(image),),
        )
        for i, image in enumerate(images)
    )
    return score_rows(RowScorer(clip, chosen, prefix=prefix), rows)


def score_vectors(images: Comparable, texts: Comparable, metric: str = "clip-t") -> ScoreSheet:
    """Score vectors of images with those of their captions, row by row; no model is needed.

    Args:
        images: (N, E) vectors, or stored ones.
        texts: (N, E); row i describes image i. They are taken as they are: what a metric writes
            before captions must be in the texts that were embedded.
        metric: "clipscore", "clip-t" or "torchmetrics".

    Raises:
        ConfigError: a metric that needs more than two vectors in a row.
        ShapeError: vectors of two shapes.
        SpaceMismatchError: stored vectors of two spaces.
        NumericalError: NaN or infinity in a row.
    """
    chosen = find_metric(metric)
    if chosen.columns != ("image", "caption") or chosen.by_prompt:
        raise ConfigError(
            f"the score {metric} needs more than a vector of an image and of a caption; give "
            "images and captions, or choose clipscore, clip-t or torchmetrics."
        )
    stored = images if isinstance(images, Vectors) else None
    sheet = ScoreSheet(chosen, model=stored.model if stored else "", stored=True)
    sheet.space = stored.space if stored else ""
    sides: list[Any] = [images, texts]
    values = chosen.score(RowVectors(sides[:1], sides[1:]))
    names = [one.ids if isinstance(one, Vectors) else None for one in (images, texts)]
    for start in range(0, len(values), _VECTORS):
        block = values[start : start + _VECTORS]
        sheet.parts.append(block[:, None])
        sheet.spool.add(
            {"row": f"row {i}"}
            | {
                what: own[i]
                for what, own in zip(("image", "caption"), names, strict=True)
                if own is not None
            }
            for i in range(start, start + len(block))
        )
        sheet.complete += len(block)
    return sheet
