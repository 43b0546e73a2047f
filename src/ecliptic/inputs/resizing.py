"""Resizes RGB images of 8 bits: the bits of Pillow in less time, or within one level of them.

`shrink_exactly` makes Pillow's horizontal pass as products of float32 matrices, whose rounding
error has a bound. The few sums that are nearer to a boundary of rounding than this bound are
computed again in whole numbers, so every bit is Pillow's. Only the rows and columns that are kept
are computed; Pillow's own `box` would change bits, because it is float32. `resize_closely` uses
torch's 8-bit kernel.

Source: Pillow src/libImaging/Resample.c. H, W rows and columns of the input, C channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.errors import ImageLimitError
from ecliptic.inputs.decode import ImageLimits
from ecliptic.inputs.specs import Interpolation

RgbRows: TypeAlias = NDArray[np.uint8]  # (H, W, 3)
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
WORTHWHILE = 2_000_000  # pixels; below, Pillow takes less time than `shrink_exactly`
CLOSE_WORTHWHILE = 500_000  # for `resize_closely`, unless a JPEG gives rows that need no unpacking

_SHRINKING = 3.0  # the same for the ratio of the widths
_AVERAGED = 2.0  # at least, in both directions, for `resize_closely`
_TALL = 1.9  # Pillow 13 begins with the vertical pass where an image is twice as tall as wide,
_TALL_SQUASHED = 1.1  # and from 1.23 on, as measured, where its ratio changes
_PROBES = (  # (width, height), and the size it becomes: the order of Pillow's passes depends on
    ((100, 189), (49, 92)),  # these proportions alone, so the tallest and the widest ones tell
    ((61, 115), (7, 13)),
    ((60, 90), (24, 36)),
    ((70, 70), (35, 35)),
    ((160, 100), (66, 41)),
    ((300, 60), (65, 13)),
    ((90, 99), (45, 45)),
    ((90, 99), (10, 10)),
    ((150, 60), (30, 30)),
    ((300, 60), (20, 20)),
)
_BITS = 22  # of a weight, behind the point
_SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}  # half the width of a filter
_TOGETHER = 8  # columns of the result in one product of matrices
_ROWS = 32  # that are read at once; larger products are spread over threads by OpenBLAS
_CLOSE_ROWS = 192  # for torch; with 512, Pillow takes less time for half a megapixel


@dataclass(frozen=True)
class Cropping:
    """The size to which a whole image is resized, and the part that is kept."""

    width: int
    height: int
    left: int
    top: int
    size: int  # of the square that is kept


def check_growth(size: tuple[int, int], to: tuple[int, int], limits: ImageLimits) -> None:
    """Raise `ImageLimitError` if the result would have more pixels than `limits` allow."""
    if size != to and to[0] * to[1] > limits.pixels:  # 1x20000 would grow to 224x4480000
        raise ImageLimitError(
            f"an image of {size[0]}x{size[1]} would grow to {to[0]}x{to[1]} when "
            f"its shorter side is resized, over the limit of {limits.pixels} pixels; "
            "crop it first."
        )


def resize_image(
    image: Image.Image, to: tuple[int, int], interpolation: Interpolation, limits: ImageLimits
) -> Image.Image:
    """Resize to (width, height), as torchvision's Resize does with a PIL image.

    Raises:
        ImageLimitError: the result would have more pixels than `limits` allow.
    """
    check_growth(image.size, to, limits)
    return image if image.size == to else image.resize(to, FILTERS[interpolation])


def scale_shorter_side(size: int, width: float, height: float) -> tuple[int, int]:
    """(width, height) with a shorter side of `size`; the longer side is rounded down.

    Source: torchvision/transforms/functional.py `_compute_resized_output_size`.
    """
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def centre_box(size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the central square; halves round to the even neighbour.

    Source: torchvision/transforms/functional.py `center_crop`. It never pads here: after
    `scale_shorter_side` no side is shorter than `size`.
    """
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return left, top, left + size, top + size


def is_worthwhile(rows: RgbRows, cut: Cropping, interpolation: Interpolation) -> bool:
    """Whether `shrink_exactly` takes less time for (H, W, 3) than Pillow, which must pack them."""
    height, width, _ = rows.shape
    if width * height < WORTHWHILE or width < _SHRINKING * cut.width:
        return False
    return can_be_close(rows, cut, interpolation)


def can_be_close(
    picture: "Image.Image | RgbRows", cut: Cropping, interpolation: Interpolation
) -> bool:
    """Whether `resize_closely` takes `picture`: RGB that is at least halved, and is not tall.

    With fewer neighbours in a sum, or where Pillow begins with the vertical pass, there can be more
    than one level between two ways to compute it.
    """
    if isinstance(picture, Image.Image) and picture.mode != "RGB":
        return False
    width, height = size_of(picture)
    across, down = width / cut.width, height / cut.height
    tall = _TALL if abs(across / down - 1) < 0.1 else _TALL_SQUASHED
    if min(across, down) < _AVERAGED or height > tall * width:
        return False
    return _is_as_in_pillow(interpolation)


