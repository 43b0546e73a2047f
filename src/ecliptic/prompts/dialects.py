"""The dialects of prompts as rows: which module reads and writes each."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, TypeAlias, cast

from ecliptic.errors import ConfigError
from ecliptic.prompts.reading import Alternative
from ecliptic.prompts.tree import Tree

Dialect: TypeAlias = Literal["plain", "a1111", "comfyui", "compel"]


class Grammar(Protocol):
    """What the module of every dialect offers."""

    def read(self, text: str) -> Tree:
        """The tree of a prompt, covering the whole text."""

    def write(self, tree: Tree) -> str:
        """A prompt that reads as `tree`."""

    def spans(self, text: str) -> list[tuple[str, float]]:
        """Text under its weight, without any other stage."""

    def readings(self, text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
        """What the prompt asks the encoders for."""

    def loras(self, tree: Tree) -> tuple[tuple[str, float], ...]:
        """Names and weights of the LoRAs that the prompt asks for."""


class Stages(Protocol):
    """What a dialect offers besides whose prompts split into sides and change over the steps."""

    def alternatives(self, text: str) -> list[tuple[str, float]]:
        """The sides and their weights."""

    def schedule(self, text: str, steps: int, base_steps: int | None) -> list[tuple[int, str]]:
        """The last step of each text."""


@dataclass(frozen=True)
class DialectModule:
    """One dialect."""

    module: str  # imported when first used
    staged: bool = False  # whether the module offers `Stages` too


_HOME = "ecliptic.prompts"
DIALECTS: Mapping[Dialect, DialectModule] = {
    "plain": DialectModule(f"{_HOME}.plain"),
    "a1111": DialectModule(f"{_HOME}.a1111.grammar", staged=True),
    "comfyui": DialectModule(f"{_HOME}.comfyui"),
    "compel": DialectModule(f"{_HOME}.compel.grammar"),
}


def grammar(dialect: Dialect) -> Grammar:
    """The module of a dialect.

    Raises:
        ConfigError: there is no dialect of that name.
    """
    return cast(Grammar, import_module(_module(dialect).module))


def stages(dialect: Dialect) -> Stages | None:
    """The same where it has stages, else None.

    Raises:
        ConfigError: there is no dialect of that name.
    """
    row = _module(dialect)
    return cast(Stages, import_module(row.module)) if row.staged else None


def _module(dialect: Dialect) -> DialectModule:
    if dialect not in DIALECTS:
        names = ", ".join(repr(name) for name in DIALECTS)
        raise ConfigError(f"no prompt dialect is called {dialect!r}; choose one of {names}.")
    return DIALECTS[dialect]
