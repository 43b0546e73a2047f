"""Names that a package offers but imports only when they are first used, so that it stays cheap."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def arriving_later(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that fetches each name of `homes` from where it is defined.

    Args:
        package: `__name__` of the package.
        homes: name -> the module inside `package` that defines it. No module may be called like
            a name: once imported, it would stand in the name's place.
    """

    def fetch(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return fetch
