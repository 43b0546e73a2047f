"""An endless stream of training batches: a fixed share of each source, no concept twice.

B batch, S side.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.train.augment import augment
from ecliptic.train.captions import caption
from ecliptic.train.drawings import Drawings


@dataclass(frozen=True)
class Batch:
    """B drawings and their captions."""

    pixels: Tensor  # (B, 3, S, S) normalised
    tokens: Tensor  # (B, T), T of the longest caption
    lengths: Tensor  # (B,) tokens in use


class Stream:
    """Batches from several sets of drawings; the same seed gives the same batches."""

    def __init__(
        self,
        sources: dict[Drawings, int],
        image_spec: ImageSpec,
        tokenizer: Tokenizer,
        seed: int,
    ) -> None:
        side = image_spec.size
        self.sources = [
            (_Rounds(drawings, seed + i), drawings.at_size(side), count)
            for i, (drawings, count) in enumerate(sources.items())
        ]
        self.image_spec = image_spec
        self.tokenizer = tokenizer
        self.draw = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.mean = torch.tensor(image_spec.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(image_spec.std).view(1, 3, 1, 1)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            drawings, texts = [], []
            for rounds, source, count in self.sources:
                rows = rounds.take(count)
                drawings.append(source.rgba[rows])
                texts += [caption(source.concepts[int(source.concept[r])], self.draw) for r in rows]
            colours = augment(torch.cat(drawings), self.generator)
            tokens, lengths = tokenize(self.tokenizer, texts)
            yield Batch((colours - self.mean) / self.std, tokens, lengths)


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, cut to the longest text of the batch, and (B,) the lengths of the texts."""
    batch = tokenizer.batch(texts, overflow="truncate")
    ids = batch.ids[:, : batch.lengths.max()]
    return torch.from_numpy(ids), torch.from_numpy(batch.lengths)


class _Rounds:
    """Rounds through the concepts of a set, with a random drawing of each."""

    def __init__(self, drawings: Drawings, seed: int) -> None:
        self.draw = random.Random(seed)
        rows: dict[int, list[int]] = {}
        for row, concept in enumerate(drawings.concept.tolist()):
            rows.setdefault(concept, []).append(row)
        self.rows = list(rows.values())  # for each concept, the indices of its drawings
        self.queue: list[int] = []

    def take(self, count: int) -> list[int]:
        while len(self.queue) < count:
            fresh = list(range(len(self.rows)))
            self.draw.shuffle(fresh)
            self.queue += fresh
        taken, self.queue = self.queue[:count], self.queue[count:]
        return [self.draw.choice(self.rows[concept]) for concept in taken]
