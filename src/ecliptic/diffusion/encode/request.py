"""The checked prompts of a call: one list per encoder, for both sides.

The defaults are those of diffusers' `encode_prompt`: `prompt_2` and `negative_2` default to the
first wording, and a negative of None is the empty prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    prompt_2: Prompts | None = None,
    negative_2: Prompts | None = None,
) -> Request:
    """Check the prompts of a call, and repeat single texts for all prompts.

    Raises:
        InputError: no prompts, not strings, or lists of different length.
        ConfigError: prompts for a family without text encoders, or a second wording for a family
            with one encoder.
    """
    count = len(family.encoders)
    if not count:
        raise ConfigError(f"{family.title} has no text encoder; pass images=.")
    _check_seconds(family, prompt_2, negative_2)
    first = _list_texts("prompt", prompt)
    second = _repeat("prompt_2", first if prompt_2 in (None, "") else prompt_2, len(first))
    none = _repeat("negative", "" if negative is None else negative, len(first))
    none_2 = _repeat("negative_2", none if negative_2 in (None, "") else negative_2, len(first))
    stated = negative is not None
    own = count > 1  # with one CLIP, as in FLUX, the second wording is T5's
    language = (first, none) if own else (second, none_2)
    return Request((first, second)[:count], (none, none_2)[:count], stated, language)


def _check_seconds(family: Family, prompt_2: Prompts | None, negative_2: Prompts | None) -> None:
    """Raise ConfigError for a second wording that no encoder of the family reads."""
    for name, second in (("prompt_2", prompt_2), ("negative_2", negative_2)):
        if second is not None and len(family.encoders) < 2 and family.language is None:
            raise ConfigError(
                f"{family.title} has one text encoder and cannot use {name}; leave it out."
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
    _check_seconds(family, hires.prompt_2, hires.negative_2)
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
    count, several = len(family.encoders), len(first.positive[0])
    sides: list[tuple[tuple[str, ...], ...]] = []
    language: list[tuple[str, ...]] = []
    for name, own, other, old, read in (
        ("prompt", hires.prompt, hires.prompt_2, first.positive, first.language[0]),
        ("negative", hires.negative, hires.negative_2, first.negative, first.language[1]),
    ):
        one = _repeat(f"hires.{name}", own or old[0], several)
        two = _repeat(f"hires.{name}_2", other or (one if own else old[-1]), several)
        sides.append((one, two)[:count])
        language.append((one if count > 1 else two) if own or other else read)
    return Request(
        positive=sides[0],
        negative=sides[1],
        stated=first.stated or bool(hires.negative),
        language=(language[0], language[1]),
        base_steps=steps,
    )


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
