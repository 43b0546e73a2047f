"""The options of a conditioner's call: how it reads and encodes prompts.

The fields of `Options` are their only list: the flags of `ecliptic condition` and `ecliptic
captions` and the page docs/options.md are made from them. Imports no torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from ecliptic.checks import check_choice, check_count, check_finite
from ecliptic.diffusion.behaviours import BEHAVIOURS, Behaviour
from ecliptic.diffusion.foreign_names import refuse_unknown
from ecliptic.errors import ConfigError
from ecliptic.prompts import Dialect

ChunkLayout: TypeAlias = Literal[
    "truncate",
    "a1111",
    "comfyui",
    "compel",
    "compel-phrases",
    "compel-words",
    "compel-brutal",
    "kohya",
    "lpw",
]
LAYOUTS: tuple[ChunkLayout, ...] = get_args(ChunkLayout)
EmphasisName: TypeAlias = Literal[
    "original",  # A1111: multiply by w, keep the mean of each chunk
    "no-norm",  # A1111's "No norm", kohya's weighted captions: multiply by w
    "ignore",  # A1111's "Ignore": weights are read but have no effect
    "lpw",  # diffusers' lpw pipelines, ADV_CLIP_emb's "A1111": multiply by w, keep the mean of all
    "comfyui",  # ComfyUI: move away from the empty prompt
    "compel",  # as ComfyUI, and hide light fragments from attention
    "compel-remove",  # the same with compel's DownweightMode.REMOVE: leave them out
    "adv-compel",  # ADV_CLIP_emb's "compel": as ComfyUI, and replace light words
    "comfy++",  # ADV_CLIP_emb: replace light words, move heavy ones away from their replacement
    "down-weight",  # ADV_CLIP_emb: the heaviest word counts as 1, replace all lighter ones
]
ChunkEnds: TypeAlias = Literal["own", "first", "mean"]
Normalization: TypeAlias = Literal["none", "mean", "length", "length+mean"]
InversionMatch: TypeAlias = Literal["diffusers", "a1111", "comfyui"]


@dataclass(frozen=True)
class Emphasis:
    """What weights do, and how they are normalised first; the defaults are A1111's.

    `balance` is ADV_CLIP_emb's clip_balance, for families that join the sequences of CLIP-L and
    bigG: below 0.5 those of bigG are multiplied by `2 balance`, above it those of CLIP-L by
    `2 (1 - balance)`. Source: BlenderNeko's ComfyUI_ADV_CLIP_emb, adv_encode.py `prepareXL`.
    """

    name: EmphasisName = "original"
    normalization: Normalization = "none"
    balance: float = 0.5  # 0: CLIP-L alone, 1: bigG alone

    def __post_init__(self) -> None:
        check_choice("emphasis", self.name, get_args(EmphasisName))
        check_choice("normalization", self.normalization, get_args(Normalization))
        if self.name == "ignore" and self.normalization != "none":
            raise ConfigError(
                f'normalization {self.normalization!r} changes weights, but "ignore" ignores them; '
                "use another emphasis, or no normalization."
            )
        if self.name in ("compel", "compel-remove") and self.normalization != "none":
            raise ConfigError(
                f"normalization {self.normalization!r} gives the words of a fragment different "
                f'weights, but "{self.name}" weights whole fragments; use "adv-compel", which '
                "takes it."
            )
        check_finite(self.balance, "balance", "pass a number from 0 to 1.", ConfigError)
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance must be from 0 to 1, got {self.balance:g}; 0.5 is even.")

    @property
    def scales(self) -> tuple[float, float]:
        """The factors of the sequences of CLIP-L and of bigG."""
        return 1 - 2 * max(0.0, self.balance - 0.5), 1 - 2 * max(0.0, 0.5 - self.balance)

    def identity(self) -> dict[str, Any]:
        """The fields as JSON values; an even balance, which changes nothing, is left out."""
        found = asdict(self)
        return {k: v for k, v in found.items() if k != "balance" or v != Emphasis.balance}


@dataclass(frozen=True)
class DialectDefaults:
    """The defaults of a dialect: what its own tool does."""

    emphasis: EmphasisName
    layout: ChunkLayout  # of long="chunk"
    match: InversionMatch  # how names of textual inversions are found


DEFAULTS: Mapping[Dialect, DialectDefaults] = MappingProxyType(
    {
        "plain": DialectDefaults("ignore", "a1111", "diffusers"),
        "a1111": DialectDefaults("original", "a1111", "a1111"),
        "comfyui": DialectDefaults("comfyui", "comfyui", "comfyui"),
        "compel": DialectDefaults("compel", "compel", "diffusers"),
    }
)


class HowOptions(TypedDict, total=False):
    """The types of the keyword arguments of `Options`, for type checkers."""

    dialect: Dialect
    emphasis: EmphasisName | Emphasis | None
    long: ChunkLayout | Literal["chunk"]
    clip_skip: int | None
    compat: str | Behaviour
    steps: int | None
    max_sequence_length: int | None
    chunk_ends: ChunkEnds
    grad: bool


def _describe(
    meaning: str,
    values: tuple[str, ...] = (),
    *,
    shown: str = "",
    least: int = 0,
    flag: bool = True,
) -> dict[str, Any]:
    """Metadata of a field of `Options`.

    Args:
        meaning: in words, for help and docs.
        values: the names that it may have.
        shown: the default in words, if the value is not clear.
        least: the smallest number that it may be.
        flag: whether the command line has it.
    """
    return {"meaning": meaning, "values": values, "shown": shown, "least": least, "flag": flag}


@dataclass(frozen=True)
class Options:
    """How the prompts of one call are read and encoded."""

    dialect: Dialect = field(
        default="plain",
        metadata=_describe("What brackets, signs and words such as BREAK mean.", get_args(Dialect)),
    )
    emphasis: EmphasisName | Emphasis | None = field(
        default=None,
        metadata=_describe(
            "What weights do to the vectors.",
            get_args(EmphasisName),
            shown="as in the dialect's own tool",
        ),
    )
    long: ChunkLayout | Literal["chunk"] = field(
        default="truncate",
        metadata=_describe(
            "How to split long prompts; chunk is the layout of the dialect's own tool.",
            ("chunk", *LAYOUTS),
        ),
    )
    clip_skip: int | None = field(
        default=None,
        metadata=_describe("Hidden layers to skip, counted as in diffusers.", shown="none"),
    )
    compat: str | Behaviour = field(
        default="diffusers",
        metadata=_describe("The tool to follow where tools disagree.", tuple(BEHAVIOURS)),
    )
    steps: int | None = field(
        default=None,
        metadata=_describe(
            "Sampling steps, for prompts that change over them.", shown="unknown", least=1
        ),
    )
    max_sequence_length: int | None = field(
        default=None,
        metadata=_describe(
            "Tokens that T5 reads; longer prompts are cut.",
            shown="256 for SD3, 512 for FLUX",
            least=1,
        ),
    )
    chunk_ends: ChunkEnds = field(
        default="own",
        metadata=_describe(
            "The vector at the end of text of every chunk: its own, that of the first chunk, or "
            "the mean of all.",
            get_args(ChunkEnds),
        ),
    )
    grad: bool = field(
        default=False, metadata=_describe("Keep the graph for gradients.", flag=False)
    )

    def __post_init__(self) -> None:
        for name in ("dialect", "long", "chunk_ends"):
            check_choice(name, getattr(self, name), self.about(name).metadata["values"])
        for name in ("steps", "max_sequence_length"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value)
        _ = self.behaviour, self.weighting  # these check their values

    @classmethod
    def of(cls, options: Mapping[str, Any], also: Iterable[str] = ()) -> "Options":
        """Make the options from keyword arguments.

        Args:
            options: by name.
            also: names of other arguments of the same call, which may be meant.

        Raises:
            ConfigError: an unknown option, or an unknown value.
        """
        refuse_unknown(options, [one.name for one in fields(cls)], also)
        return cls(**options)

    @classmethod
    def about(cls, name: str) -> "Field[Any]":
        """The field called `name`, with its meaning and values as metadata."""
        return next(one for one in fields(cls) if one.name == name)

    @classmethod
    def flags(cls) -> "Iterator[Field[Any]]":
        """The fields that the command line has."""
        return (one for one in fields(cls) if one.metadata["flag"])

    @property
    def behaviour(self) -> Behaviour:
        """The choices where tools disagree."""
        if isinstance(self.compat, Behaviour):
            return self.compat
        check_choice("compat", self.compat, BEHAVIOURS)
        return BEHAVIOURS[self.compat]

    @property
    def weighting(self) -> Emphasis:
        """What weights do, and how they are normalised first."""
        if isinstance(self.emphasis, Emphasis):
            return self.emphasis
        name = DEFAULTS[self.dialect].emphasis if self.emphasis is None else self.emphasis
        return Emphasis(name)

    @property
    def layout(self) -> ChunkLayout:
        """The name of the layout of long prompts."""
        return DEFAULTS[self.dialect].layout if self.long == "chunk" else self.long

    @property
    def shares_means(self) -> bool:
        """Whether emphasis takes its means over all prompts of a batch."""
        return self.behaviour.mean_over_batch and self.weighting.name == "original"

    @property
    def match(self) -> InversionMatch:
        """How names of textual inversions are found."""
        return DEFAULTS[self.dialect].match

    def names(self) -> dict[str, str | int | None]:
        """The options as people name them, with the defaults of the dialect filled in."""
        given = {one.name: getattr(self, one.name) for one in self.flags()}
        compat, weighting = self.behaviour.name, self.weighting
        emphasis = weighting.name + f", {weighting.normalization}" * (
            weighting.normalization != "none"
        )
        return {**given, "emphasis": emphasis, "long": self.layout, "compat": compat}

    def identity(self) -> dict[str, Any]:
        """The options that change the result, as JSON values."""
        length = self.max_sequence_length
        return {
            "dialect": self.dialect,
            "emphasis": self.weighting.identity(),
            "layout": self.layout,
            "match": self.match,
            "clip_skip": self.clip_skip or None,
            "steps": self.steps,
            "behaviour": {
                **asdict(self.behaviour),
                "ignores_skip": list(self.behaviour.ignores_skip),
            },
            **({} if length is None else {"max_sequence_length": length}),
            **({} if self.chunk_ends == "own" else {"chunk_ends": self.chunk_ends}),
        }


@dataclass(frozen=True)
class SkipNames:
    """One number of skipped layers on SD 1.x, as each tool counts it."""

    diffusers: int | None
    a1111: int  # also kohya's --clip_skip and stable-diffusion.cpp
    comfyui: int  # stop_at_clip_layer
    invokeai: int


def skip_names(clip_skip: int | None) -> SkipNames:
    """Convert `clip_skip` to the numbers of other tools, on SD 1.x.

    Here, as in diffusers, `clip_skip=k` reads k hidden layers before the one the family reads;
    None and 0 skip none. Sources: diffusers `encode_prompt`; stable-diffusion-webui
    `CLIP_stop_at_last_layers`; ComfyUI `CLIPSetLastLayer`; InvokeAI `skipped_layers`.
    """
    k = clip_skip or 0
    return SkipNames(clip_skip or None, k + 1, -(k + 1), k)
