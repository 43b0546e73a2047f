"""Measures of whole sets of vectors: how near two sets are, and how one is spread.

Pairs are compared in strips, and sums are float64. The unit vectors of a set, as float64, are held.
A, B rows of two sets, N rows, E vector size.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_range
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.row_pairs import held, mean_unit, row_blocks, unit
from ecliptic.scoring.similarity import Rows, check_spaces

_STRIP = 1 << 20  # pairs that are compared at once
_TESTED = 1024  # vectors of a set in a test, whose matrix of pairs is held


def clip_i(images: Rows, others: Rows) -> Tensor:
    """How near each image is to a set of others on average; the mean is CLIP-I.

    No pair is formed: the mean of cosines is the product with the mean of unit vectors.

    Args:
        images: (A, E) vectors, such as of generated images.
        others: (B, E) vectors, such as of real ones.

    Returns:
        (A,) mean cosines, from -1 to 1.

    Raises:
        ConfigError: no others.
        ShapeError: vectors of two sizes.

    Source: Ruiz et al. 2023, DreamBooth, arXiv:2208.12242, section 4.2.
    """
    _check_sets(images, others)
    middle = mean_unit(others)
    return torch.cat([unit(x) @ middle for (x,) in row_blocks(images)])


def cmmd(
    a: Rows,
    b: Rows,
    sigma: float = 10.0,
    scale: float = 1000.0,
    *,
    unbiased: bool = True,
    paired: bool = False,
) -> float:
    """The distance of two sets of images by the maximum mean discrepancy of their unit vectors.

    Args:
        a: (A, E) vectors, such as of generated images.
        b: (B, E) vectors, such as of real ones.
        sigma: width of the Gaussian kernel exp(-d^2 / 2 sigma^2).
        scale: the result is times this.
        unbiased: leave out each vector's pair with itself, so that two samples of one distribution
            give 0 on average (it may be below 0). False: the published formula, which is above 0
            for them, by more the fewer they are: compare it only between sets of equal sizes.
        paired: row i of both sets shares its content, such as two images of one caption. The pairs
            of such rows are left out too: they are nearer than others, so the result would be too
            low. The published formula cannot leave them out.

    Raises:
        ConfigError: too few vectors, a sigma that is not above 0, or pairs in the published
            formula.
        ShapeError: vectors of two sizes, or pairs of two numbers of rows.

    Source: Jayasumana et al. 2024, Rethinking FID, arXiv:2401.09603, section 4; unbiased by
    Gretton et al. 2012, A Kernel Two-Sample Test, lemma 6, whose last form is for pairs.
    """
    _check_sets(a, b, paired=paired)
    check_range("sigma", sigma, above=True)
    if paired and not unbiased:
        raise ConfigError(
            "the published CMMD has no form for pairs; leave `paired` out, or take the unbiased."
        )
    x, y = _units(a), _units(b)
    least = 2 if unbiased else 1
    if min(len(x), len(y)) < least:
        raise ConfigError(
            f"CMMD needs at least {least} vectors in each set, got {len(x)} and {len(y)}."
        )
    parts = [_mean_kernel(x, x, sigma), _mean_kernel(y, y, sigma)]
    if unbiased:  # of the pairs with itself, the kernel less 1 is 0
        parts = [p * n / (n - 1) for p, n in zip(parts, (len(x), len(y)), strict=True)]
    across = _mean_kernel(x, y, sigma)
    if paired:
        own = ((x - y).square().sum(-1) / (-2 * sigma**2)).expm1().mean()
        across = (across * len(x) - float(own)) / (len(x) - 1)
    return scale * (sum(parts) - 2 * across)


def cmmd_test(
    a: Rows,
    b: Rows,
    sigma: float = 10.0,
    seed: int = 0,
    permutations: int = 999,
    *,
    paired: bool = False,
) -> float:
    """The chance of an unbiased CMMD at least this large if both sets were of one distribution.

    Vectors of the two sets are exchanged at random: all of them, or with `paired` those of a pair.
    Of more than 1,024 vectors in a set, so many random ones are taken, which finds smaller
    differences less often but is no less right.

    Args:
        a: (A, E) vectors.
        b: (B, E) vectors.
        sigma: of `cmmd`.
        seed: of what is random.
        permutations: how many exchanges.
        paired: row i of both sets shares its content, such as two images of one caption. Without
            it, p of such sets is much too large, and says nothing.

    Raises:
        ConfigError: fewer than 2 vectors in a set, or no permutations.
        ShapeError: vectors of two sizes, or pairs of two numbers of rows.

    Source: Gretton et al. 2012, A Kernel Two-Sample Test, section 8; within pairs as
    Fisher 1935, The Design of Experiments, section 21.
    """
    _check_sets(a, b, paired=paired)
    check_range("sigma", sigma, above=True)
    check_count("permutations", permutations)
    generator = torch.Generator().manual_seed(seed)
    x, y = _units(a), _units(b)
    if paired:
        x, y = _take(torch.cat([x, y], dim=1), generator).chunk(2, dim=1)
    else:
        x, y = _take(x, generator), _take(y, generator)
    if min(len(x), len(y)) < 2:
        raise ConfigError(f"a test needs at least 2 vectors in each set, got {len(x)}, {len(y)}.")
    both = torch.cat([x, y])
    kernel = torch.cat([d.div_(-2 * sigma**2).expm1_() for d in _square_distances(both, both)])
    kernel.fill_diagonal_(0)
    first = torch.zeros(len(both), permutations + 1, dtype=torch.float64)  # 1: of the first set
    first[: len(x), 0] = 1  # as it is
    if paired:
        kept = torch.rand(len(x), permutations, generator=generator) < 0.5
        first[:, 1:] = torch.cat([kept, ~kept])
    else:
        orders = torch.rand(permutations, len(both), generator=generator).argsort(dim=1)
        first.T[1:].scatter_(1, orders[:, : len(x)], 1.0)
    near = kernel @ first
    own = (first * near).sum(0)
    across = near.sum(0) - own
    rest = kernel.sum() - own - 2 * across
    n, m = len(x), len(y)
    found = own / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)
    least = found[0] - 1e-12 * found[0].abs()
    return (int((found[1:] >= least).sum()) + 1) / (permutations + 1)


def _take(x: Tensor, generator: torch.Generator) -> Tensor:
    """At most `_TESTED` of the rows, at random."""
    if len(x) <= _TESTED:
        return x
    return x[torch.randperm(len(x), generator=generator)[:_TESTED]]


def _mean_kernel(x: Tensor, y: Tensor, sigma: float) -> float:
    """The mean of exp(-d^2 / 2 sigma^2) - 1 over all pairs; the 1 would cost digits."""
    total = 0.0
    for squares in _square_distances(x, y):
        total += float(squares.div_(-2 * sigma**2).expm1_().sum())
    return total / (len(x) * len(y))


def alignment(images: Rows, texts: Rows) -> float:
    """The mean squared distance of the unit vectors of each pair; 0 is perfect, 2 is unrelated.

    Raises:
        ConfigError: no rows.
        ShapeError: the shapes differ.

    Source: Wang & Isola 2020, arXiv:2005.10242, section 4.1, with alpha = 2.
    """
    total = rows = 0.0
    for x, y in row_blocks(images, texts):
        total += float((unit(x) - unit(y)).square().sum())
        rows += len(x)
    if not rows:
        raise ConfigError("there is no alignment of no pairs; give at least one.")
    return total / rows


def uniformity(vectors: Rows, t: float = 2.0) -> float:
    """How evenly a set fills the sphere: ln of the mean of exp(-t d^2) over its pairs.

    0 is all in one point; lower is more even.

    Raises:
        ConfigError: fewer than 2 rows, or t that is not above 0.

    Source: Wang & Isola 2020, arXiv:2005.10242, section 4.1.
    """
    check_range("t", t, above=True)
    x = _units(vectors)
    if len(x) < 2:
        raise ConfigError(f"uniformity needs at least 2 vectors, got {len(x)}.")
    total = sum(float(squares.mul_(-t).exp_().sum()) for squares in _square_distances(x, x))
    mean = (total - len(x)) / (len(x) * (len(x) - 1))  # without each one's pair with itself
    return math.log(mean) if mean > 0 else -math.inf


def modality_gap(images: Rows, texts: Rows) -> float:
    """The distance between the means of the unit vectors of two sets, from 0 to 2.

    Source: Liang et al. 2022, Mind the Gap, arXiv:2203.02053, section 2.
    """
    _check_sets(images, texts)
    return float((mean_unit(images) - mean_unit(texts)).norm())


def _check_sets(a: Rows, b: Rows, *, paired: bool = False) -> None:
    check_spaces(a, b)
    shapes = [tuple(getattr(held(rows), "shape", ())) for rows in (a, b)]
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ShapeError(
            f"sets must be (A, E) and (B, E) vectors of one model, got {shapes[0]} and {shapes[1]}."
        )
    if paired and shapes[0] != shapes[1]:
        raise ShapeError(
            f"{shapes[0][0]} and {shapes[1][0]} vectors are no pairs; row i of both must share its "
            "content."
        )


def _units(rows: Rows) -> Tensor:
    return torch.cat([unit(block) for (block,) in row_blocks(rows)])


def _square_distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """|x - y|^2 of all pairs, strips of (n, B); never below 0."""
    sizes = y.square().sum(-1)
    block = max(1, _STRIP // max(1, len(y)))
    for start in range(0, len(x), block):
        some = x[start : start + block]
        squares = some.square().sum(-1, keepdim=True) + sizes - 2 * some @ y.T
        yield squares.clamp_(min=0)
