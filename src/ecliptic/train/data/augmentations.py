"""Named ways from a picture to pixels in training. B pictures, S side."""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ecliptic.errors import ConfigError, did_you_mean
from ecliptic.inputs import ImageSource, ImageSpec, Preprocess, open_image, resize_image
from ecliptic.train.data.drawing_styles import vary
from ecliptic.train.data.row_random import RowRandom

Decoded = NDArray[np.uint8]
AREAS = (0.9, 1.0)  # open_clip's scale of RandomResizedCrop, transform.py
ASPECTS = (3 / 4, 4 / 3)  # torchvision's ratio of RandomResizedCrop
TRIES = 10  # at a crop that fits, then it is central


class Augmentation(Protocol):
    """From pictures to pixels; each picture has its own seed, so that rows are independent."""

    spec: ImageSpec  # of the pixels

    def decode(self, picture: ImageSource, seed: int) -> Decoded:
        """One picture as an array whose shape is that of all others.

        Raises:
            ImageError: it cannot be used.
        """

    def finish(self, pictures: Sequence[Decoded], seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) uint8; bytes go to the training process and to its device."""


class Plain:
    """ "none": the preparation of inference, resize and crop to the centre."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self.prepare = Preprocess(spec, mode="robust")

    def decode(self, picture: ImageSource, seed: int) -> Decoded:
        """(S, S, 3) RGB."""
        del seed
        return self.prepare.rgb(picture)

    def finish(self, pictures: Sequence[Decoded], seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) uint8."""
        del seeds
        return torch.from_numpy(_stack(pictures, self.spec.size, 3)).movedim(-1, 1)


class Crop(Plain):
    """ "crop": a random box of 90 to 100 % of the area, resized; what open_clip trains with.

    The aspect of the box is 3:4 to 4:3 and nothing is mirrored, so that texts stay readable.
    Source: open_clip transform.py `image_transform`, torchvision `RandomResizedCrop.get_params`.
    """

    def decode(self, picture: ImageSource, seed: int) -> Decoded:
        """(S, S, 3) RGB."""
        image = self.prepare.load(picture)
        size, limits = self.spec.size, self.prepare.limits
        part = image.crop(crop_box(*image.size, Random(seed)))
        part = resize_image(part, (size, size), self.spec.interpolation, limits)
        return np.asarray(part.convert("RGB"))


class Drawings:
    """ "drawings": colours, style, place, paper and quality of drawings vary.

    Pictures keep their transparency until they are laid on paper. They are resized, never cropped;
    what is missing to a square stays transparent.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec

    def decode(self, picture: ImageSource, seed: int) -> Decoded:
        """(S, S, 4) RGBA; colours are weighted by their coverage when it is resized."""
        del seed
        side = self.spec.size
        image = open_image(picture).convert("RGBA")
        scale = side / max(image.size)
        to = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if image.size != to:
            image = image.resize(to, Image.Resampling.BICUBIC)
        if image.size == (side, side):
            return np.asarray(image)
        square = Image.new("RGBA", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return np.asarray(square)

    def finish(self, pictures: Sequence[Decoded], seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) uint8."""
        rgba = torch.from_numpy(_stack(pictures, self.spec.size, 4)).movedim(-1, 1)
        return (vary(rgba, RowRandom(seeds)) * 255).round().byte()


AUGMENTATIONS: dict[str, Callable[[ImageSpec], Augmentation]] = {
    "none": Plain,
    "crop": Crop,
    "drawings": Drawings,
}


def open_augmentation(name: str, spec: ImageSpec) -> Augmentation:
    """The augmentation of that name for pixels of `spec`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in AUGMENTATIONS:
        fix = did_you_mean(name, AUGMENTATIONS) or f"choose from {', '.join(AUGMENTATIONS)}."
        raise ConfigError(f"data.augment = {name!r} is no augmentation; {fix}")
    return AUGMENTATIONS[name](spec)


def crop_box(width: int, height: int, random: Random) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a random part of a picture."""
    for _ in range(TRIES):
        area = width * height * random.uniform(*AREAS)
        aspect = math.exp(random.uniform(*map(math.log, ASPECTS)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = random.randint(0, width - w), random.randint(0, height - h)
            return left, top, left + w, top + h
    aspect = min(max(width / height, ASPECTS[0]), ASPECTS[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _stack(pictures: Sequence[Decoded], side: int, channels: int) -> Decoded:
    """(B, S, S, channels), also of no pictures."""
    return np.stack(pictures) if pictures else np.zeros((0, side, side, channels), np.uint8)
