"""Turns rows of images and texts into scores, a batch at a time; memory is bounded.

n rows of a batch, S systems whose images are scored side by side, E vector size.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, EclipticError, NumericalError, TextError
from ecliptic.inputs import TokenBatch
from ecliptic.tasks.scores.metrics import Metric, RowVectors, stack_roles
from ecliptic.tasks.scores.rows import ScoreRow

ROWS = 256  # of a batch


@dataclass(frozen=True)
class ScoredBatch:
    """The scores of some rows, in order, and the rows that have none."""

    rows: list[ScoreRow]  # n
    values: Tensor  # (n, S) float64
    rejected: list[tuple[int, ScoreRow, EclipticError]]  # place among all rows, from 0
    cut: list[tuple[str, Callable[[], str]]]  # row whose text was cut -> finds what was dropped

    def __len__(self) -> int:
        """The number of rows, with and without a score."""
        return len(self.rows) + len(self.rejected)


@dataclass(frozen=True)
class RowScorer:
    """Scores rows with a model.

    Args:
        clip: the model.
        metric: what to compute.
        systems: how many images a row has for each column of images, side by side.
        prefix: before every caption and reference; None is that of the metric.
        words: two texts for a metric that compares images with words; None are its own.
        batch_size: images at a time; None is that of `encode_image`.

    Raises:
        ConfigError: a prefix or words that the metric does not use, or two equal words.
    """

    clip: Clip
    metric: Metric
    systems: int = 1
    prefix: str | None = None
    words: tuple[str, str] | None = None
    batch_size: int | None = None
    _anchors: list[Tensor] = field(default_factory=list, init=False)  # (1, E) of each word

    def __post_init__(self) -> None:
        name = self.metric.name
        if self.prefix is not None and not self.metric.texts:
            raise ConfigError(f"the score {name} reads no captions, so it has no prefix.")
        if self.words is not None and self.metric.words is None:
            raise ConfigError(f"the score {name} compares with captions, so it takes no words.")
        if self.words is not None and self.words[0] == self.words[1]:
            raise ConfigError(
                f"the two words of {name} are equal, {self.words[0]!r}, so every score would be "
                "0.5; name two different ones."
            )

    @property
    def beginning(self) -> str:
        """What every caption begins with."""
        return self.metric.prefix if self.prefix is None else self.prefix

    def stream(self, rows: Iterable[ScoreRow]) -> Iterator[ScoredBatch]:
        """The scores of any number of rows, a batch at a time and in order."""
        words = self.words or self.metric.words
        if words and not self._anchors:
            self._anchors.extend(self.clip.encode_text(list(words))[:, None])
        source, start = iter(rows), 0
        while some := list(islice(source, ROWS)):
            yield self._score(some, start)
            start += len(some)

    def _score(self, rows: Sequence[ScoreRow], start: int) -> ScoredBatch:
        problems = {i: row.error for i, row in enumerate(rows) if row.error is not None}
        texts, cut = self._encode_texts(rows, problems)
        images = self._encode_images(rows, problems)
        kept = [i for i in range(len(rows)) if i not in problems]
        values = self._apply(kept, images, texts, problems)
        kept = [i for i in kept if i not in problems]
        return ScoredBatch(
            [rows[i] for i in kept],
            values,
            [(start + i, rows[i], error) for i, error in sorted(problems.items())],
            [(rows[i].name, find) for i, find in cut if i not in problems],
        )

    def _encode_texts(
        self, rows: Sequence[ScoreRow], problems: dict[int, EclipticError]
    ) -> tuple[dict[int, Tensor], list[tuple[int, Callable[[], str]]]]:
        """(k, E) of the k texts and references of each row, and the rows whose texts were cut."""
        texts = {i: self._texts_of(row) for i, row in enumerate(rows) if i not in problems}
        tokens = self._tokenize(texts, problems)
        counts = [len(own) for own in texts.values()]
        if not sum(counts):
            return {i: torch.empty(0, self.clip.card.embed) for i in texts}, []
        vectors = torch.split(self.clip.encode_text(tokens.ids), counts)
        owners = [i for i, own in texts.items() for _ in own]
        cut = {owners[place]: find for place, find in tokens.cut.items()}
        return dict(zip(texts, vectors, strict=True)), list(cut.items())

    def _texts_of(self, row: ScoreRow) -> list[str]:
        return [self.beginning + text for text in (*row.texts, *row.references)]

    def _tokenize(
        self, texts: dict[int, list[str]], problems: dict[int, EclipticError]
    ) -> TokenBatch:
        """The tokens of all texts; rows with a text that has none leave `texts`."""
        batch = self.clip.tokenizer.batch
        try:
            return batch([text for own in texts.values() for text in own], "truncate")
        except TextError:  # one of them: find out which
            for i, own in list(texts.items()):
                try:
                    batch(own, "truncate")
                except TextError as error:
                    problems[i] = error
                    del texts[i]
        return batch([text for own in texts.values() for text in own], "truncate")

    def _encode_images(
        self, rows: Sequence[ScoreRow], problems: dict[int, EclipticError]
    ) -> dict[tuple[int, int], Tensor]:
        """(E,) of each image, by its row and its place in the row."""
        places = [
            (i, place)
            for i, row in enumerate(rows)
            if i not in problems
            for place in range(len(row.images))
        ]
        sources = (rows[i].images[place] for i, place in places)
        found: dict[tuple[int, int], Tensor] = {}
        for part in self.clip.stream_image(sources, batch_size=self.batch_size, on_error="reject"):
            found |= {places[at]: v for at, v in zip(part.kept, part.vectors, strict=True)}
            for reject in part.rejected:
                problems.setdefault(places[reject.index][0], reject.error)
        return found

    def _apply(
        self,
        kept: Sequence[int],
        images: dict[tuple[int, int], Tensor],
        texts: dict[int, Tensor],
        problems: dict[int, EclipticError],
    ) -> Tensor:
        """(n, S) values; a row that has none by the metric's own formula becomes a problem."""
        if not kept:
            return torch.empty(0, self.systems, dtype=torch.float64)
        try:
            return self._values(kept, images, texts)
        except NumericalError as error:
            if len(kept) == 1:
                problems[kept[0]] = error
                return torch.empty(0, self.systems, dtype=torch.float64)
        return torch.cat([self._apply([i], images, texts, problems) for i in kept])

    def _values(
        self,
        kept: Sequence[int],
        images: dict[tuple[int, int], Tensor],
        texts: dict[int, Tensor],
    ) -> Tensor:
        roles, spoken = len(self.metric.images), len(self.metric.texts)
        flat = [images[i, place] for i in kept for place in range(self.systems * roles)]
        seen = stack_roles(torch.stack(flat), self.systems * roles)
        said = [torch.stack([texts[i][place] for i in kept]) for place in range(spoken)]
        references = [texts[i][spoken:] for i in kept]
        scale = float(self.clip.model.logit_scale.detach().exp())
        values = [
            self.metric.score(
                RowVectors(
                    seen[s * roles : (s + 1) * roles], said, references, self._anchors, scale
                )
            )
            for s in range(self.systems)
        ]
        return torch.stack(values, dim=1)
