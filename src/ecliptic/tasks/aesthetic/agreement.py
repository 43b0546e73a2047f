"""How well people agree whose ratings a head learns: no head can follow them better than that.

The ratings of each image are split into two random halves, and the order of the images by one half
is compared with that by the other. Half as many ratings agree less than all of them would; the
formula of Spearman and Brown corrects for it. N images.
Source: Spearman 1910 and Brown 1910, "Correlation calculated from faulty data".
"""

import torch
from torch import Tensor

from ecliptic.scoring import spearman

SPLITS = 50


def find_agreement(ratings: Tensor, images: Tensor, least: int, seed: int = 0) -> float | None:
    """Spearman's correlation with the ratings of as many other people; None if it is not known.

    Args:
        ratings: (R,) single ratings.
        images: (R,) the number of the image of each.
        least: images with two or more ratings that are needed.
        seed: of the halves.
    """
    counts = torch.bincount(images)
    several = counts >= 2
    if int(several.sum()) < least:
        return None
    used = several[images]
    values, places = ratings[used].double(), images[used]
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(SPLITS):
        order = torch.randperm(len(values), generator=generator)
        order = order[places[order].argsort(stable=True)]  # by image, at random inside it
        first = torch.zeros(len(values), dtype=torch.bool)
        first[order] = _is_first_half(places[order])
        halves = [_average(values[half], places[half], several) for half in (first, ~first)]
        found.append(spearman(*halves))
    half = sum(found) / SPLITS
    return 2 * half / (1 + half) if half > -1 else -1.0


def _is_first_half(places: Tensor) -> Tensor:
    """(R,) sorted images -> whether each rating is in the first half of those of its image."""
    counts = torch.bincount(places)
    starts = counts.cumsum(0) - counts
    rank = torch.arange(len(places)) - starts[places]
    return rank < counts[places] // 2


def _average(values: Tensor, places: Tensor, several: Tensor) -> Tensor:
    """(N,) the mean of each image that has several ratings."""
    size = len(several)
    sums = torch.zeros(size, dtype=torch.float64).index_add(0, places, values)
    return (sums / torch.bincount(places, minlength=size).clamp(min=1))[several]
