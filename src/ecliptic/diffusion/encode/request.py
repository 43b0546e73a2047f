"""What a call asks for, made regular: one list of prompts per encoder, for both sides.

The rules for what is left out are those of diffusers' `encode_prompt`: `prompt_2` and `negative_2`
default to the first wording, None as a negative is the empty prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ecliptic.diffusion.families import Family
from ecliptic.errors import ConfigError, InputError

Texts = str | Sequence[str]


@dataclass(frozen=True)
class Request:
    """B prompts in every encoder's wording."""

    positive: tuple[tuple[str, ...], ...]  # per encoder, per prompt
    negative: tuple[tuple[str, ...], ...]  # likewise; of empty prompts where none was given
    stated: bool  # a negative was given
    language: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())  # what T5 reads, both sides

    @property
    def batch(self) -> int:
        """B."""
        return len(self.positive[0])

    @property
    def negative_is_empty(self) -> bool:
        """Whether every negative is the empty prompt, stated or not."""
        return not any(text for one in self.negative for text in one)


def make_request(
    family: Family,
    prompt: Texts,
    negative: Texts | None,
    prompt_2: Texts | None,
    negative_2: Texts | None,
) -> Request:
    """Check the prompts of a call and repeat what stands for all of them.

    Raises:
        InputError: no prompts, no strings, or lists of different length.
        ConfigError: a second wording for a family with one encoder.
    """
    count = len(family.encoders)
    for name, second in (("prompt_2", prompt_2), ("negative_2", negative_2)):
        if second is not None and count < 2 and family.language is None:
            raise ConfigError(f"{family.title} has one text encoder, so {name} means nothing.")
    first = _listed("prompt", prompt)
    second = _repeated("prompt_2", first if prompt_2 in (None, "") else prompt_2, len(first))
    none = _repeated("negative", "" if negative is None else negative, len(first))
    none_2 = _repeated("negative_2", none if negative_2 in (None, "") else negative_2, len(first))
    stated = negative is not None
    own = count > 1  # with one CLIP, as in FLUX, the second wording is T5's
    language = (first, none) if own else (second, none_2)
    return Request((first, second)[:count], (none, none_2)[:count], stated, language)


def _listed(name: str, texts: Texts) -> tuple[str, ...]:
    found = (
        (texts,) if isinstance(texts, str) else tuple(texts if isinstance(texts, Iterable) else ())
    )
    if not found or not all(isinstance(text, str) for text in found):
        raise InputError(f"{name} must be a text or a list of at least one, got {texts!r}.")
    return found


def _repeated(name: str, texts: Texts, count: int) -> tuple[str, ...]:
    found = _listed(name, texts)
    if isinstance(texts, str):
        return found * count
    if len(found) != count:
        raise InputError(
            f"{len(found)} texts in {name} do not go with {count} in prompt; pass as many, or one "
            "text for all."
        )
    return found
