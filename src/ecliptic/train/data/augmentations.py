"""Named ways from a picture to pixels in training. B pictures, S side."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.train.data.examples import Picture

Decoded = NDArray[np.uint8]


class Augmentation(Protocol):
    """From pictures to pixels; each picture has its own seed, so that rows are independent."""

    def decode(self, picture: Picture, seed: int) -> Decoded:
        """One picture as an array whose shape is that of all others.

        Raises:
            ImageError: it cannot be used.
        """

    def finish(self, pictures: Sequence[Decoded], seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) float32, normalised."""


class Plain:
    """The preparation of inference: resize, crop to the centre, normalise."""

    def __init__(self, spec: ImageSpec) -> None:
        self.prepare = Preprocess(spec, mode="robust")

    def decode(self, picture: Picture, seed: int) -> Decoded:
        """(S, S, 3) RGB."""
        del seed
        return self.prepare.rgb(picture)

    def finish(self, pictures: Sequence[Decoded], seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) float32, normalised."""
        del seeds
        side = self.prepare.spec.size
        stacked = np.stack(pictures) if pictures else np.zeros((0, side, side, 3), np.uint8)
        return torch.from_numpy(self.prepare.normalize(stacked))


def open_augmentation(name: str, spec: ImageSpec) -> Augmentation:
    """The augmentation of that name for pixels of `spec`."""
    return {"none": Plain}[name](spec)
