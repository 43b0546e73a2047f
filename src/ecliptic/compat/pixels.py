"""The `preprocess` callables that scripts get: an image in, a (3, S, S) tensor out.

They hold only settings, so that data loaders can send them to other processes.
"""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ecliptic.inputs import ImageSource, ImageSpec, Preprocess

# open_clip/transform.py `AugmentationCfg` and torchvision's RandomResizedCrop
TRAIN_AREA = (0.9, 1.0)  # of the image
TRAIN_ASPECT = (3 / 4, 4 / 3)  # width / height
_TRIES = 10


class ToPixels:
    """The reference preprocessing; bit for bit the pixels that the released models get."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self._prepare = Preprocess(spec)

    def __call__(self, image: ImageSource) -> Tensor:
        """(3, S, S) normalised float32 pixels."""
        return torch.from_numpy(self._prepare(image))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec})"


class ToTrainingPixels(ToPixels):
    """open_clip's training crop: nearly the whole image, resized without keeping its aspect."""

    def __call__(self, image: ImageSource) -> Tensor:
        """(3, S, S) normalised float32 pixels of a random crop, drawn from torch's generator."""
        if not isinstance(image, Image.Image):
            return super().__call__(image)
        size = self.spec.size
        resample = Image.Resampling[self.spec.interpolation.upper()]
        crop = image.crop(random_box(*image.size)).resize((size, size), resample)
        return torch.from_numpy(self._prepare.normalize(np.asarray(crop.convert("RGB"))))


def random_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a random crop of `TRAIN_AREA` and `TRAIN_ASPECT`.

    Draws as torchvision/transforms/transforms.py `RandomResizedCrop.get_params` does, so a seeded
    script gets the same crops. If none of ten tries fits, the box has the full width or height.
    """
    low, high = math.log(TRAIN_ASPECT[0]), math.log(TRAIN_ASPECT[1])
    for _ in range(_TRIES):
        area = width * height * torch.empty(1).uniform_(*TRAIN_AREA).item()
        aspect = math.exp(torch.empty(1).uniform_(low, high).item())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(0, height - h + 1, (1,)).item())
            left = int(torch.randint(0, width - w + 1, (1,)).item())
            return left, top, left + w, top + h
    return _central_box(width, height)


def _central_box(width: int, height: int) -> tuple[int, int, int, int]:
    w, h = width, height
    if width / height < TRAIN_ASPECT[0]:
        h = round(width / TRAIN_ASPECT[0])
    elif width / height > TRAIN_ASPECT[1]:
        w = round(height * TRAIN_ASPECT[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
