"""Student's distribution, without SciPy.

Source: DLMF 8.17 (the incomplete beta function); Student 1908, The probable error of a mean.
"""

import math
from functools import lru_cache

from ecliptic.scoring.binomial import beta_share

_HALVINGS = 60  # of the range of x


@lru_cache(maxsize=256)
def student_quantile(tail: float, freedom: int) -> float:
    """The t that a value of Student's distribution exceeds with the chance `tail`, below 0.5."""
    low, high = 0.0, 1.0  # of x = freedom / (freedom + t^2), which falls as t grows
    for _ in range(_HALVINGS):
        x = (low + high) / 2
        if beta_share(x, freedom / 2, 0.5) < 2 * tail:
            low = x
        else:
            high = x
    return math.sqrt(freedom * (1 - high) / high)
