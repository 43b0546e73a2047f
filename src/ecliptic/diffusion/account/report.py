"""`ConditioningReport`: what became of the prompts of one call, as data.

`table.py` and `page.py` only write it. A `PromptReport` is one side of one alternative, as it is
read over some steps; equal ones are listed once, with all their steps.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from ecliptic.diffusion.tokens.ledger import EncoderReading, Ledger

VERSION = 1  # of the JSON form; a field that changes its meaning raises it
Origin: TypeAlias = Literal[
    "given", "empty prompt", "zeros", "encoded zeros", "encoded black", "same", "images", "none"
]
PromptSide: TypeAlias = Literal["prompt", "negative"]
Steps: TypeAlias = tuple[int, int]  # first and last, counted from 1


_ORIGINS: Mapping[Origin, str] = MappingProxyType(
    {
        "empty prompt": "none was given: the empty prompt",
        "zeros": "zeros",
        "encoded zeros": "an image of zeros",
        "encoded black": "a black image",
        "same": "the same images",
        "images": "images",
        "none": "none",
    }
)


@dataclass(frozen=True)
class Note:
    """Something that the author of a prompt should know, such as a warning of the call."""

    kind: str  # the class of a warning
    text: str


@dataclass(frozen=True)
class CallFacts:
    """What a conditioning keeps of the call that made it, beside its tensors and tokens."""

    options: Mapping[str, str | int | None] = field(default_factory=dict)
    positive: Origin = "given"
    negative: Origin = "none"
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class TensorFacts:
    """The shape of one tensor of the result."""

    name: str  # those of the negative start with "negative."
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Holding:
    """The ledger of one side of one alternative during some steps."""

    side: PromptSide
    ledger: Ledger | None  # None: nothing stands there
    alternative: int = 0
    weight: float | tuple[float, ...] = 1.0  # one for each prompt of a batch
    steps: Steps | None = None
    second: bool = False  # of A1111's second pass


@dataclass(frozen=True)
class PromptReport:
    """One side of one alternative, as its encoders read it during `steps`."""

    side: PromptSide
    origin: Origin
    readings: tuple[EncoderReading, ...] = ()
    alternative: int = 0  # of AND, from 0
    weight: float | tuple[float, ...] = 1.0  # of the alternative; one per prompt of a batch
    steps: tuple[Steps, ...] = ()  # none: at all steps
    second: bool = False  # of A1111's second pass, which counts its own steps

    @property
    def groups(self) -> tuple[tuple[EncoderReading, ...], ...]:
        """The readings, those of encoders with equal tokens together."""
        found: dict[tuple[str, str, int], list[EncoderReading]] = {}
        for one in self.readings:
            key = (one.same_as or one.encoder, one.wording, one.prompt)
            found.setdefault(key, []).append(one)
        return tuple(map(tuple, found.values()))

    @property
    def summary(self) -> str:
        """The words that are encoded, or what stands in their place."""
        if self.origin != "given":
            return _ORIGINS[self.origin]
        texts: dict[tuple[str, str], str] = {}  # (title, words) -> first encoder
        for one in self.readings:
            texts.setdefault((one.title, one.holds.strip()), one.encoder)
        titles = Counter(title for title, _ in texts)
        shown = "; ".join(
            text if len(texts) == 1 else f"{title}{f' for {encoder}' * (titles[title] > 1)}: {text}"
            for (title, text), encoder in texts.items()
        )
        return shown or "the empty prompt"

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return {
            "side": self.side,
            "origin": self.origin,
            "alternative": self.alternative,
            "weight": self.weight,
            "steps": [list(one) for one in self.steps],
            "second_pass": self.second,
            "readings": [reading.to_json() for reading in self.readings],
        }


@dataclass(frozen=True)
class ConditioningReport:
    """What became of the prompts of one call."""

    family: str
    title: str  # of the family, for people
    options: Mapping[str, str | int | None]
    tensors: tuple[TensorFacts, ...]
    prompts: tuple[PromptReport, ...]
    notes: tuple[Note, ...] = ()

    @property
    def alternatives(self) -> int:
        """Number of alternatives of AND; 1 without AND."""
        return 1 + max((prompt.alternative for prompt in self.prompts), default=0)

    @property
    def token_counts(self) -> tuple[int, int]:
        """(tokens, dropped tokens) of all prompts, each once for every encoder."""
        readings = [reading for prompt in self.prompts for reading in prompt.readings]
        dropped = sum(len(reading.dropped) for reading in readings)
        return sum(len(reading.rows) for reading in readings), dropped

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values; docs/prompt-report.md describes them."""
        return {
            "version": VERSION,
            "family": self.family,
            "title": self.title,
            "options": dict(self.options),
            "tensors": [
                {"name": one.name, "shape": list(one.shape), "dtype": one.dtype}
                for one in self.tensors
            ],
            "notes": [{"kind": note.kind, "text": note.text} for note in self.notes],
            "prompts": [prompt.to_json() for prompt in self.prompts],
        }


def list_prompts(
    holdings: Iterable[Holding], origins: Mapping[PromptSide, Origin]
) -> tuple[PromptReport, ...]:
    """The prompts behind `holdings`, positive ones first; equal ones once, with all their steps.

    The negative is common to all alternatives of AND.

    Args:
        holdings: of all alternatives, in the order of their steps.
        origins: where each side comes from.
    """
    found: dict[tuple[PromptSide, bool, int, tuple[EncoderReading, ...]], PromptReport] = {}
    for one in holdings:
        alone = one.side == "negative"
        readings = () if one.ledger is None else _mark_repeats(one.ledger.readings)
        number, weight = (0, 1.0) if alone else (one.alternative, one.weight)
        origin = "none" if one.ledger is None else origins[one.side]
        new = PromptReport(one.side, origin, readings, number, weight, second=one.second)
        key = one.side, one.second, number, readings
        prompt = found.setdefault(key, new)
        steps = prompt.steps if one.steps is None else _add_steps(prompt.steps, one.steps)
        found[key] = replace(prompt, steps=steps)
    return tuple(sorted(found.values(), key=lambda prompt: prompt.side == "negative"))


def _add_steps(steps: tuple[Steps, ...], more: Steps) -> tuple[Steps, ...]:
    """Add steps that come after `steps` or are among them; neighbours are joined."""
    if any(first <= more[0] and more[1] <= last for first, last in steps):
        return steps
    if steps and steps[-1][1] + 1 == more[0]:
        return (*steps[:-1], (steps[-1][0], more[1]))
    return (*steps, more)


def _mark_repeats(readings: Sequence[EncoderReading]) -> tuple[EncoderReading, ...]:
    """Name the encoder before each reading that has equal tokens."""
    marked: list[EncoderReading] = []
    for one in readings:
        same = (other.encoder for other in marked if not other.same_as and other.repeats(one))
        marked.append(replace(one, same_as=next(same, None)))
    return tuple(marked)
