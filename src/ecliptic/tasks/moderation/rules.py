"""`Concept` and `Rules`: what a moderator looks for, in Python or in a TOML file."""

import os
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ecliptic.checks import is_finite
from ecliptic.errors import ConfigError
from ecliptic.settings import load_toml

Action = Literal["label", "review", "block"]  # what a program should do; nothing is done here
SIDES = ("positive", "examples", "contrast", "contrast_examples")


@dataclass(frozen=True)
class Concept:
    """One thing to look for, by words and by example images.

    The score of an image is its largest cosine with `positive` and `examples`, minus its largest
    cosine with `contrast` and `contrast_examples`.
    """

    name: str
    positive: tuple[str, ...] = ()  # texts that describe it
    examples: tuple[str, ...] = ()  # images that show it: files, folders or globs
    contrast: tuple[str, ...] = ()  # texts of what looks like it, but is not meant
    contrast_examples: tuple[str, ...] = ()  # the same as images
    threshold: float | None = None  # an image of at least this score is flagged; None: not yet set
    action: Action = "label"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"a concept needs a name, got {self.name!r}.")
        if self.name != self.name.strip():
            raise ConfigError(
                f"the name {self.name!r} begins or ends with a space, which nobody sees; remove it."
            )
        for side in SIDES:
            object.__setattr__(self, side, _to_texts(self.name, side, getattr(self, side)))
        if not (self.positive or self.examples):
            raise ConfigError(
                f"the concept {self.name!r} describes nothing; give texts in `positive` or images "
                "in `examples`."
            )
        if self.action not in get_args(Action):
            raise ConfigError(
                f"the action of {self.name!r} must be one of {', '.join(get_args(Action))}, got "
                f"{self.action!r}."
            )
        known = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if self.threshold is not None and not (known and is_finite(self.threshold)):
            raise ConfigError(
                f"the threshold of {self.name!r} must be a finite number, got {self.threshold!r}."
            )


@dataclass(frozen=True)
class Rules:
    """All concepts, and reference images that show what is ordinary."""

    concepts: tuple[Concept, ...]
    reference: tuple[str, ...] = ()  # images of every kind: files, folders or globs
    version: str = ""  # a name for people; the fingerprint of the rules is added to it

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", check_concepts(self.concepts))
        object.__setattr__(self, "reference", _to_texts("rules", "reference", self.reference))


def read_rules(path: Path | str) -> Rules:
    """Read rules from a TOML file; the paths in it are relative to its folder.

    Raises:
        SettingsError: no such file, not TOML, an unknown field, or a wrong type.
        ConfigError: no concepts, two of one name, or one that describes nothing.
    """
    path = Path(path)
    rules = load_toml(Rules, path)

    def place(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(os.fspath(path.parent / one) for one in paths)

    concepts = tuple(
        replace(
            one,
            examples=place(one.examples),
            contrast_examples=place(one.contrast_examples),
        )
        for one in rules.concepts
    )
    return replace(rules, concepts=concepts, reference=place(rules.reference))


def check_concepts(concepts: object) -> tuple[Concept, ...]:
    """The concepts as a tuple.

    Raises:
        ConfigError: none, something else, or two of one name.
    """
    if not isinstance(concepts, list | tuple) or not all(
        isinstance(one, Concept) for one in concepts
    ):
        raise ConfigError(f"concepts must be a list of Concept, got {type(concepts).__name__}.")
    if not concepts:
        raise ConfigError("there are no concepts; give at least one.")
    names = [one.name for one in concepts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two concepts are called {twice!r}; rename one.")
    return tuple(concepts)


def require_thresholds(concepts: Iterable[Concept], names: Container[str] | None = None) -> None:
    """Raise ConfigError if a concept, or one of those in `names`, has no threshold yet."""
    for one in concepts:
        if one.threshold is None and (names is None or one.name in names):
            raise ConfigError(
                f"the concept {one.name!r} has no threshold; set one in the rules, or tune "
                "it on labelled images."
            )


def _to_texts(name: str, side: str, given: object) -> tuple[str, ...]:
    """The texts or paths of one side as strings."""
    items: list[Any] = list(given) if isinstance(given, list | tuple) else [None]
    if not all(isinstance(item, str | os.PathLike) and str(item).strip() for item in items):
        raise ConfigError(
            f"`{side}` of {name!r} must be a list of texts that are not empty, got {given!r:.200}."
        )
    return tuple(str(os.fspath(item)) for item in items)
