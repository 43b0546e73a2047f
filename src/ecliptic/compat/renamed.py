"""A module whose parts answer to other names: the one mechanism behind every facade here."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from torch import nn


class Renamed(nn.Module):
    """Reads and writes of the names in `aliases` go to the dotted paths they stand for.

    Both ends see the same parameter, so training, replacing or moving one does it to the other.
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        super().__init__()
        self.aliases = dict(aliases)

    def __getattr__(self, name: str) -> Any:
        path = self.__dict__.get("aliases", {}).get(name)
        return super().__getattr__(name) if path is None else attrgetter(path)(self)

    def __setattr__(self, name: str, value: Any) -> None:
        path = self.__dict__.get("aliases", {}).get(name)
        if path is None:
            super().__setattr__(name, value)
        else:
            owner, _, last = path.rpartition(".")
            setattr(attrgetter(owner)(self), last, value)
