"""How prompts are read and encoded: the options of a conditioner's call, checked once."""

import difflib
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypedDict, get_args

from ecliptic.diffusion.behaviours import Behaviour, behaviour_named
from ecliptic.diffusion.emphasis import Emphasis, EmphasisName
from ecliptic.diffusion.inversion_names import InversionMatch
from ecliptic.diffusion.layouts import LAYOUTS, Layout
from ecliptic.errors import ConfigError
from ecliptic.prompts import Dialect


@dataclass(frozen=True)
class Own:
    """What a dialect's own tool does, where nothing else is asked for."""

    emphasis: EmphasisName
    layout: Layout  # of long="chunk"
    match: InversionMatch  # how names of textual inversions are found


OWN = {
    "plain": Own("ignore", "a1111", "diffusers"),
    "a1111": Own("original", "a1111", "a1111"),
    "comfyui": Own("comfyui", "comfyui", "comfyui"),
    "compel": Own("compel", "compel", "diffusers"),
}


class HowOptions(TypedDict, total=False):
    """The keyword arguments that `Options` takes."""

    dialect: Dialect
    emphasis: EmphasisName | Emphasis | None
    long: Layout | Literal["chunk"]
    clip_skip: int | None
    compat: str | Behaviour
    steps: int | None
    grad: bool


@dataclass(frozen=True)
class Options:
    """How the prompts of one call are read and encoded."""

    dialect: Dialect = "plain"  # what brackets, signs and words like BREAK mean
    emphasis: EmphasisName | Emphasis | None = (
        None  # what weights do; None is the dialect's own tool's way
    )
    long: Layout | Literal["chunk"] = (
        "truncate"  # "chunk" is the dialect's own layout; or a layout by name
    )
    clip_skip: int | None = None  # hidden layers skipped, counted as in diffusers
    compat: str | Behaviour = "diffusers"  # whose way, where tools disagree
    steps: int | None = None  # of sampling, for prompts that change over them
    grad: bool = False  # keep what gradients need

    def __post_init__(self) -> None:
        known = get_args(Dialect)
        if self.dialect not in known:
            raise ConfigError(f"dialect must be one of {', '.join(known)}, got {self.dialect!r}.")
        if self.long != "chunk" and self.long not in LAYOUTS:
            raise ConfigError(
                f"long must be one of chunk, {', '.join(LAYOUTS)}, got {self.long!r}."
            )
        if self.steps is not None and (type(self.steps) is not int or self.steps < 1):
            raise ConfigError(f"steps must be a whole number from 1, got {self.steps!r}.")
        _ = self.behaviour, self.weighting  # both check themselves

    @classmethod
    def of(cls, options: Any) -> "Options":
        """From keyword arguments; ConfigError for a name that is none."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
                raise ConfigError(f"there is no option {name!r}; {hint}")
        return cls(**options)

    @property
    def behaviour(self) -> Behaviour:
        """The choices where tools disagree."""
        return behaviour_named(self.compat)

    @property
    def weighting(self) -> Emphasis:
        """What weights do."""
        if isinstance(self.emphasis, Emphasis):
            return self.emphasis
        name = OWN[self.dialect].emphasis if self.emphasis is None else self.emphasis
        return Emphasis(name)

    @property
    def layout(self) -> Layout:
        """The name of the layout of long prompts."""
        return OWN[self.dialect].layout if self.long == "chunk" else self.long

    @property
    def shares_means(self) -> bool:
        """Whether emphasis takes its means over all prompts of a batch."""
        return self.behaviour.mean_over_batch and self.weighting.name == "original"

    @property
    def match(self) -> InversionMatch:
        """How names of textual inversions are found."""
        return OWN[self.dialect].match

    def identity(self) -> dict[str, Any]:
        """All of it that decides numbers, as JSON values."""
        return {
            "dialect": self.dialect,
            "emphasis": asdict(self.weighting),
            "layout": self.layout,
            "match": self.match,
            "clip_skip": self.clip_skip or None,
            "steps": self.steps,
            "behaviour": {
                **asdict(self.behaviour),
                "ignores_skip": list(self.behaviour.ignores_skip),
            },
        }
