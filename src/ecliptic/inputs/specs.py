"""Specs of a checkpoint's inputs: how to prepare images and texts.

Both specs are part of the embedding space: vectors of different specs cannot be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ecliptic.checks import is_finite
from ecliptic.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear"]
Resize = Literal["shortest", "squash"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP clip/clip.py `_transform`
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
SPECIALS = ("<|startoftext|>", "<|endoftext|>")  # openai/CLIP clip/simple_tokenizer.py
FULL_MERGES = 48894  # lines 1..49152-256-2 of bpe_simple_vocab_16e6.txt


@dataclass(frozen=True)
class ImageSpec:
    """How an image becomes pixels; the defaults are OpenAI's."""

    size: int = 224  # pixels, square
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize: Resize = "shortest"  # shorter side, then centre crop; "squash" ignores the ratio

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ConfigError(
                f"size must be a whole number of pixels, at least 1, got {self.size!r}."
            )
        for name, known in (("interpolation", Interpolation), ("resize", Resize)):
            if (value := getattr(self, name)) not in get_args(known):
                choices = " or ".join(map(repr, get_args(known)))
                raise ConfigError(f"unknown {name} {value!r}; use {choices}.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _read_colours(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise ConfigError(
                f"every std must be above 0, since pixels are divided by it, got {self.std}."
            )


def _read_colours(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    """Three finite numbers, in any sequence, as a tuple."""
    numbers = isinstance(values, Sequence) and all(isinstance(x, int | float) for x in values)
    if not numbers or len(values) != 3 or not is_finite(list(values)):
        raise ConfigError(f"{name} must be three finite numbers, one per colour, got {values!r}.")
    red, green, blue = map(float, values)
    return red, green, blue


@dataclass(frozen=True)
class TokenizerSpec:
    """CLIP's byte-pair tokenizer; the defaults are the reference one.

    The vocabulary is 256 bytes, 256 word-final bytes, the first `merges` merges, start and end.
    """

    merges: int = FULL_MERGES
    context: int = 77  # tokens, with start and end
    pad: int = 0  # id after the end of text; 49407 in Hugging Face's tokenizer

    def __post_init__(self) -> None:
        for name in ("merges", "context", "pad"):
            if type(value := getattr(self, name)) is not int:
                raise ConfigError(f"{name} must be a whole number, got {value!r}.")
        if not 0 <= self.merges <= FULL_MERGES:
            raise ConfigError(f"merges must be 0 to {FULL_MERGES}, got {self.merges}.")
        if self.context < 3:
            raise ConfigError(
                f"context must be at least 3 (start, one token, end), got {self.context}."
            )
        if not 0 <= self.pad < self.vocabulary:
            raise ConfigError(f"pad {self.pad} is outside the vocabulary of {self.vocabulary}.")

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return 512 + self.merges + 2

    @property
    def start_of_text(self) -> int:
        """Id at the start of every text; 49406 in the reference."""
        return self.vocabulary - 2

    @property
    def end_of_text(self) -> int:
        """Id at the end of every text, pooled by the text tower; 49407 in the reference."""
        return self.vocabulary - 1
