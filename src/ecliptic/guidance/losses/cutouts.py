"""Cutouts: random squares of images, so that CLIP sees an image at many scales.

`MakeCutouts` of the notebooks by K. Crowson (guided-diffusion, v-diffusion `clip_sample.py`): side
`int(u^power (most - least) + least)` with uniform u, most = the shorter edge, least = the smaller
of it and CLIP's size, anywhere in the image, averaged down to CLIP's size. The overview and the
grey share are those of Disco Diffusion's `MakeCutoutsDango`.
B batch, S size of CLIP's images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_VARIANTS = ((False, False), (True, False), (False, True), (True, True))  # grey, mirrored


@dataclass(frozen=True)
class Cut:
    """One square of an image; the overview is the whole, in a grey frame."""

    top: int = 0  # pixels
    left: int = 0
    side: int | None = None  # None: the whole image
    grey: bool = False
    mirrored: bool = False

    def take(self, images: Tensor, size: int) -> Tensor:
        """(B, 3, H, W) -> (B, 3, S, S)."""
        if self.side is None:
            images = _square(images)
        else:
            bottom, right = self.top + self.side, self.left + self.side
            images = images[:, :, self.top : bottom, self.left : right]
        images = _resize(images, size)
        if self.grey:
            luma = images.new_tensor(_LUMA)[:, None, None]
            images = (images * luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return images.flip(-1) if self.mirrored else images


@dataclass(frozen=True)
class Cutouts:
    """How many cutouts, and of which sides."""

    count: int = 16  # random squares
    power: float = 1.0  # above 1: more small squares; 0.5: more large ones
    smallest: int | None = None  # pixels; None: CLIP's size, or the whole of a smaller image
    overview: int = 0  # times the whole image: plain, grey, mirrored, both
    grey: float = 0.0  # share of the random squares that are shown in grey

    def __post_init__(self) -> None:
        for name in ("count", "overview"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ConfigError(f"{name} must be a whole number from 0, got {value!r}.")
        if self.count + self.overview == 0:
            raise ConfigError("cutouts need count or overview above 0; overview = 1 is the whole.")
        check_finite([self.power, self.grey], "power and grey", "pass numbers.", ConfigError)
        if self.power <= 0 or not 0 <= self.grey <= 1:
            raise ConfigError(
                f"power must be above 0 and grey a share of 0 to 1, got {self.power} and "
                f"{self.grey}."
            )
        if self.smallest is not None and (type(self.smallest) is not int or self.smallest < 1):
            raise ConfigError(f"smallest must be a number of pixels, got {self.smallest!r}.")

    def range(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Smallest and largest side of a cutout; ShapeError if `smallest` does not fit."""
        most = min(height, width)
        least = min(most, size) if self.smallest is None else self.smallest
        if least > most:
            raise ShapeError(
                f"cutouts of at least {least} pixels do not fit into an image of {width} x "
                f"{height}; set smallest to at most {most}."
            )
        return least, most

    def plan(self, height: int, width: int, size: int, random: torch.Generator) -> list[Cut]:
        """Draw the cutouts of an image.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.
            size: S, of CLIP's images.
            random: gives the sides and places.

        Raises:
            ShapeError: `smallest` is larger than the image.
        """
        least, most = self.range(height, width, size)
        cuts = [Cut(0, 0, None, *_VARIANTS[n % len(_VARIANTS)]) for n in range(self.overview)]
        for number in range(self.count):
            u = float(torch.rand((), generator=random, dtype=torch.float64))
            side = int(u**self.power * (most - least) + least)
            left = int(torch.randint(width - side + 1, (), generator=random))
            top = int(torch.randint(height - side + 1, (), generator=random))
            cuts.append(Cut(top, left, side, grey=number < round(self.grey * self.count)))
        return cuts


CutoutPlan = int | Cutouts | Sequence[tuple[float, Cutouts]]


@dataclass(frozen=True)
class CutoutSchedule:
    """Other cutouts while less noise is left: pairs of a share of noise, and what is used below.

    The share is s / sqrt(a^2 + s^2), from 1 at the start to 0 at the end.
    """

    rows: tuple[tuple[float, Cutouts], ...]

    @classmethod
    def of(cls, given: CutoutPlan) -> "CutoutSchedule":
        """A number of cutouts (0: the whole image alone), one setting, or rows.

        Raises:
            ConfigError: the rows do not begin at 1 and fall.
        """
        if isinstance(given, bool) or not isinstance(given, int | Cutouts | Sequence):
            raise ConfigError(f"cutouts must be a number, Cutouts or a schedule, got {given!r}.")
        if isinstance(given, int):
            given = Cutouts(given) if given else Cutouts(0, overview=1)
        rows = ((1.0, given),) if isinstance(given, Cutouts) else tuple(given)
        if not all(_is_row(row) for row in rows):
            raise ConfigError(
                "a schedule of cutouts is pairs of a share of noise and Cutouts, such as "
                f"[(1.0, Cutouts(8)), (0.4, Cutouts(16))], got {given!r}."
            )
        shares = [share for share, _ in rows]
        if not shares or shares[0] != 1.0 or shares != sorted(set(shares), reverse=True):
            raise ConfigError(
                f"a schedule of cutouts begins at a share of noise of 1.0 and falls, got {shares}."
            )
        return cls(rows)

    def check(self, height: int, width: int, size: int) -> None:
        """Raise ShapeError if cutouts of any row do not fit into the images."""
        for _, cutouts in self.rows:
            cutouts.range(height, width, size)

    def at(self, noise: float) -> Cutouts:
        """The row of a share of noise."""
        return [cutouts for share, cutouts in self.rows if share >= min(noise, 1.0)][-1]


def _is_row(row: object) -> bool:
    if not isinstance(row, tuple | list) or len(row) != 2:
        return False
    return isinstance(row[0], int | float) and isinstance(row[1], Cutouts)


def _square(images: Tensor) -> Tensor:
    """The whole image in the middle of a square of middle grey."""
    height, width = images.shape[-2:]
    left, top = max(0, height - width), max(0, width - height)
    pads = (left // 2, left - left // 2, top // 2, top - top // 2)
    return F.pad(images, pads, value=0.5)


def _resize(images: Tensor, size: int) -> Tensor:
    """Average down, as the notebooks do; up by straight lines."""
    if images.shape[-1] == size:
        return images
    if images.shape[-1] > size:
        return F.adaptive_avg_pool2d(images, size)
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
