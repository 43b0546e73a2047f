"""T5, the text encoder that is not a CLIP: from a Hugging Face folder, or passed as tensors.

The folder runs in `transformers`, which must be installed.
B prompts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.tokens.ledger import EncoderReading
from ecliptic.errors import ConfigError, MissingExtraError, ShapeError, UnknownModelError, warn


class LanguageEncoder:
    """A T5 encoder and its tokenizer.

    Args:
        folder: of the encoder and its tokenizer.
        length: tokens that every prompt is cut or padded to.

    Raises:
        MissingExtraError: transformers is not installed.
        UnknownModelError: there is no such folder.
    """

    def __init__(self, folder: str | Path, length: int) -> None:
        if not Path(folder).is_dir():
            raise UnknownModelError(str(folder), fix="t5 must be a Hugging Face folder.")
        try:
            library: Any = import_module("transformers")
        except ImportError:
            raise MissingExtraError(
                "T5 runs in transformers, which is not installed; `pip install transformers`, or "
                "pass t5= as a tensor."
            ) from None
        self.length = length
        self.tokenizer: Any = library.AutoTokenizer.from_pretrained(folder)
        self.model: Any = library.T5EncoderModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Encode B prompts to (B, length, D), including unmasked padding, as diffusers does."""
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
        """The tensors of one prompt."""
        here, there = (
            None if x is None else x[number : number + 1] for x in (self.positive, self.negative)
        )
        return T5Tensors(here, there, self.width)

    def append_to(self, tokens: Tensor, *, negative: bool, empty: int) -> Tensor:
        """Append T5's tokens to CLIP's (B, T, D) on the token axis; both get T5's width.

        Without T5, `empty` zero tokens are appended.

        Source: pipeline_stable_diffusion_3.py `encode_prompt`.
        """
        t5 = self.negative if negative else self.positive
        if t5 is None:
            t5 = tokens.new_zeros(len(tokens), empty, max(self.width, tokens.shape[-1]))
        missing = t5.shape[-1] - tokens.shape[-1]
        if missing < 0:
            raise ShapeError(
                f"the text encoders are {tokens.shape[-1]} wide together, but T5 is only "
                f"{t5.shape[-1]} wide; pass encoders and t5 of one model."
            )
        wide = torch.nn.functional.pad(tokens, (0, missing))
        return torch.cat([wide, t5.to(wide)], dim=1)


def read_t5(
    texts: Sequence[str], tensor: Tensor | None, name: Callable[[str, int], str]
) -> list[EncoderReading]:
    """What T5 reads of each prompt of one side; its tokens are not counted.

    Args:
        texts: of the prompts.
        tensor: (B, T, D) of T5, if there is one.
        name: gives the argument that gave a text for a prompt.
    """
    output = (
        "nothing: no T5 was given" if tensor is None else f"sequence of {tensor.shape[1]} tokens"
    )
    return [
        EncoderReading(
            "t5", text, (), (), name(text, number), number, len(texts), holds=text, output=output
        )
        for number, text in enumerate(texts)
    ]


def encode_t5(
    family: Family,
    encoder: LanguageEncoder | None,
    texts: tuple[Sequence[str], Sequence[str]],
    given: tuple[Tensor | None, Tensor | None],
    *,
    width: int | None = None,
    any_size: bool = False,
) -> T5Tensors:
    """Take T5 of both sides as given, or encode it from `texts`.

    Args:
        family: the family of the conditioner.
        encoder: of T5, if there is one.
        texts: prompts of the positive and of the negative side.
        given: (B, T, D) of both sides, if the caller has them.
        width: D of the model, if the pipeline states it; None: that of the family.
        any_size: take another D.

    Raises:
        ConfigError: the family does not use T5.
        ShapeError: not three axes, another number of prompts or another D, or two different shapes.
    """
    rule = family.language
    if rule is None:
        if any(one is not None for one in given):
            raise ConfigError(f"{family.title} does not use T5; leave t5 out.")
        return T5Tensors(None, None, 0)
    found: list[Tensor | None] = []
    for one, prompts in zip(given, texts, strict=True):
        if one is None and encoder is not None:
            one = encoder.encode(prompts)
        if one is not None:
            _check_tensor(one, len(prompts), None if any_size else width or rule.width)
            one = one.expand(len(prompts), -1, -1)
        found.append(one)
    positive, negative = found
    if family.negative == "encode":
        positive, negative = _fill_missing_side(positive, negative)
    if positive is not None and negative is not None and positive.shape != negative.shape:
        raise ShapeError(
            f"t5 {tuple(positive.shape)} and negative_t5 {tuple(negative.shape)} differ, but "
            "guidance runs both sides in one batch; pad both to one length."
        )
    return T5Tensors(positive, negative, width or rule.width)


def _fill_missing_side(
    positive: Tensor | None, negative: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Put zeros in the place of one missing side, and warn."""
    if (positive is None) != (negative is None):
        warn(
            "only one of t5 and negative_t5 was given, so the other side gets zeros, on which no "
            "model was trained; pass both t5= and negative_t5=.",
            ConditioningWarning,
            stacklevel=None,
        )
    if positive is None and negative is not None:
        positive = torch.zeros_like(negative)
    if negative is None and positive is not None:
        negative = torch.zeros_like(positive)
    return positive, negative


def _check_tensor(t5: Tensor, count: int, width: int | None) -> None:
    if not isinstance(t5, Tensor) or not t5.is_floating_point():
        kind = t5.dtype if isinstance(t5, Tensor) else type(t5).__name__
        raise ConfigError(f"t5 must be a tensor of floats, T5's last hidden state, got {kind}.")
    check_finite(t5, "t5", "check the encoder that made it.")
    if t5.ndim != 3 or len(t5) not in (1, count):
        raise ShapeError(
            f"t5 {tuple(t5.shape)} must be (prompts, tokens, width) for {count} prompt(s); pass "
            "the encoder's last hidden state."
        )
    if width is not None and t5.shape[-1] != width:
        raise ShapeError(
            f"t5 {tuple(t5.shape)} is {t5.shape[-1]} wide, but the model reads {width}; pass the "
            "T5 of the model, or make the conditioner with any_size=True."
        )
