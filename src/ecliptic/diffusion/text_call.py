"""One call's prompts become one `Conditioning`: both sides, AND, schedules, zeros, T5, sizes.

B prompts, T tokens, D width, E vector size.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.diffusion.encoders import TextEncoder
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.joining import Joined, Row, equalised, joined, shared_length
from ecliptic.diffusion.language import Language, LanguageEncoder, language_of
from ecliptic.diffusion.ledger import lost_words
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.prompting import TextSide, encode_together, unequal_rule
from ecliptic.diffusion.sizes import Sizes
from ecliptic.diffusion.wanted import Wanted
from ecliptic.errors import ConfigError
from ecliptic.inputs import TruncationWarning


@dataclass(frozen=True, eq=False)
class Setting:
    """What a conditioner brings to every call."""

    family: Family
    encoders: tuple[TextEncoder, ...]
    force_zeros: bool
    language: LanguageEncoder | None
    language_width: int | None  # of T5, where the pipeline says it


@dataclass(frozen=True, eq=False)
class Frame:
    """The pieces of all prompts between two changes, of one length."""

    end: int  # last step
    positive: Sequence[Row]
    negative: Sequence[Row] | None  # None where it is zeros or absent


class TextCall:
    """The prompts of one call under its options."""

    def __init__(
        self, setting: Setting, asked: Wanted, options: Options, sizes: Sizes | None = None
    ) -> None:
        self.setting = setting
        self.family = setting.family
        self.asked = asked
        self.options = options
        self.sizes = sizes or Sizes()

    def conditioning(self, t5: Tensor | None, negative_t5: Tensor | None) -> Conditioning:
        """Everything the call asked for."""
        language = self._language(t5, negative_t5)
        positive, negative = self._sides()
        sides = [positive, negative] if negative else [positive]
        encode_together(*sides)
        _warn_of_losses(sides)
        parts = []
        for number, frames in enumerate(self._frames(positive, negative)):
            found = [
                (f.end, self._with_ledgers(self._tensors(f, language), number, f.end, sides))
                for f in frames
            ]
            first = found[0][1]
            parts.append(replace(first, schedule=tuple(found)) if len(found) > 1 else first)
        if len(parts) == 1:
            return parts[0]
        weighted = zip(parts, positive.timeline.weights, strict=True)
        return replace(parts[0], alternatives=tuple(weighted))

    def each(self) -> list[Conditioning]:
        """Every prompt at its own length, without negatives."""
        # what is kept may not depend on which prompts were encoded beside it
        behaviour = replace(self.options.behaviour, mean_over_batch=False)
        options = replace(self.options, compat=behaviour)
        side = TextSide(self.asked.positive, self.setting.encoders, options)
        if len(side.timeline.weights) > 1 or len(side.timeline.ends(0)) > 1:
            raise ConfigError(
                "a prompt changes over the steps or joins several by AND, so it has more than one "
                "set of tensors; call the conditioner on it, and keep what you need of the result."
            )
        encode_together(side)
        _warn_of_losses([side])
        language = self._language(None, None)
        end = side.timeline.ends(0)[0]
        return [
            replace(
                self._one(joined([row], self.family), language.row(i), negative=False),
                read_ledger=partial(side.ledger, 0, end, i),
            )
            for i, row in enumerate(side.rows(0, end))
        ]

    def _sides(self) -> tuple[TextSide, TextSide | None]:
        encoders, asked = self.setting.encoders, self.asked
        positive = TextSide(asked.positive, encoders, self.options)
        if self._zeroed or (self.family.negative == "if given" and not asked.stated):
            return positive, None
        beside = TextSide(asked.negative, encoders, self.options, negative=True, beside=positive)
        return positive, beside

    @property
    def _zeroed(self) -> bool:
        """Whether the negative is zeros instead of an encoded prompt."""
        rule = self.options.behaviour.zeros
        if rule == "negative is empty":
            return self.family.sizes is not None and self.asked.negative_is_empty
        return rule == "negative is None" and self.setting.force_zeros and not self.asked.stated

    def _frames(self, positive: TextSide, negative: TextSide | None) -> list[list[Frame]]:
        """For each alternative, what holds between changes; all of one length."""
        count = len(positive.timeline.weights)
        ends = {end for a in range(count) for end in positive.timeline.ends(a)}
        ends |= set(negative.timeline.ends(0)) if negative else set()
        found = [
            [
                Frame(end, positive.rows(a, end), negative.rows(0, end) if negative else None)
                for end in sorted(ends)
            ]
            for a in range(count)
        ]
        rows = [
            row for frames in found for f in frames for row in (*f.positive, *(f.negative or ()))
        ]
        rule = unequal_rule(self.options)
        length = shared_length(rows, rule)

        def level(rows: Sequence[Row], side: TextSide) -> list[Row]:
            return [equalised(row, length, rule, side.empties) for row in rows]

        return [
            [
                Frame(
                    f.end,
                    level(f.positive, positive),
                    level(f.negative, negative) if negative and f.negative else None,
                )
                for f in frames
            ]
            for frames in found
        ]

    def _tensors(self, frame: Frame, language: Language) -> Conditioning:
        here = joined(frame.positive, self.family)
        there = joined(frame.negative, self.family) if frame.negative else None
        if self._zeroed:
            there = here.zeros()
        return replace(
            self._one(here, language, negative=False),
            negative=None if there is None else self._one(there, language, negative=True),
        )

    def _one(self, found: Joined, language: Language, *, negative: bool) -> Conditioning:
        """One side's tensors, in the dtype they come back in."""
        found = found.widened() if self.options.behaviour.float32 else found
        tokens, pooled = found.tokens, found.pooled
        rule, sizes = self.family.language, self.family.sizes
        if rule is not None and rule.join == "alone":
            tokens = language.negative if negative else language.positive
        elif rule is not None and tokens is not None:
            empty = self.options.behaviour.missing_t5
            tokens = language.joined(
                tokens,
                negative=negative,
                empty=tokens.shape[1] if empty is None else empty,
                width=self.setting.language_width or rule.width,
            )
        if pooled is not None and self.family.pooled_axis:
            pooled = pooled[:, None]  # (B, 1, E)
        batch = found.batch
        return Conditioning(
            self.family,
            tokens=tokens,
            pooled=pooled,
            mask=found.mask,
            size_ids=self.sizes.ids(sizes, batch, negative=negative) if sizes else None,
        )

    def _language(self, t5: Tensor | None, negative_t5: Tensor | None) -> Language:
        return language_of(
            self.family, self.setting.language, self.asked.language, (t5, negative_t5)
        )

    def _with_ledgers(
        self, found: Conditioning, number: int, end: int, sides: Sequence[TextSide]
    ) -> Conditioning:
        """The same with what reads the ledgers of alternative `number` at step `end`."""
        other = found.negative
        if other is not None and len(sides) > 1:
            other = replace(other, read_ledger=partial(sides[1].ledger, 0, end))
        return replace(found, read_ledger=partial(sides[0].ledger, number, end), negative=other)


def _warn_of_losses(sides: Sequence[TextSide]) -> None:
    lost = [lost_words(ledger) for side in sides for ledger in side.losses()]
    if lost:
        warnings.warn(" ".join(dict.fromkeys(lost)), TruncationWarning, stacklevel=4)
