"""An endless stream of training batches: every source gives its share, no concept comes twice.

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
    tokens: Tensor  # (B, T), T the longest caption's
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
            yield self.batch()

    def batch(self) -> Batch:
        """The next batch."""
        drawings, texts = [], []
        for rounds, source, count in self.sources:
            rows = rounds.take(count)
            drawings.append(source.rgba[rows])
            texts += [caption(source.concepts[int(source.concept[r])], self.draw) for r in rows]
        colours = augment(torch.cat(drawings), self.generator)
        tokens, lengths = tokens_of(self.tokenizer, texts)
        return Batch((colours - self.mean) / self.std, tokens, lengths)


def tokens_of(tokenizer: Tokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """(B, T) ids, cut to the longest end-of-text, and (B,) how many of each are in use."""
    batch = tokenizer.batch(texts, overflow="truncate")
    ids = batch.ids[:, : batch.lengths.max()]
    return torch.from_numpy(ids), torch.from_numpy(batch.lengths)


class _Rounds:
    """Rounds through the concepts of a set, each time with one of its drawings at random."""

    def __init__(self, drawings: Drawings, seed: int) -> None:
        self.draw = random.Random(seed)
        rows: dict[int, list[int]] = {}
        for row, concept in enumerate(drawings.concept.tolist()):
            rows.setdefault(concept, []).append(row)
        self.rows = list(rows.values())  # drawing numbers of each drawn concept
        self.queue: list[int] = []

    def take(self, count: int) -> list[int]:
        while len(self.queue) < count:
            fresh = list(range(len(self.rows)))
            self.draw.shuffle(fresh)
            self.queue += fresh
        taken, self.queue = self.queue[:count], self.queue[count:]
        return [self.draw.choice(self.rows[concept]) for concept in taken]
