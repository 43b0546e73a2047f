"""A module whose parts have other names: the mechanism behind every facade here."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from torch import nn


class Renamed(nn.Module):
    """Redirects reads and writes of the names in `aliases` to their dotted paths.

    Both names refer to the same parameter, so training, replacing or moving it affects both.
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
