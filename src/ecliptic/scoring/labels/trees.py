"""Trees of labels: probabilities add up from the leaves, and an answer may stop halfway.

Only leaves stand beside each other in the softmax, never parents and their children. The
probability of a node is the sum of its leaves. N images, L leaves, M nodes, the leaves first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError

STOP = -1  # the answer where no node is likely enough


@dataclass(frozen=True)
class LabelTree:
    """Names of leaves and of the nodes above them, and the path to each leaf."""

    leaves: tuple[str, ...]  # (L,)
    groups: tuple[str, ...]  # (M - L,) the inner nodes, outer ones first
    paths: tuple[tuple[int, ...], ...]  # (L,) places in `groups` from the top to each leaf

    @property
    def names(self) -> tuple[str, ...]:
        """(M,) the leaves, then the groups."""
        return self.leaves + self.groups

    def node_probabilities(self, probabilities: Tensor) -> Tensor:
        """(N, L) probabilities of leaves -> (N, M), each group the sum of its leaves."""
        count = len(self.leaves)
        if probabilities.ndim != 2 or probabilities.shape[1] != count:
            raise ShapeError(
                f"this tree has {count} leaves, but the probabilities are "
                f"{tuple(probabilities.shape)}."
            )
        member = torch.zeros(count, len(self.groups), dtype=probabilities.dtype)
        for leaf, path in enumerate(self.paths):
            member[leaf, list(path)] = 1
        return torch.cat([probabilities, probabilities @ member], dim=1)

    def deepest(self, probabilities: Tensor, sure: float) -> Tensor:
        """(N,) the deepest node of at least the probability `sure`, or `STOP` if there is none.

        Args:
            probabilities: (N, L) of the leaves.
            sure: more than 0.5, so that the nodes that reach it are on one path.

        Raises:
            ConfigError: `sure` is out of range.
        """
        if not 0.5 < sure <= 1:
            raise ConfigError(
                f"the probability of a node must be more than 0.5 and at most 1, so that two "
                f"branches cannot both reach it, got {sure!r}."
            )
        chances = self.node_probabilities(probabilities.double())
        depths = torch.tensor(self._depths(), dtype=torch.int64)
        reached = torch.where(chances >= sure, depths + 1, 0)  # NaN reaches nothing
        best, node = reached.max(dim=1)
        return torch.where(best > 0, node, STOP)

    def _depths(self) -> list[int]:
        """(M,) steps from the top to each node."""
        depths = [len(path) for path in self.paths]
        inner = {group: depth for path in self.paths for depth, group in enumerate(path)}
        return depths + [inner[group] for group in range(len(self.groups))]


def read_tree(labels: Mapping[str, object]) -> LabelTree:
    """The tree of nested names.

    Args:
        labels: a name -> a list of leaves, or a mapping of the same kind; a leaf beside groups has
            the value None: `{"animal": ["cat", "dog"], "vehicle": {"on rails": ["tram"]}}`.

    Raises:
        ConfigError: a name that is not a text, a group without leaves, or a name that is twice.
    """
    return make_tree(list(_walk(labels, ())))


def make_tree(paths: Sequence[Sequence[str]]) -> LabelTree:
    """The tree of paths from the top to each leaf, such as `("animal", "cat")`.

    Raises:
        ConfigError: no path, a name that is no text, or that stands in two places.
    """
    groups: dict[str, tuple[str, ...]] = {}  # name -> the names from the top to it
    leaves: dict[str, tuple[str, ...]] = {}
    for path in map(tuple, paths):
        if not path or not all(isinstance(name, str) and name.strip() for name in path):
            raise ConfigError(f"a path of labels must be names that are not empty, got {path!r}.")
        *above, leaf = path
        for depth, name in enumerate(above):
            if groups.setdefault(name, path[: depth + 1]) != path[: depth + 1]:
                raise ConfigError(f"the group {name!r} stands in two places of the tree.")
        if leaf in leaves:
            raise ConfigError(f"the label {leaf!r} stands in two places of the tree.")
        leaves[leaf] = path
    if not leaves:
        raise ConfigError("a tree needs at least one label.")
    if both := leaves.keys() & groups.keys():
        raise ConfigError(
            f"{min(both)!r} is a label and a group; parents and children never share one softmax."
        )
    places = {name: place for place, name in enumerate(groups)}
    rows = (tuple(places[name] for name in path[:-1]) for path in leaves.values())
    return LabelTree(tuple(leaves), tuple(groups), tuple(rows))


def _walk(labels: object, above: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    if isinstance(labels, Mapping):
        for name, below in labels.items():
            yield from [(*above, name)] if below is None else _walk(below, (*above, name))
    elif isinstance(labels, Iterable) and not isinstance(labels, str) and (some := list(labels)):
        yield from ((*above, name) for name in some)
    else:
        raise ConfigError(
            f"the group {above[-1]!r} must have a list of labels or more groups, got {labels!r}."
        )