@cache
def _is_as_in_pillow(interpolation: Interpolation) -> bool:
    """Whether this Pillow gives the same bits for small images of all proportions in use.

    A version may compute its weights in another way, or the vertical pass first. It is asked once
    in a process: asking for each size would take longer than resizing.
    """
    noise = np.random.default_rng(0).integers(0, 256, (189, 300, 3), np.uint8)
    for (width, height), to in _PROBES:
        part = noise[:height, :width]
        whole = np.asarray(Image.fromarray(part).resize(to, FILTERS[interpolation]))
        size = min(to)
        ours = shrink_exactly(part, Cropping(*to, 0, 0, size), interpolation)
        if not np.array_equal(ours, whole[:size, :size]):
            return False
    return True


def size_of(picture: "Image.Image | RgbRows") -> tuple[int, int]:
    """(width, height)."""
    if isinstance(picture, Image.Image):
        return picture.size
    return picture.shape[1], picture.shape[0]


def shrink_exactly(rows: RgbRows, cut: Cropping, interpolation: Interpolation) -> RgbRows:
    """(H, W, 3) -> (size, size, 3): every bit as after Pillow's `resize` and `crop`.

    Args:
        rows: the image.
        cut: one for which `can_be_close` is true.
        interpolation: the filter.
    """
    height, width, _ = rows.shape
    pass_ = _plan_pass(width, cut.width, cut.left, cut.left + cut.size, interpolation)
    top, bottom = _rows_needed(height, cut, interpolation)
    narrow = np.zeros((height, cut.size, 3), np.uint8)
    for start in range(top, bottom, _ROWS):
        end = min(start + _ROWS, bottom)
        narrow[start:end] = pass_.run(rows[start:end])
    image = Image.fromarray(narrow)
    if height != cut.height:
        image = image.resize((cut.size, cut.height), FILTERS[interpolation])
    return np.asarray(image.crop((0, cut.top, cut.size, cut.top + cut.size)))


def resize_closely(
    picture: "Image.Image | RgbRows", cut: Cropping, interpolation: Interpolation
) -> RgbRows:
    """(size, size, 3): at most one level from `shrink_exactly`; imports torch.

    Args:
        picture: (H, W, 3), or a PIL image of mode RGB.
        cut: the wanted sizes, for which `can_be_close` is true.
        interpolation: the filter.
    """
    import torch
    from torch.nn import functional as F

    def resize(rows: RgbRows, width: int, height: int) -> RgbRows:
        values = torch.from_numpy(rows).permute(2, 0, 1)[None]  # (1, 3, h, W), channels last
        if (rows.shape[1], rows.shape[0]) != (width, height):
            values = F.interpolate(values, (height, width), mode=interpolation, antialias=True)
        return values[0].permute(1, 2, 0).numpy()

    if isinstance(picture, Image.Image):
        top, bottom = _rows_needed(picture.height, cut, interpolation)
        narrow = np.zeros((picture.height, cut.width, 3), np.uint8)
        for start in range(top, bottom, _CLOSE_ROWS):  # a copy of the whole would take memory
            end = min(start + _CLOSE_ROWS, bottom)
            strip = np.array(picture.crop((0, start, picture.width, end)))
            narrow[start:end] = resize(strip, cut.width, end - start)
        picture = narrow
    whole = resize(picture, cut.width, cut.height)
    kept = whole[cut.top : cut.top + cut.size, cut.left : cut.left + cut.size]
    return np.ascontiguousarray(kept)


def _rows_needed(height: int, cut: Cropping, interpolation: Interpolation) -> tuple[int, int]:
    """First row, and last but one, that the vertical pass reads for the rows that are kept."""
    if height == cut.height:
        return cut.top, cut.top + cut.size
    kept = np.array([cut.top, cut.top + cut.size - 1])
    first, end, _ = _find_neighbours(height, cut.height, kept, interpolation)
    return int(first[0]), int(end[1])


@dataclass(frozen=True)
class _Weights:
    """Pillow's weights for one axis: of N results, each a sum over `taps` neighbours."""

    first: NDArray[np.int64]  # (N,) the first neighbour of each
    whole: NDArray[np.float64]  # (N, taps) times 2**22, without a fraction

    @property
    def taps(self) -> int:
        return int(self.whole.shape[1])


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 1.0, 1.0 - x, 0.0)


_SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bicubic": _bicubic,
    "bilinear": _bilinear,
}


