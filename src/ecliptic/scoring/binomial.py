"""Tails of the binomial distribution, exact for any n, without SciPy.

Source: DLMF 8.17.5 (the tail as an incomplete beta function) and 8.17.22 (its continued fraction).
"""

import math

from ecliptic.checks import check_count, check_range
from ecliptic.errors import ConfigError

_TERMS = 200  # of the continued fraction; more for large counts, by their square root
_HALVINGS = 60  # of an interval of probabilities


def binomial_tail(successes: int, n: int, p: float) -> float:
    """The chance of at least `successes` in n independent trials of probability p.

    Raises:
        ConfigError: counts that are not whole or do not fit together, or p outside 0 to 1.
    """
    successes, n = check_successes(successes, n)
    check_range("p", p, 0.0, 1.0)
    return 1.0 if successes == 0 else beta_share(p, successes, n - successes + 1)


def find_probability(successes: int, n: int, tail: float) -> float:
    """The p at which `binomial_tail(successes, n, p)` is `tail`; it grows with p."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if binomial_tail(successes, n, middle) < tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def check_successes(successes: int, n: int) -> tuple[int, int]:
    """Both as whole numbers; ConfigError unless there are trials, and at most n successes."""
    n, successes = check_count("n", n), check_count("successes", successes, 0)
    if successes > n:
        raise ConfigError(f"{successes} successes in {n} trials are too many; swap the two?")
    return successes, n


def beta_share(x: float, a: float, b: float) -> float:
    """I_x(a, b), the regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other side converges faster
        return 1 - beta_share(1 - x, b, a)
    power = a * math.log(x) + b * math.log1p(-x)
    size = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    fraction = 1.0
    for m in range(_TERMS + 4 * math.isqrt(int(a + b)), 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    return math.exp(power + size) / (a * fraction)
