"""The `preprocess` callables that scripts get: an image in, a (3, S, S) tensor out.

`transforms` is a list of steps as torchvision's `Compose` has it; scripts may read, change or
reuse them. They hold only settings, so data loaders can send them to other processes.
C channels, H height, W width, S image side.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.errors import ShapeError
from ecliptic.inputs import (
    DEFAULT_LIMITS,
    ImageSource,
    ImageSpec,
    Interpolation,
    open_image,
    resize_image,
    scale_shorter_side,
)

# open_clip/transform.py `AugmentationCfg` and torchvision's RandomResizedCrop
TRAIN_AREA = (0.9, 1.0)  # of the image
TRAIN_ASPECT = (3 / 4, 4 / 3)  # width / height
_TRIES = 10


Step = Callable[[Any], Any]  # one of `transforms`


class _Printed:
    """Prints a step with its settings, which have torchvision's names."""

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Resize(_Printed):
    """To a shorter side of `size`, or to (height, width); PIL images or (..., H, W) tensors."""

    def __init__(
        self, size: int | tuple[int, int], interpolation: Interpolation = "bicubic"
    ) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        """The resized image; tensors are antialiased as PIL images are."""
        width, height = image.shape[:-3:-1] if isinstance(image, Tensor) else image.size
        if isinstance(self.size, int):
            to = scale_shorter_side(self.size, width, height)
        else:
            to = (self.size[1], self.size[0])
        if isinstance(image, Image.Image):
            return resize_image(image, to, self.interpolation, DEFAULT_LIMITS)
        planes = image if image.is_floating_point() else image.float()
        planes = planes.reshape(-1, 1, height, width)
        planes = F.interpolate(planes, to[::-1], mode=self.interpolation, antialias=True)
        if not image.is_floating_point():
            planes = planes.clamp(0, 255).round().to(image.dtype)
        return planes.reshape(*image.shape[:-2], *to[::-1])


class CenterCrop(_Printed):
    """The central (height, width) of `size`; what is missing is black."""

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = (size, size) if isinstance(size, int) else size

    def __call__(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        """The crop of a PIL image or a (..., H, W) tensor."""
        width, height = image.shape[:-3:-1] if isinstance(image, Tensor) else image.size
        left, top = _offset(width, self.size[1]), _offset(height, self.size[0])
        right, bottom = left + self.size[1], top + self.size[0]
        if isinstance(image, Image.Image):
            return image.crop((left, top, right, bottom))
        return F.pad(image, (-left, right - width, -top, bottom - height))


class ConvertToRGB(_Printed):
    """Three channels, whatever mode the image has."""

    def __call__(self, image: Image.Image | Tensor) -> Image.Image | Tensor:
        """The image in mode RGB; a tensor stays as it is."""
        return image if isinstance(image, Tensor) else image.convert("RGB")


class ToTensor(_Printed):
    """From bytes to float32 of 0 to 1."""

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        """(C, H, W) of an image; a tensor stays as it is."""
        if isinstance(image, Tensor):
            return image
        array = np.atleast_3d(np.asarray(image))  # (H, W, C)
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).float().div(255)


class Normalize(_Printed):
    """`(x - mean) / std`, by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = mean, std

    def __call__(self, pixels: Tensor) -> Tensor:
        """(..., C, H, W) floats to the same shape.

        Raises:
            ShapeError: these are not floats.
        """
        if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
            found = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
            raise ShapeError(f"Normalize takes a float tensor, got {found}; put ToTensor before.")
        mean, std = (
            torch.as_tensor(v, dtype=pixels.dtype, device=pixels.device)
            for v in (self.mean, self.std)
        )
        return (pixels - mean[:, None, None]) / std[:, None, None]


class RandomResizedCrop(_Printed):
    """A random part of the image, resized without keeping its aspect."""

    def __init__(self, size: int, scale: tuple[float, float] = TRAIN_AREA) -> None:
        self.size, self.scale = (size, size), scale

    def __call__(self, image: Image.Image) -> Image.Image:
        """The crop, drawn from torch's generator."""
        box = random_box(*image.size, self.scale)
        return image.crop(box).resize(self.size, Image.Resampling.BICUBIC)


class Compose:
    """The steps in `transforms`, one after the other."""

    def __init__(self, transforms: Sequence[Step]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: ImageSource) -> Tensor:
        """(3, S, S) normalised float32 pixels.

        Args:
            image: anything that `ecliptic` opens; a float tensor goes through the steps as it is.

        Raises:
            ImageError: the image cannot be opened.
        """
        ready = isinstance(image, Tensor) and image.is_floating_point()
        found: Any = image if ready else open_image(image)
        for step in self.transforms:
            found = step(found)
        return found  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        steps = "".join(f"\n    {step!r}" for step in self.transforms)
        return f"{type(self).__name__}({steps}\n)"


class ToPixels(Compose):
    """The reference preprocessing; bit for bit the pixels that the released models get."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        if spec.resize == "squash":
            fit: tuple[Step, ...] = (Resize((spec.size, spec.size), spec.interpolation),)
        else:
            fit = (Resize(spec.size, spec.interpolation), CenterCrop(spec.size))
        super().__init__((*fit, ConvertToRGB(), ToTensor(), Normalize(spec.mean, spec.std)))


class ToTrainingPixels(Compose):
    """open_clip's training crop: nearly the whole image, resized without keeping its aspect."""

    def __init__(self, spec: ImageSpec, scale: tuple[float, float] = TRAIN_AREA) -> None:
        self.spec = spec
        crop = RandomResizedCrop(spec.size, scale)
        super().__init__([crop, ConvertToRGB(), ToTensor(), Normalize(spec.mean, spec.std)])


def _offset(length: int, wanted: int) -> int:
    """Where a central crop begins; negative if it is longer (torchvision's `center_crop`)."""
    return -((wanted - length) // 2) if length < wanted else round((length - wanted) / 2)


def random_box(
    width: int, height: int, scale: tuple[float, float] = TRAIN_AREA
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a random crop of `scale` of the area and `TRAIN_ASPECT`.

    Draws as torchvision/transforms/transforms.py `RandomResizedCrop.get_params` does, so a seeded
    script gets the same crops. If none of ten tries fits, the box has the full width or height.
    """
    low, high = math.log(TRAIN_ASPECT[0]), math.log(TRAIN_ASPECT[1])
    for _ in range(_TRIES):
        area = width * height * torch.empty(1).uniform_(*scale).item()
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
