"""Folds of a cross-validation that keep groups together.

Pictures of one author or series look alike. If some of them are trained on and others tested, the
test is too easy, so all rows of a group are in one fold. N rows.
"""

import heapq

import torch
from torch import Tensor

from ecliptic.errors import ConfigError

FOLDS = 5


def split_folds(groups: Tensor, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """(N,) the group of each row -> (N,) its fold, from 0; folds have about equally many rows.

    Raises:
        ConfigError: fewer groups than folds.
    """
    names, members, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise ConfigError(
            f"{folds} parts that are tested in turn need at least {folds} groups, got "
            f"{len(names)}; add rows of {folds - len(names)} or more other groups, or leave the "
            "groups out if rows of one group are no more alike than others."
        )
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    order = order[counts[order].argsort(descending=True, stable=True)]  # large ones first
    sizes = [(0, fold) for fold in range(folds)]
    places = torch.empty(len(names), dtype=torch.int64)
    for group, rows in zip(order.tolist(), counts[order].tolist(), strict=True):
        size, fold = heapq.heappop(sizes)  # the smallest fold
        places[group] = fold
        heapq.heappush(sizes, (size + rows, fold))
    return places[members]


def take_groups(groups: Tensor, folds: Tensor, share: float, seed: int = 0) -> Tensor:
    """(N,) True for the rows of a random `share` of the groups of each fold, at least one."""
    generator = torch.Generator().manual_seed(seed)
    taken = torch.zeros(len(groups), dtype=torch.bool)
    for fold in torch.unique(folds):
        names = torch.unique(groups[folds == fold])
        count = max(1, round(share * len(names)))
        some = names[torch.randperm(len(names), generator=generator)[:count]]
        taken |= torch.isin(groups, some)
    return taken
