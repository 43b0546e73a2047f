"""The dialects of prompts, one row each: the module that reads and writes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, TypeAlias, cast

from ecliptic.errors import ConfigError
from ecliptic.prompts.reading import Alternative
from ecliptic.prompts.tree import Tree

Dialect: TypeAlias = Literal["plain", "a1111", "comfyui", "compel"]


class Grammar(Protocol):
    """The functions that the module of every dialect has."""

    def read(self, text: str) -> Tree:
        """The tree of a prompt; it covers the whole text."""

    def write(self, tree: Tree) -> str:
        """A prompt whose tree is `tree`."""

    def spans(self, text: str) -> list[tuple[str, float]]:
        """Texts with their weights: the attention stage alone."""

    def readings(self, text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
        """The readings for the encoders."""


class Stages(Protocol):
    """More functions, for a dialect whose prompts split into sides and change over the steps."""

    def alternatives(self, text: str) -> list[tuple[str, float]]:
        """The sides and their weights."""

    def schedule(self, text: str, steps: int, base_steps: int | None) -> list[tuple[int, str]]:
        """The last step of each text."""

    def second_readings(
        self, text: str, steps: int | None, negative: bool, base_steps: int
    ) -> tuple[Alternative, ...]:
        """The readings for a second pass, after a first one of `base_steps`."""


@dataclass(frozen=True)
class DialectModule:
    """One dialect."""

    module: str  # imported when first used
    staged: bool = False  # whether the module has the functions of `Stages` too


_HOME = "ecliptic.prompts"
DIALECTS: Mapping[Dialect, DialectModule] = {
    "plain": DialectModule(f"{_HOME}.plain"),
    "a1111": DialectModule(f"{_HOME}.a1111.grammar", staged=True),
    "comfyui": DialectModule(f"{_HOME}.comfyui"),
    "compel": DialectModule(f"{_HOME}.compel.grammar"),
}


def grammar(dialect: Dialect) -> Grammar:
    """Import the module of a dialect.

    Raises:
        ConfigError: there is no such dialect.
    """
    return cast(Grammar, import_module(_find_row(dialect).module))


def stages(dialect: Dialect) -> Stages | None:
    """Import the module of a dialect that has stages; None for other dialects.

    Raises:
        ConfigError: there is no such dialect.
    """
    row = _find_row(dialect)
    return cast(Stages, import_module(row.module)) if row.staged else None


def _find_row(dialect: Dialect) -> DialectModule:
    if dialect not in DIALECTS:
        names = ", ".join(repr(name) for name in DIALECTS)
        raise ConfigError(f"no prompt dialect is called {dialect!r}; choose one of {names}.")
    return DIALECTS[dialect]