def _find_neighbours(
    n: int, count: int, results: NDArray[np.int64], interpolation: Interpolation
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """First, last but one and centre of the neighbours of some `results`, from `n` to `count`.

    Source: Resample.c `precompute_coeffs`.
    """
    support = _SUPPORT[interpolation] * max(n / count, 1.0)
    centres = (results.astype(np.float64) + 0.5) * (n / count)
    first = np.maximum(np.trunc(centres - support + 0.5), 0).astype(np.int64)
    end = np.minimum(np.trunc(centres + support + 0.5), n).astype(np.int64)
    return first, end, centres


@lru_cache(maxsize=32)
def _find_weights(n: int, count: int, interpolation: Interpolation) -> _Weights:
    """Weights from `n` to `count` values, in Pillow's order of float64 operations.

    Source: Resample.c `precompute_coeffs` and `normalize_coeffs_8bpc`.
    """
    first, end, centres = _find_neighbours(n, count, np.arange(count), interpolation)
    stretch = max(n / count, 1.0)
    taps = np.arange(math.ceil(_SUPPORT[interpolation] * stretch) * 2 + 1)
    places = np.abs(((taps + first[:, None]) - centres[:, None] + 0.5) * (1.0 / stretch))
    values = np.where(taps < (end - first)[:, None], _SHAPES[interpolation](places), 0.0)
    values /= np.add.accumulate(values, axis=1)[:, -1:]  # one after the other, as in C
    whole = np.trunc(values * (1 << _BITS) + np.where(values < 0, -0.5, 0.5))
    return _Weights(first, whole)


@dataclass(frozen=True)
class _Pass:
    """Pillow's horizontal pass for some neighbouring columns of the result."""

    weights: _Weights  # of these columns
    products: tuple[tuple[int, int, NDArray[np.float32]], ...]  # (start, end, (end - start, n))
    bound: float  # of the error of a sum in float32

    def run(self, rows: RgbRows) -> RgbRows:
        """(h, W, 3) -> (h, columns, 3)."""
        start, end = self.products[0][0], self.products[-1][1]
        planes = rows[:, start:end].transpose(0, 2, 1).astype(np.float32, order="C")
        values = planes.reshape(-1, end - start)  # (h * 3, end - start)
        sums = np.empty((len(values), len(self.weights.first)), np.float32)
        place = 0
        for left, right, matrix in self.products:
            out = sums[:, place : place + matrix.shape[1]]
            np.matmul(values[:, left - start : right - start], matrix, out=out)
            place += matrix.shape[1]
        levels = np.rint(sums)
        sums -= levels
        np.abs(sums, out=sums)
        doubtful = np.divmod(np.flatnonzero(sums > 0.5 - self.bound), sums.shape[1])
        found = np.clip(levels, 0, 255, out=levels).astype(np.uint8)
        found[doubtful] = self._count(values, start, *doubtful)
        return found.reshape(len(rows), 3, -1).transpose(0, 2, 1)

    def _count(
        self, values: NDArray[np.float32], start: int, row: NDArray[np.intp], to: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """The results at (row, to) in whole numbers, which float64 holds exactly."""
        first = row * values.shape[1] + self.weights.first[to] - start
        places = first[:, None] + np.arange(self.weights.taps)
        near = np.take(values, places, mode="clip")  # past the last column, weights are 0
        sums = np.einsum("ij,ij->i", near, self.weights.whole[to]) + (1 << (_BITS - 1))
        levels: NDArray[np.float64] = np.floor(sums / (1 << _BITS)).clip(0, 255)
        return levels


@lru_cache(maxsize=8)
def _plan_pass(n: int, count: int, left: int, right: int, interpolation: Interpolation) -> _Pass:
    """The pass from `n` columns to those from `left` to `right` of `count`."""
    every = _find_weights(n, count, interpolation)
    weights = _Weights(every.first[left:right], every.whole[left:right])
    exact = (weights.whole / (1 << _BITS)).astype(np.float32)  # 23 bits: nothing is rounded
    products = []
    for group in range(0, right - left, _TOGETHER):
        members = range(group, min(group + _TOGETHER, right - left))
        start = int(weights.first[group])
        end = int(min(weights.first[members[-1]] + weights.taps, n))
        matrix = np.zeros((end - start, len(members)), np.float32)
        for member in members:
            place = int(weights.first[member]) - start
            matrix[place : place + weights.taps, member - group] = exact[member][
                : end - start - place
            ]
        products.append((start, end, matrix))
    # the error of a sum of t products is at most t * 2**-24 * the sum of their sizes
    largest = 255 * float(np.abs(exact).sum(1).max()) + 1
    return _Pass(weights, tuple(products), (weights.taps + 4) * 2.0**-24 * largest)
