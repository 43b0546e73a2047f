"""Losses on the pixels themselves: images (B, 3, H, W), where 0..1 is what can be shown -> (B,).

The published ones are for values -1..1, which are twice as far apart: for total variation and
range, a weight w there is 4 w here. B batch.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ShapeError


def total_variation(images: Tensor) -> Tensor:
    """Mean square of the differences to the right and lower neighbour; high for noise.

    guided-diffusion notebooks, `tv_loss` (the border repeats itself); there with a weight of 150.
    """
    padded = F.pad(images, (0, 1, 0, 1), "replicate")
    right = padded[..., :-1, 1:] - padded[..., :-1, :-1]
    below = padded[..., 1:, :-1] - padded[..., :-1, :-1]
    return (right.square() + below.square()).mean(dim=(1, 2, 3))


def out_of_range(images: Tensor) -> Tensor:
    """Mean square of how far values are outside 0..1.

    guided-diffusion notebooks, `range_loss`, there with a weight of 50.
    """
    return (images - images.clamp(0, 1)).square().mean(dim=(1, 2, 3))


def saturation(images: Tensor) -> Tensor:
    """Mean distance of the values outside 0..1, in units of half the range (Disco Diffusion)."""
    return 2 * (images - images.clamp(0, 1)).abs().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class PixelDifference:
    """Mean square of the difference to a start image: holds a picture as it is."""

    start: Tensor  # (3, H, W) or (B, 3, H, W), values 0..1

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B,).

        Raises:
            ShapeError: the start image has another size.
        """
        if self.start.shape[-3:] != images.shape[1:] or self.start.ndim not in (3, 4):
            raise ShapeError(
                f"the start image is {tuple(self.start.shape)}, but the images are "
                f"{tuple(images.shape)}; resize it to {images.shape[-1]} x {images.shape[-2]}."
            )
        if self.start.ndim == 4 and len(self.start) not in (1, len(images)):
            raise ShapeError(
                f"{len(self.start)} start images for {len(images)} images; give one, or one each."
            )
        start = self.start.to(images.device, images.dtype)
        return (images - start).square().mean(dim=(1, 2, 3))
