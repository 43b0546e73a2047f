"""Containers within containers: how much they unfold to, and the dotted names of what they hold.

One list may be used in a thousand places. `check_extent` counts what that unfolds to before
anything is unfolded, and looks at each container once; after it, walking the whole tree is cheap.
"""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from ecliptic.errors import UnsafeFileError
from ecliptic.storage.budget import MAX_NAME, MAX_NAMES
from ecliptic.storage.pickled.pickle_names import Module

MAX_DEPTH = 64  # containers within containers
_CONTAINERS = (dict, list, tuple, Module)


# What one container holds, counted as often as it is used: the values and containers inside, the
# characters of all their dotted names and of the longest, and the levels of containers.
_Extent = tuple[int, int, int, int]


def check_extent(content: object, limit: int) -> None:
    """Refuse deep nesting, containers in themselves, and what unfolds to many or long names.

    Args:
        content: of a pickle.
        limit: the most values in all containers.

    Raises:
        UnsafeFileError: without the name of the file.
    """
    _Measure(limit).measure(content, 1)


class _Measure:
    """Counts each container once, by identity."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: dict[int, _Extent] = {}
        self.width = 1  # bytes per character; one wide key widens every name below it

    def measure(self, container: object, depth: int) -> _Extent:
        found = self.known.get(id(container))
        if found is None:
            if depth > MAX_DEPTH:  # also ends the walk through a container that contains itself
                raise self._refusal()
            found = self.known[id(container)] = self._add_up(container, depth)
        if found[0] > self.limit or depth + found[3] > MAX_DEPTH + 1:
            raise self._refusal()
        if found[2] > MAX_NAME + 1:  # and the dot
            raise UnsafeFileError(f"a name in the file has more than {MAX_NAME} characters")
        if found[1] * self.width > MAX_NAMES:
            raise UnsafeFileError(f"the names of its values have more than {MAX_NAMES} bytes")
        return found

    def _add_up(self, container: object, depth: int) -> _Extent:
        count = characters = longest = levels = 0
        for key, value in _items(container):
            name = str(key)
            length = len(name) + 1  # with a dot
            if not name.isascii():
                self.width = 4
            count += 1
            characters += length
            if value and isinstance(value, _CONTAINERS):  # most empty ones cost one byte
                inside, its_characters, its_longest, its_levels = self.measure(value, depth + 1)
                count += inside
                characters += its_characters + inside * length
                levels = max(levels, its_levels)
                length += its_longest
            if length > longest:
                longest = length
        return count, characters, longest, levels + 1

    def _refusal(self) -> UnsafeFileError:
        return UnsafeFileError(
            f"its containers are nested more than {MAX_DEPTH} deep, contain themselves, or "
            f"hold more than {self.limit} values"
        )


def walk(tree: object) -> Iterator[object]:
    """Everything in nested containers that is not a container; shared containers once."""
    waiting, seen = [tree], set[int]()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, _CONTAINERS):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(inner for _, inner in _items(value))


def count_values(tree: object, known: dict[int, int] | None = None) -> int:
    """Values of all tensors in `tree`; a shared tensor or container counts each time it is used.

    Args:
        tree: that `check_extent` has passed.
        known: counts of containers by identity, so that each is looked at once.
    """
    if isinstance(tree, Tensor):
        return tree.numel()
    if not isinstance(tree, _CONTAINERS):
        return 0
    known = {} if known is None else known
    if id(tree) not in known:
        known[id(tree)] = sum(count_values(inner, known) for _, inner in _items(tree))
    return known[id(tree)]


def visit_names(tree: object, visit: Callable[[str, object], None], prefix: str = "") -> None:
    """Call `visit(name, value)` for everything in `tree` that is not a container.

    Args:
        tree: that `check_extent` has passed.
        visit: takes the dotted name and the value.
        prefix: the dotted name of `tree` itself.
    """
    if not isinstance(tree, _CONTAINERS):
        visit(prefix, tree)
        return
    for key, value in _items(tree):
        visit_names(value, visit, f"{prefix}.{key}" if prefix else str(key))


def _items(container: object) -> Iterable[tuple[object, object]]:
    if isinstance(container, Module):
        container = container.attributes
    if isinstance(container, dict):
        return container.items()
    return enumerate(container) if isinstance(container, (list, tuple)) else ()
