"""The checked prompts of a call: one list per encoder, for both sides.

The defaults are those of diffusers' `encode_prompt`: `prompt_2` and `negative_2` default to the
first wording, and a negative of None is the empty prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ecliptic.diffusion.families import Family
from ecliptic.errors import ConfigError, InputError

Prompts = str | Sequence[str]
Loras = tuple[tuple[str, float], ...]  # names and scales of LoRAs that are merged for one prompt


@dataclass(frozen=True)
class Request:
    """B prompts in every encoder's wording."""

    positive: tuple[tuple[str, ...], ...]  # per encoder, per prompt
    negative: tuple[tuple[str, ...], ...]  # likewise; empty prompts if none was given
    stated: bool  # a negative was given
    language: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # what T5 reads, both sides
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
    for name, second in (("prompt_2", prompt_2), ("negative_2", negative_2)):
        if second is not None and count < 2 and family.language is None:
            raise ConfigError(
                f"{family.title} has one text encoder and cannot use {name}; leave it out."
            )
    first = _list_texts("prompt", prompt)
    second = _repeat("prompt_2", first if prompt_2 in (None, "") else prompt_2, len(first))
    none = _repeat("negative", "" if negative is None else negative, len(first))
    none_2 = _repeat("negative_2", none if negative_2 in (None, "") else negative_2, len(first))
    stated = negative is not None
    own = count > 1  # with one CLIP, as in FLUX, the second wording is T5's
    language = (first, none) if own else (second, none_2)
    return Request((first, second)[:count], (none, none_2)[:count], stated, language)


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
