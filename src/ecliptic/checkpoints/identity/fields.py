"""Typed access to the JSON configs of other projects, whose fields may be absent or null."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from ecliptic.checks import is_finite
from ecliptic.errors import CorruptFileError, UnsupportedLayoutError

T = TypeVar("T")


class Fields:
    """One JSON object; `where` names it in messages ("config.json text_config")."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def get(self, name: str, default: T) -> T:
        """The value, of the type that `default` has; absent or null gives `default`."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(default):
            self.refuse_damaged(name, f"a {type(default).__name__}")
        if isinstance(value, float) and not is_finite(value):
            self.refuse_damaged(name, "a finite number")
        return value

    def count(self, name: str, default: int) -> int:
        """A whole number of at least 1."""
        value = self.get(name, default)
        return value if value >= 1 else self.refuse_damaged(name, "a whole number of at least 1")

    def square(self, name: str, default: int) -> int:
        """An edge in pixels; a list of equal edges is one edge."""
        value = self.values.get(name)
        if isinstance(value, list) and value and all(edge == value[0] for edge in value):
            value = value[0]
        if isinstance(value, list):
            self.refuse(name, "one edge for a square")
        return Fields({name: value}, self.where).get(name, default)

    def triple(self, name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three numbers, one per colour."""
        value = self.get(name, list(default))
        if len(value) != 3 or not all(isinstance(x, int | float) and is_finite(x) for x in value):
            self.refuse(name, "three numbers")
        red, green, blue = map(float, value)
        return red, green, blue

    def table(self, name: str) -> "Fields":
        """A nested object; absent or null gives an empty one."""
        value = self.values.get(name)
        if not isinstance(value, Mapping | None):
            self.refuse(name, "an object")
        return Fields(value or {}, f"{self.where} {name}")

    def refuse_damaged(self, name: str, needed: str) -> NoReturn:
        """Raise CorruptFileError for an impossible value."""
        raise CorruptFileError(
            f"{self.where}: {name} is {self.values.get(name)!r:.200}, {needed} is needed."
        )

    def refuse(self, name: str, supported: str) -> NoReturn:
        """Raise UnsupportedLayoutError for a valid value that ecliptic does not support."""
        raise UnsupportedLayoutError(
            f"{self.where}: {name} is {self.values.get(name)!r}; "
            f"ecliptic supports only {supported}."
        )
