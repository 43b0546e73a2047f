"""Is the difference between two systems on the same items more than chance?

N items.
"""

from typing import Any

import numpy as np

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.binomial import binomial_tail
from ecliptic.scoring.intervals import MOST_UNITS, Measured, as_numbers, random_parts

_HELD = 1 << 22  # signs that are held at once
_TIE = 1e-12  # relative; sums in another order differ by less


def sign_flip_test(differences: Any, seed: int = 0, flips: int = 10_000) -> float:
    """The chance of a mean difference at least this far from 0 if both systems were equal.

    If they are, the sign of each difference is a toss of a coin. All 2^N signs are tried where
    that is no more than `flips`, else so many random ones, with (count + 1) / (flips + 1), so that
    the result is never 0. Of more than 1,024 differences, random parts turn together.

    Args:
        differences: (N,) of one system minus the other, item by item.
        seed: of the random signs.
        flips: how many of them.

    Raises:
        ConfigError: no differences, or no flips.
        NumericalError: NaN or infinity among them.

    Source: Fisher 1935, The Design of Experiments, section 21; Phipson & Smyth 2010,
    arXiv:1603.05766 (never 0).
    """
    d, flips = as_numbers(differences, "differences"), check_count("flips", flips)
    if not len(d):
        raise ConfigError("a test needs at least one difference; got none.")
    rng = np.random.default_rng(seed)
    if len(d) > MOST_UNITS:
        d = np.bincount(random_parts(len(d), rng), weights=d).astype(np.float64)
    found = abs(float(d.sum()))
    least = found - _TIE * float(np.abs(d).sum())
    if 2 ** min(len(d), 62) <= flips:
        ways: int = 2 ** len(d)
        codes = np.arange(ways)[:, None] >> np.arange(len(d))
        return _count_far(codes & 1, d, least) / ways
    block, far = max(1, _HELD // len(d)), 0
    for start in range(0, flips, block):
        bits = rng.integers(0, 2, (min(block, flips - start), len(d)), dtype=np.int8)
        far += _count_far(bits, d, least)
    return (far + 1) / (flips + 1)


def _count_far(bits: Any, d: Measured, least: float) -> int:
    """How many rows of bits, as signs of the differences, give a sum that far from 0."""
    sums = bits.astype(np.float64) @ (2 * d) - d.sum()
    return int(np.sum(np.abs(sums) >= least))


def mcnemar(a_right: Any, b_right: Any) -> float:
    """The exact two-sided p of McNemar's test: are both systems right equally often?

    Only items that one of the two has right count.

    Args:
        a_right: (N,) truth values, whether the first system is right.
        b_right: (N,) the same for the second.

    Raises:
        ShapeError: not two rows of one length.
        ConfigError: values other than true and false.

    Source: McNemar 1947, Note on the sampling error of the difference between correlated
    proportions; exact by the binomial distribution.
    """
    a, b = as_numbers(a_right, "a_right"), as_numbers(b_right, "b_right")
    if a.shape != b.shape:
        raise ShapeError(f"a_right has {len(a)} items and b_right {len(b)}; they must be the same.")
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ConfigError("a_right and b_right must be true or false, whether each item is right.")
    only_a, only_b = int(np.sum(a > b)), int(np.sum(b > a))
    if only_a == only_b:
        return 1.0
    return min(1.0, 2 * binomial_tail(max(only_a, only_b), only_a + only_b, 0.5))
