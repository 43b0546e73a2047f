"""The checked prompts of a call: one list per encoder, for both sides.

The defaults are those of diffusers' `encode_prompt`: further wordings (`prompt_2`, `negative_2`,
`prompt_3`, `negative_3`) default to the first, and a negative of None is the empty prompt.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ecliptic.checks import check_count
from ecliptic.diffusion.families import Family
from ecliptic.errors import ConfigError, InputError

Prompts = str | Sequence[str]


@dataclass(frozen=True)
class Hires:
    """The second pass of A1111, at a higher resolution; schedules go on where the first ended.

    Source: `get_learned_conditioning_prompt_schedules` of modules/prompt_parser.py, with
    `hires_steps` and without "old scheduling", and `setup_conds` of modules/processing.py, in
    AUTOMATIC1111's web UI.
    """

    steps: int  # sampling steps of this pass
    prompt: Prompts | None = None  # None or "": as in the first pass
    negative: Prompts | None = None  # likewise
    prompt_2: Prompts | None = None  # of another `prompt`, as in a call
    negative_2: Prompts | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)


Loras = tuple[tuple[str, float], ...]  # names and scales of LoRAs that are merged for one prompt


@dataclass(frozen=True)
class Request:
    """B prompts in every encoder's wording."""

    positive: tuple[tuple[str, ...], ...]  # per encoder, per prompt
    negative: tuple[tuple[str, ...], ...]  # likewise; empty prompts if none was given
    stated: bool  # a negative was given
    language: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # what T5 reads, both sides
    own_wordings: tuple[str, ...] = ()  # names of the arguments that only T5 reads
    base_steps: int | None = None  # of the first pass, if this is the second
    loras: tuple[Loras, ...] = ()  # per prompt, for both sides; () is none for all

    @property
    def negative_is_empty(self) -> bool:
        """Whether every negative is the empty prompt, given or not."""
        return not any(text for one in self.negative for text in one)


def make_request(
    family: Family,
    prompt: Prompts,
    negative: Prompts | None = None,
    further: Mapping[str, Prompts | None] = MappingProxyType({}),
) -> Request:
    """Check the prompts of a call, and repeat single texts for all prompts.

    Args:
        family: of the conditioner.
        prompt: a text or B of them.
        negative: likewise; None is "".
        further: other wordings, by name: "prompt_2", "negative_3", ...

    Raises:
        InputError: no prompts, not strings, or lists of different length.
        ConfigError: prompts for a family without text encoders, or a wording for an encoder that
            it does not have.
    """
    count = len(family.encoders)
    if not count:
        raise ConfigError(f"{family.title} has no text encoder; pass images=.")
    given = {name: texts for name, texts in further.items() if texts is not None}
    readers = count + (family.language is not None)  # T5 is the last
    _check_readers(family, given, readers)
    first = _list_texts("prompt", prompt)
    none = _repeat("negative", "" if negative is None else negative, len(first))
    sides = [
        [
            _repeat(name, given.get(name) or texts, len(first))
            for name in (f"{side}_{number}" for number in range(1, readers + 1))
        ]
        for side, texts in (("prompt", first), ("negative", none))
    ]
    positive, others = (tuple(side) for side in sides)
    stated = negative is not None
    unread = readers == count or (family.negative == "if given" and not stated)
    return Request(
        positive[:count],
        others[:count],
        stated,
        language=((*positive, ())[count], () if unread else others[count]),
        own_wordings=tuple(name for name in given if int(name[-1]) > count and given[name]),
    )


def _check_readers(family: Family, wordings: Iterable[str], readers: int) -> None:
    """Raise ConfigError for a wording, such as "prompt_3", that no encoder would read."""
    for name in wordings:
        if int(name[-1]) > readers:
            encoders = ("one text encoder", "two text encoders", "three text encoders")
            raise ConfigError(
                f"{family.title} has {encoders[readers - 1]} and cannot use {name}; leave it out."
            )


def make_second(
    family: Family, first: Request, hires: Hires, steps: int | None, *, shares_t5: bool = False
) -> Request:
    """The prompts of the second pass: those of the first, unless `hires` has others.

    Args:
        family: of the conditioner.
        first: the prompts of the first pass.
        hires: the second pass.
        steps: of the first pass.
        shares_t5: T5 is given as tensors, which are those of the first pass.

    Raises:
        InputError: lists of other lengths than in the first pass.
        ConfigError: `steps` is None, or there is no tensor of T5 for other prompts.
    """
    if shares_t5 and (hires.prompt or hires.negative):
        raise ConfigError(
            "t5= holds the tensors of the first pass, but hires= has other prompts; pass the "
            "folder of T5 when you make the conditioner, so that T5 reads both."
        )
    if steps is None:
        raise ConfigError(
            "hires= is a second pass, whose schedules go on where the first ended; pass steps=, "
            "the steps of the first."
        )
    count = len(first.positive[0])
    texts: dict[str, tuple[str, ...]] = {}
    for name, own, old, read in (
        ("prompt", hires.prompt, first.positive, first.language[0]),
        ("negative", hires.negative, first.negative, first.language[1]),
    ):
        texts[name] = _repeat(f"hires.{name}", own or old[0], count)
        if not own:  # then the other wordings are those of the first pass too
            further = enumerate((*old[1:], read), start=2)
            texts |= {f"{name}_{number}": some for number, some in further if some}
    others = {"prompt_2": hires.prompt_2, "negative_2": hires.negative_2}
    texts |= {n: _repeat(f"hires.{n}", some, count) for n, some in others.items() if some}
    stated = first.stated or bool(hires.negative)
    prompt, negative = texts.pop("prompt"), texts.pop("negative")
    found = make_request(family, prompt, negative if stated else None, texts)
    own_wordings = tuple(name for name in found.own_wordings if others.get(name))
    return replace(found, own_wordings=own_wordings, base_steps=steps)


def _list_texts(name: str, texts: Prompts) -> tuple[str, ...]:
    texts = (texts,) if isinstance(texts, str) else texts
    found = tuple(texts) if isinstance(texts, Iterable) else ()
    if not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{name} must be a text or a list of at least one, got {texts!r}.")
    return found


def _repeat(name: str, texts: Prompts, count: int) -> tuple[str, ...]:
    found = _list_texts(name, texts)
    if isinstance(texts, str):
        return found * count
    if len(found) != count:
        raise InputError(
            f"{name} has {len(found)} texts, but prompt has {count}; pass as many, or one text for "
            "all."
        )
    return found
