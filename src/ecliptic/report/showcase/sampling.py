"""A random sample of any number of items, in bounded memory and the same on every run."""

import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

LIMIT = 1000  # images of the user in the demo, by default


def sample(items: Iterable[T], limit: int) -> tuple[list[T], int]:
    """At most `limit` of the items, in their order, and the number of all items.

    Each item is equally likely. Source: Vitter 1985, Random Sampling with a Reservoir, algorithm R.
    """
    chosen: list[tuple[int, T]] = []
    draw = random.Random(0)
    count = 0
    for count, item in enumerate(items, start=1):
        if len(chosen) < limit:
            chosen.append((count, item))
        elif (place := draw.randrange(count)) < limit:
            chosen[place] = (count, item)
    chosen.sort(key=lambda pair: pair[0])
    return [item for _, item in chosen], count
