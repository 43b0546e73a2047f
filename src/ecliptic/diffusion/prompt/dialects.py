"""The dialects of prompts as rows: which module reads and writes each."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, TypeAlias, cast

from ecliptic.diffusion.prompt.reading import Alternative
from ecliptic.diffusion.prompt.tree import Tree
from ecliptic.errors import ConfigError

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
class Row:
    """One dialect."""

    module: str  # imported when first used
    staged: bool = False  # whether the module offers `Stages` too


_HOME = "ecliptic.diffusion.prompt"
DIALECTS: Mapping[Dialect, Row] = {
    "plain": Row(f"{_HOME}.plain"),
    "a1111": Row(f"{_HOME}.a1111", staged=True),
    "comfyui": Row(f"{_HOME}.comfyui"),
    "compel": Row(f"{_HOME}.compel"),
}


def grammar(dialect: Dialect) -> Grammar:
    """The module of a dialect.

    Raises:
        ConfigError: there is no dialect of that name.
    """
    return cast(Grammar, import_module(_row(dialect).module))


def stages(dialect: Dialect) -> Stages | None:
    """The same where it has stages, else None.

    Raises:
        ConfigError: there is no dialect of that name.
    """
    row = _row(dialect)
    return cast(Stages, import_module(row.module)) if row.staged else None


def _row(dialect: Dialect) -> Row:
    if dialect not in DIALECTS:
        names = ", ".join(repr(name) for name in DIALECTS)
        raise ConfigError(f"no prompt dialect is called {dialect!r}; choose one of {names}.")
    return DIALECTS[dialect]
