"""What the data hands to a training step. B pairs of this process, S side, T longest text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecliptic.inputs import ImageSpec


@dataclass(frozen=True, eq=False)
class Negatives:
    """M captions that were written to fit no image of the batch."""

    tokens: Tensor  # (M, T) int64
    lengths: Tensor  # (M,)
    captions: Tensor  # (M,) int64, equal for equal captions, those of pairs too

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, start: int, stop: int) -> "Negatives":
        """The captions from `start` to before `stop`."""
        cut = slice(start, stop)
        return Negatives(self.tokens[cut], self.lengths[cut], self.captions[cut])


@dataclass(frozen=True, eq=False)
class TextPairs:
    """P pairs of texts of one meaning; rows 2i and 2i + 1 are pair i."""

    tokens: Tensor  # (2 P, T) int64
    lengths: Tensor  # (2 P,)
    captions: Tensor  # (P,) int64, equal for pairs whose second texts are equal

    def __len__(self) -> int:
        return len(self.captions)

    def part(self, start: int, stop: int) -> "TextPairs":
        """The pairs from `start` to before `stop`."""
        cut = slice(2 * start, 2 * stop)
        return TextPairs(self.tokens[cut], self.lengths[cut], self.captions[start:stop])


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs, the share of this process in one step."""

    pixels: Tensor  # (B, 3, S, S) float32, normalised; or uint8, to be normalised by `spec`
    tokens: Tensor  # (B, T) int64
    lengths: Tensor  # (B,) tokens in use, the end of text included
    captions: Tensor  # (B,) int64, equal for equal concepts, or equal captions without any
    texts: Sequence[str] = ()  # the captions themselves
    keys: Sequence[str] = ()  # of the examples, for messages
    spec: ImageSpec | None = None  # of uint8 pixels
    negatives: Negatives | None = None  # for all images of the batch
    pairs: TextPairs | None = None  # beside the images

    def __len__(self) -> int:
        return len(self.pixels)

    def normalised(self, device: torch.device | str) -> Tensor:
        """(B, 3, S, S) float32 pixels on `device`; bytes are normalised there."""
        pixels = self.pixels.to(device)
        return pixels if self.spec is None else normalise(pixels, self.spec)

    def part(self, start: int, stop: int) -> "Batch":
        """The pairs from `start` to before `stop`, and their share of negatives and text pairs."""
        stop = min(stop, len(self))

        def share(extras: Negatives | TextPairs) -> tuple[int, int]:
            count, rows = len(extras), max(1, len(self))
            return count * start // rows, count * stop // rows

        negatives, pairs = self.negatives, self.pairs
        return replace(
            self,
            pixels=self.pixels[start:stop],
            tokens=self.tokens[start:stop],
            lengths=self.lengths[start:stop],
            captions=self.captions[start:stop],
            texts=self.texts[start:stop],
            keys=self.keys[start:stop],
            negatives=None if negatives is None else negatives.part(*share(negatives)),
            pairs=None if pairs is None else pairs.part(*share(pairs)),
        )


def normalise(pixels: Tensor, spec: ImageSpec) -> Tensor:
    """(B, 3, S, S) uint8 -> float32; on the CPU the same numbers as `Preprocess.normalize`."""
    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (spec.mean, spec.std))
    return pixels.float().div_(255).sub_(mean).div_(std)
