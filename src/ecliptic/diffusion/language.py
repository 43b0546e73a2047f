"""The text encoder that is no CLIP: T5, from a Hugging Face folder the user names, or as a tensor.

Runs in `transformers`, which must be installed for it; nothing else here needs it.
B prompts, T tokens, D width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.families import Family
from ecliptic.errors import (
    ConfigError,
    MissingExtraError,
    ShapeError,
    UnknownModelError,
)


class LanguageEncoder:
    """A T5 encoder and its tokenizer.

    Args:
        folder: holds the encoder; the tokenizer lies in it, or in `tokenizer`.
        length: tokens that every prompt is cut or padded to.
        tokenizer: another folder.

    Raises:
        MissingExtraError: transformers is not installed.
        UnknownModelError: there is no such folder.
    """

    def __init__(
        self, folder: str | Path, length: int, tokenizer: str | Path | None = None
    ) -> None:
        for path in (folder, tokenizer or folder):
            if not Path(path).is_dir():
                raise UnknownModelError(str(path), fix="t5 must be a Hugging Face folder.")
        library = _transformers()
        self.length = length
        self.tokenizer: Any = library.AutoTokenizer.from_pretrained(tokenizer or folder)
        self.model: Any = library.T5EncoderModel.from_pretrained(folder).eval()

    @property
    def width(self) -> int:
        """D."""
        return int(self.model.config.d_model)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(B, length, D) of B prompts, padding included and unmasked, as diffusers does it."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        )
        found: Tensor = self.model(tokens.input_ids)[0]
        return found


@dataclass(frozen=True, eq=False)
class T5Tensors:
    """The tensors of T5 for both sides of a call; None where there is none."""

    positive: Tensor | None  # (B, T, D)
    negative: Tensor | None
    width: int  # of the model, for zeros

    def row(self, number: int) -> "T5Tensors":
        """That of one prompt."""
        here, there = (
            None if x is None else x[number : number + 1] for x in (self.positive, self.negative)
        )
        return T5Tensors(here, there, self.width)

    def append_to(self, tokens: Tensor, *, negative: bool, empty: int) -> Tensor:
        """CLIP's (B, T, D), then T5's, or `empty` zero tokens of its width where there is none.

        Source: pipeline_stable_diffusion_3.py `encode_prompt`.
        """
        t5 = self.negative if negative else self.positive
        if t5 is None:
            t5 = tokens.new_zeros(len(tokens), empty, max(self.width, tokens.shape[-1]))
        return append_t5(tokens, t5)


def t5_tensors(
    family: Family,
    encoder: LanguageEncoder | None,
    texts: tuple[Sequence[str], Sequence[str]],
    given: tuple[Tensor | None, Tensor | None],
    *,
    width: int | None = None,
) -> T5Tensors:
    """T5 of both sides: as given, else encoded from `texts`.

    Args:
        family: whose tensors are made.
        encoder: of T5, if there is one.
        texts: prompts of the positive and of the negative side.
        given: (B, T, D) of both sides, where the caller has them.
        width: D of the model, where the pipeline says it; None is that of the family.

    Raises:
        ConfigError: the family has no place for T5.
        ShapeError: not three axes, or another number of prompts.
    """
    rule = family.language
    if rule is None:
        if any(one is not None for one in given):
            raise ConfigError(f"{family.title} reads no T5, so t5 means nothing; leave it out.")
        return T5Tensors(None, None, 0)
    found: list[Tensor | None] = []
    for one, prompts in zip(given, texts, strict=True):
        if one is None and encoder is not None:
            one = encoder.encode(prompts)
        if one is not None:
            _check_tensor(one, len(prompts))
            one = one.expand(len(prompts), -1, -1)
        found.append(one)
    positive, negative = found
    if (positive is None) != (negative is None) and family.negative == "encode":
        warnings.warn(
            "only one of t5 and negative_t5 was given, so the other side has zeros in its place, "
            "which no model was trained on; pass both t5= and negative_t5=.",
            ConditioningWarning,
            stacklevel=4,
        )
        positive, negative = (
            torch.zeros_like(other) if one is None and other is not None else one
            for one, other in ((positive, negative), (negative, positive))
        )
    if positive is not None and negative is not None and positive.shape != negative.shape:
        raise ShapeError(
            f"t5 {tuple(positive.shape)} and negative_t5 {tuple(negative.shape)} differ, and "
            "guidance runs both sides in one batch; pad both to one length."
        )
    return T5Tensors(positive, negative, width or rule.width)


def _check_tensor(t5: Tensor, count: int) -> None:
    if not isinstance(t5, Tensor) or not t5.is_floating_point():
        kind = t5.dtype if isinstance(t5, Tensor) else type(t5).__name__
        raise ConfigError(f"t5 must be a tensor of floats, T5's last hidden state, got {kind}.")
    check_finite(t5, "t5", "look at the encoder that made it.")
    if t5.ndim != 3 or len(t5) not in (1, count):
        raise ShapeError(
            f"t5 {tuple(t5.shape)} must be (prompts, tokens, width) for {count} prompt(s); pass "
            "the encoder's last hidden state."
        )


def append_t5(tokens: Tensor, t5: Tensor) -> Tensor:
    """(B, T, D) of CLIP, zeros up to the width of T5, then T5 on the token axis."""
    room = t5.shape[-1] - tokens.shape[-1]
    if room < 0:
        raise ShapeError(
            f"the text encoders are {tokens.shape[-1]} wide together and T5 only {t5.shape[-1]}; "
            "pass encoders and t5 of one model."
        )
    wide = torch.nn.functional.pad(tokens, (0, room))
    return torch.cat([wide, t5.to(wide)], dim=1)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtraError(
            "T5 runs in transformers, which is not installed; `pip install transformers`, or pass "
            "t5= as a tensor."
        ) from None
    return transformers
