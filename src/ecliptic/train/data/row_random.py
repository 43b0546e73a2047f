"""Random numbers for the rows of a batch, each from its own seed. B rows.

Number n of a row is a hash of the seed and n alone, so a row looks the same whatever else is in
its batch, and in whichever process it is made.
Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators" (splitmix64).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_STEP = 0x9E3779B97F4A7C15 - (1 << 64)  # as signed 64 bits; products and sums wrap
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_BITS = 24  # of a float32 between 0 and 1


class RowRandom:
    """A stream of random numbers for each of B rows.

    Args:
        seeds: one for each row; those of 64 bits are as good as any.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        signed = [(seed + (1 << 63)) % (1 << 64) - (1 << 63) for seed in seeds]
        self._seeds = torch.tensor(signed, dtype=torch.int64)  # (B,)
        self._drawn = 0  # numbers of each row

    def __len__(self) -> int:
        return len(self._seeds)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(B, *shape) float32 from `low` to below `high`."""
        return low + (high - low) * self._unit(math.prod(shape)).view(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32 of mean 0 and variance 1 (Box & Muller 1958)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        radius = (-2 * (1 - self._unit(half)).log()).sqrt()  # 1 - u is never 0
        angle = 2 * math.pi * self._unit(half)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return both[:, :count].reshape(len(self), *shape)

    def split(self, rows: Tensor) -> "RowRandom":
        """A new stream for some of the rows, by their places (R,).

        This stream goes on the same, whichever rows are taken.
        """
        [seeds] = self._words(1).unbind(dim=1)
        child = RowRandom(())
        child._seeds = seeds[rows]
        return child

    def _unit(self, count: int) -> Tensor:
        """(B, count) float32, multiples of 2^-24 from 0 to below 1."""
        return _shift(self._words(count), 64 - _BITS).float() * 2.0**-_BITS

    def _words(self, count: int) -> Tensor:
        """(B, count) int64, all 64 bits random."""
        numbers = torch.arange(self._drawn + 1, self._drawn + count + 1)
        self._drawn += count
        x = _scramble(self._seeds)[:, None] + numbers * _STEP
        return _scramble(x)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, where torch fills with the sign."""
    return (x >> bits) & ((1 << 64 - bits) - 1)
