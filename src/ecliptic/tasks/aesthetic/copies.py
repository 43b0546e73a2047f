"""Which rows are the same image, and which images and pairs belong together. N rows, E vector size.

The same picture can have two names, and the last bits of its vector depend on the batch that it was
computed in. If one copy is learnt from and the other tested, the test is too easy.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ecliptic.scoring import FOLDS

SAME = 2e-6  # squared distance of two unit vectors: a cosine of 1 - 1e-6
_HELD = 1 << 22  # distances that are held at once


def find_copies(vectors: Tensor) -> tuple[list[int], Tensor]:
    """The first row of each different image, and for each row the place of its own there.

    Two rows whose cosine is above 1 - 1e-6 are one image, and so are the ends of a chain of such.
    """
    equal: dict[bytes, int] = {}
    x = vectors.detach().cpu().float().contiguous()
    places = [equal.setdefault(row.tobytes(), len(equal)) for row in x.numpy()]
    firsts = _first_rows(places, len(equal))
    joined = join_things(len(firsts), _near_pairs(x[firsts]))
    numbers: dict[int, int] = {}
    members = [numbers.setdefault(joined[place], len(numbers)) for place in places]
    return _first_rows(members, len(numbers)), torch.tensor(members, dtype=torch.int64)


def are_copies(one: Tensor, other: Tensor) -> Tensor:
    """Whether (..., E) unit vectors of two images are those of one."""
    return (one.double() - other.double()).square().sum(-1) < SAME


def _first_rows(members: Sequence[int], count: int) -> list[int]:
    rows = [-1] * count
    for row, place in enumerate(members):
        if rows[place] < 0:
            rows[place] = row
    return rows


def _near_pairs(x: Tensor) -> Iterator[tuple[int, int]]:
    """Pairs of rows that are the same image.

    Rows are sorted by the value that varies most. Two that are the same differ there by less than
    their distance, so each strip of rows is compared with a few that follow it.
    """
    if len(x) < 2:
        return
    key = x[:, x.std(dim=0).nan_to_num().argmax()].double()
    order = key.argsort()
    x, key = x[order], key[order].contiguous()
    ends = torch.searchsorted(key, key + SAME**0.5, right=True)
    start = 0
    while start < len(x):
        room = max(1, _HELD // max(1, int(ends[start]) - start))
        stop = min(len(x), start + min(room, 1024))
        end = int(ends[stop - 1])
        ones, others = x[start:stop], x[start:end]
        near = (ones @ others.T > 1 - 2 * SAME).nonzero()  # float32; the exact test follows
        near = near[near[:, 0] < near[:, 1]]
        same = are_copies(ones[near[:, 0]], others[near[:, 1]])
        found = order[start + near[same]]
        yield from map(tuple, found.tolist())
        start = stop


def number_groups(groups: Sequence[Hashable], rows: list[int], members: Tensor) -> Tensor:
    """(N,) a number for the group of each different image; groups that share an image are one."""
    marks = number_names(groups)
    joined = join_things(
        max(marks) + 1, zip(marks, (marks[rows[m]] for m in members.tolist()), strict=True)
    )
    return torch.tensor([joined[marks[row]] for row in rows])


def number_names(groups: Sequence[Hashable]) -> list[int]:
    """The number of each name, in the order in which they first appear."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def number_pairs(ends: Tensor) -> Tensor:
    """(2, P) the images of each pair -> (P,) a number for each different pair, in any order."""
    numbers: Tensor = torch.unique(ends.sort(dim=0).values, dim=1, return_inverse=True)[1]
    return numbers


def group_pairs(ends: Tensor, groups: Sequence[Hashable] | None) -> tuple[Tensor, bool]:
    """(P,) the group of each pair, and whether pairs of two groups share images.

    Without groups, pairs that share images are together; if this leaves too few parts, the choices
    between the same two images are.
    """
    if groups is not None:
        marks = torch.tensor(number_names(groups))
    else:
        joined = join_things(int(ends.max()) + 1, ((a, b) for a, b in ends.T.tolist()))
        marks = torch.tensor([joined[first] for first in ends[0].tolist()])
        sizes = torch.bincount(marks)
        if int((sizes > 0).sum()) < FOLDS or int(sizes.max()) > len(marks) / 2:
            marks = number_pairs(ends)
    homes = torch.unique(torch.stack([ends.flatten(), marks.repeat(2)], dim=1), dim=0)[:, 0]
    return marks, len(torch.unique(homes)) < len(homes)


def join_things(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` things, the first of those that are joined with it through `pairs`."""
    parents = list(range(count))

    def find(thing: int) -> int:
        while parents[thing] != thing:
            parents[thing] = parents[parents[thing]]
            thing = parents[thing]
        return thing

    for one, other in pairs:
        a, b = sorted((find(one), find(other)))
        parents[b] = a
    return [find(thing) for thing in range(count)]
