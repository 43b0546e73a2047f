"""What a checkpoint needs of its inputs, as data: how images and texts are prepared.

Both specs are part of the embedding space: vectors made under different specs never mix.
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
    resize: Resize = "shortest"  # shorter side, then centre crop; "squash" ignores the aspect

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ConfigError(f"size must be a whole number of pixels >= 1, got {self.size!r}.")
        for name, known in (("interpolation", Interpolation), ("resize", Resize)):
            if (value := getattr(self, name)) not in get_args(known):
                choices = " or ".join(map(repr, get_args(known)))
                raise ConfigError(f"there is no {name} {value!r}; use {choices}.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _colours(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise ConfigError(f"std divides, so all of it must be above 0, got {self.std}.")


def _colours(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    """Three finite numbers as a tuple, whatever sequence they came in."""
    numbers = isinstance(values, Sequence) and all(isinstance(x, int | float) for x in values)
    if not numbers or len(values) != 3 or not is_finite(list(values)):
        raise ConfigError(f"{name} must be three numbers, one per colour, got {values!r}.")
    red, green, blue = map(float, values)
    return red, green, blue


@dataclass(frozen=True)
class TokenizerSpec:
    """CLIP's byte-pair tokenizer; the defaults are the reference one.

    Fewer `merges` give a smaller vocabulary on the same text: 256 bytes, 256 word-final bytes,
    the first `merges` merges, start and end.
    """

    merges: int = FULL_MERGES
    context: int = 77  # tokens, start and end included
    pad: int = 0  # id after the end of text; 49407 in Hugging Face's tokenizer

    def __post_init__(self) -> None:
        for name in ("merges", "context", "pad"):
            if type(value := getattr(self, name)) is not int:
                raise ConfigError(f"{name} must be a whole number, got {value!r}.")
        if not 0 <= self.merges <= FULL_MERGES:
            raise ConfigError(f"merges must be 0 to {FULL_MERGES}, got {self.merges}.")
        if self.context < 3:
            raise ConfigError(f"context must hold start, one token and end, got {self.context}.")
        if not 0 <= self.pad < self.vocabulary:
            raise ConfigError(f"pad {self.pad} is outside the vocabulary of {self.vocabulary}.")

    @property
    def vocabulary(self) -> int:
        """Number of ids."""
        return 512 + self.merges + 2

    @property
    def start_of_text(self) -> int:
        """Id that opens every text; 49406 in the reference."""
        return self.vocabulary - 2

    @property
    def end_of_text(self) -> int:
        """Id that closes every text and is pooled; 49407 in the reference."""
        return self.vocabulary - 1
