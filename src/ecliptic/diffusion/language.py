"""T5, the text encoder that is not a CLIP: what a call reads with it, or gets as tensors.

`language_encoder.py` runs it. B prompts, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.encode.lines import lines_of, text_of
from ecliptic.diffusion.encode.request import Request
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.language_encoder import LanguageEncoder
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.tokens.ledger import EncoderReading
from ecliptic.errors import ConfigError, ShapeError, warn
from ecliptic.prompts import parse


@dataclass(frozen=True, eq=False)
class T5Tensors:
    """The tensors of T5 for both sides of a call; None where there is none."""

    positive: Tensor | None  # (B, T, D)
    negative: Tensor | None
    width: int  # of the model, for zeros; 0: the family has no T5
    words: tuple[Sequence[str], Sequence[str]] = ((), ())  # that T5 read of both sides, if it did

    def row(self, number: int) -> "T5Tensors":
        """The tensors of one prompt."""
        here, there = (
            None if x is None else x[number : number + 1] for x in (self.positive, self.negative)
        )
        return T5Tensors(here, there, self.width, self.words)

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
    texts: Sequence[str], t5: T5Tensors, *, negative: bool, name: Callable[[str, int], str]
) -> list[EncoderReading]:
    """What T5 reads of each prompt of one side; its tokens are not counted.

    Args:
        texts: of the prompts, as they were given.
        t5: of both sides.
        negative: which side.
        name: gives the argument that gave a text for a prompt.
    """
    if not t5.width:
        return []  # the family has no T5
    tensor = t5.negative if negative else t5.positive
    output = (
        "nothing: no T5 was given" if tensor is None else f"sequence of {tensor.shape[1]} tokens"
    )
    words = t5.words[negative] or texts
    return [
        EncoderReading(
            "t5", text, (), (), name(text, n), n, len(texts), holds=words[n], output=output
        )
        for n, text in enumerate(texts)
    ]


class T5Reader:
    """Makes the tensors of T5 for the calls of one conditioner."""

    def __init__(
        self,
        family: Family,
        encoder: LanguageEncoder | Literal[False] | None,
        *,
        width: int | None = None,
        any_size: bool = False,
    ) -> None:
        """Keep what all calls share.

        Args:
            family: of the conditioner.
            encoder: of T5; None if there is none, False if it was left out on purpose.
            width: D of the model, if the pipeline states it; None: that of the family.
            any_size: take another D.
        """
        self.family = family
        self.encoder = encoder or None
        self._any_size = any_size
        self._width = width or (0 if family.language is None else family.language.width)
        self._said = encoder is False  # that there is no T5

    def identity(self) -> dict[str, Any]:
        """All of T5 that determines the result, as JSON values for cache keys."""
        zeros: dict[str, Any] = {"t5_width": self._width} if self._width else {}  # in its place
        return {"t5": self.encoder.identity()} if self.encoder else zeros

    def read(
        self,
        request: Request,
        options: Options,
        given: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> T5Tensors:
        """Take T5 of both sides as given, or encode it from the prompts.

        Args:
            request: the prompts.
            options: of the call.
            given: (B, T, D) of both sides, if the caller has them.

        Raises:
            ConfigError: the family does not use T5, or a wording for T5 beside its tensors.
            ShapeError: not three axes, another number of prompts or another D, or two different
                shapes.

        Warns:
            ConditioningWarning: there is no T5, which is said once, or a wording without effect.
        """
        family, rule = self.family, self.family.language
        length, some = options.max_sequence_length, any(one is not None for one in given)
        if rule is None:
            if some or length is not None:
                name = "t5" if some else "max_sequence_length"
                raise ConfigError(f"{family.title} does not use T5; leave {name} out.")
            return T5Tensors(None, None, 0)
        _check_wordings(request, given)
        if some and length is not None:
            raise ConfigError(
                "t5 is already encoded, so max_sequence_length has no effect; leave it out."
            )
        width, texts = self._width, request.language
        read = [self.encoder is not None and one is None for one in given]  # sides to encode
        words = (
            _list_words(texts[0], options, negative=False) if read[0] else (),
            _list_words(texts[1], options, negative=True) if read[1] else (),
        )
        positive, negative = (
            self._read_side(one, side, len(texts[0]), width, length)
            for one, side in zip(given, words, strict=True)
        )
        if positive is None and negative is None:
            self._say_missing(request, options)
        if family.negative == "encode" and texts[1]:
            positive, negative = _fill_missing_side(positive, negative)
        _check_shapes(positive, negative)
        return T5Tensors(positive, negative, width, words)

    def _read_side(
        self,
        t5: Tensor | None,
        texts: Sequence[str],
        count: int,
        width: int,
        length: int | None,
    ) -> Tensor | None:
        """The (count, T, width) tensor of one side; None if there is none."""
        if t5 is None and self.encoder is not None and texts:
            t5 = self.encoder.encode(texts, length)
        if t5 is None:
            return None
        _check_tensor(t5, count, None if self._any_size else width)
        return t5.expand(count, -1, -1)

    def _say_missing(self, request: Request, options: Options) -> None:
        """Warn if wordings for T5 reach nothing, and once that there is no T5."""
        sides = ("prompt", "negative")[: 1 + bool(request.language[1])]  # that T5 would read
        names = [name for name in request.own_wordings if name.startswith(sides)]
        alone = self.family.language is not None and self.family.language.join == "alone"
        if alone and options.max_sequence_length is not None:
            names.append("max_sequence_length")
        if names:
            warn(
                f"there is no T5 to read {' and '.join(names)}, so it has no "
                "effect; pass t5=FOLDER to the conditioner.",
                ConditioningWarning,
                stacklevel=None,
            )
        if self._said or (not alone and options.behaviour.missing_t5 == 0):
            return
        self._said = True
        so = "only the pooled vector is made" if alone else "zeros stand in the place of its tokens"
        warn(
            f"{self.family.title} reads T5 too, but this conditioner has none, so {so}; pass "
            "t5=FOLDER to the conditioner, or its tensors to a call, or t5=False to leave it out "
            "without this warning, which is not repeated.",
            ConditioningWarning,
            stacklevel=None,
        )


def _list_words(texts: Sequence[str], options: Options, *, negative: bool) -> tuple[str, ...]:
    """The words of each prompt without the syntax of its dialect, which T5 would read as text.

    Warns:
        ConditioningWarning: a prompt changes over the steps or has AND.
    """
    if options.dialect == "plain":
        return tuple(texts)
    words = []
    for text in texts:
        parts = parse(text, options.dialect).readings(options.steps, negative=negative)
        if len(parts) > 1 or len(parts[0].schedule) > 1:
            warn(
                f"T5 reads only the first of the parts of {text!r}, though CLIP reads each; pass "
                "another wording for T5, or encode each part alone.",
                ConditioningWarning,
                stacklevel=None,
            )
        lines = lines_of(parts[0].schedule[0][1])
        glue = " " if options.dialect == "compel" else ""  # it strips the spaces of fragments
        words.append(" ".join(text_of(line, glue) for line in lines))
    return tuple(words)


def _check_wordings(request: Request, given: tuple[Tensor | None, Tensor | None]) -> None:
    """Raise ConfigError for a wording for T5 beside tensors of T5, which replace it."""
    for tensor, wording in zip(given, ("prompt", "negative"), strict=True):
        names = [name for name in request.own_wordings if name.startswith(wording)]
        if tensor is not None and names:
            t5 = "t5" if wording == "prompt" else "negative_t5"
            raise ConfigError(
                f"{t5} is already encoded, so T5 cannot read {names[0]}; leave one of them out."
            )


def _check_shapes(positive: Tensor | None, negative: Tensor | None) -> None:
    if positive is not None and negative is not None and positive.shape != negative.shape:
        raise ShapeError(
            f"t5 {tuple(positive.shape)} and negative_t5 {tuple(negative.shape)} differ, but "
            "guidance runs both sides in one batch; pad both to one length."
        )


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
