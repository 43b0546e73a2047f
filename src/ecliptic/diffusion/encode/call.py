"""Turns the prompts of one call into a `Conditioning`: both sides, AND, schedules, T5, sizes.

B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ecliptic.diffusion.account.report import CallFacts, Origin
from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.lengths import (
    EncodedPrompt,
    join,
    lengthen,
    needs_empty,
    shared_length,
    unequal_rule,
)
from ecliptic.diffusion.encode.lines import LineEncoder
from ecliptic.diffusion.encode.networks import Merge
from ecliptic.diffusion.encode.request import Loras, Request
from ecliptic.diffusion.encode.side import Moment, Side
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.language import T5Tensors, read_t5
from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.tokens.ledger import Ledger, describe_losses
from ecliptic.errors import ConfigError, warn
from ecliptic.inputs import TruncationWarning
from ecliptic.prompts import Line


class TextCall:
    """The prompts of one call: the constructor parses them; then call `encode`, then `assemble`."""

    def __init__(
        self,
        family: Family,
        encoders: Sequence[TextEncoder],
        request: Request,
        options: Options,
        *,
        positive_only: bool = False,
        force_zeros: bool = False,
        sizes: Sizes | None = None,
    ) -> None:
        """Parse the prompts.

        Args:
            family: of the conditioner.
            encoders: of the family.
            request: the prompts.
            options: of the call.
            positive_only: leave out the negatives.
            force_zeros: use zeros, not the empty prompt, if no negative is given.
            sizes: image sizes and scores for SDXL.
        """
        self.family = family
        self.request = request
        self.options = options
        self.sizes = sizes
        self.zeros = not positive_only and self._negative_is_zeros(force_zeros)
        self.positive = Side(
            request.positive,
            encoders,
            options,
            loras=request.loras,
            base_steps=request.base_steps,
        )
        self.negative = None if positive_only else self._make_negative(encoders)
        self.sides = [side for side in (self.positive, self.negative) if side is not None]
        self.length = 0  # tokens of every prompt, set by `encode`

    def encode(self, merge: Merge) -> None:
        """Encode every line of both sides, in one batch per encoder and set of LoRAs.

        Args:
            merge: merges the LoRAs of some prompts for the time of a `with`.

        Warns:
            TruncationWarning: tokens were dropped.
        """
        mixes = any(side.mixes for side in self.sides)
        for loras, jobs in _group_by_loras(_group_lines(self.sides)).items():
            with merge(loras):
                for encoder, group, lines in jobs:
                    encoder.encode(lines, empty=mixes, group=group)
        prompts = [
            prompt
            for side in self.sides
            for moment in side.moments()
            for prompt in side.prompts(moment, levelled=False)
        ]
        rule = unequal_rule(self.options)
        if needs_empty(prompts, rule):
            rows = (row for side in self.sides for row in side.encoders)
            for loras, jobs in _group_by_loras(
                {(e, None): [] for row in rows for e in row}
            ).items():
                with merge(loras):
                    for encoder, _, lines in jobs:
                        encoder.encode(lines, empty=True)
        self.length = shared_length(prompts, rule, self.positive.empties(0))
        lost = [
            describe_losses(ledger, only_pooled=side.only_pooled)
            for side in self.sides
            for ledger in side.losses()
        ]
        if lost:
            message = " ".join(dict.fromkeys(lost))
            warn(message, TruncationWarning, stacklevel=None)

    def assemble(self, t5: T5Tensors) -> Conditioning:
        """Assemble the result of the call."""
        timeline = self.positive.timeline
        weights = [timeline.weights(number) for number in range(timeline.count)]
        moments = [moment for side in self.sides for moment in side.moments()]
        ends = sorted({end for _, end in moments})
        parts = []
        for number in range(len(weights)):
            found = [
                (end, replace(self._assemble_at((number, end), t5), facts=self.facts))
                for end in ends
            ]
            first = found[0][1]
            parts.append(replace(first, schedule=tuple(found)) if len(found) > 1 else first)
        return _add_weights(parts[0], parts, weights)

    def check_single(self) -> None:
        """Raise ConfigError if a prompt has more than one set of tensors."""
        if len(self.positive.moments()) > 1:
            raise ConfigError(
                "a prompt changes over the steps or joins several by AND, so it has more than one "
                "set of tensors; call the conditioner itself, and keep the tensors that you need."
            )

    def assemble_each(self, t5: T5Tensors) -> list[Conditioning]:
        """Assemble every prompt at its own length, without negatives."""
        moment = self.positive.moments()[0]
        weights = self.positive.timeline.weights(0)
        return [
            self._assemble_row(prompt, t5.row(number), moment, number, weights[number])
            for number, prompt in enumerate(self.positive.prompts(moment))
        ]

    def _assemble_row(
        self, prompt: EncodedPrompt, t5: T5Tensors, moment: Moment, number: int, weight: float
    ) -> Conditioning:
        joined = join([prompt], self.family, self.options.weighting.scales)
        found = replace(
            self._finish(joined, t5, negative=False),
            read_ledger=self._reads(self.positive, moment, t5, number),
            facts=self.facts,
        )
        return _add_weights(found, [found], [(weight,)])

    def _negative_is_zeros(self, force_zeros: bool) -> bool:
        rule = self.options.behaviour.zeros
        if rule == "negative is empty":
            return self.family.sizes is not None and self.request.negative_is_empty
        return rule == "negative is None" and force_zeros and not self.request.stated

    def _make_negative(self, encoders: Sequence[TextEncoder]) -> Side | None:
        """Make the negative side; None if the negative is zeros, or if there is none."""
        request, unasked = self.request, self.family.negative == "if given"
        if self.zeros or (unasked and not request.stated):
            return None
        return Side(
            request.negative,
            encoders,
            self.options,
            negative=True,
            beside=self.positive,
            loras=request.loras,
            base_steps=request.base_steps,
        )

    def _assemble_at(self, moment: Moment, t5: T5Tensors) -> Conditioning:
        """Assemble both sides at `moment`."""
        here, there = self._join_side(self.positive, moment, t5), None
        if self.zeros:
            tokens, pooled = _zeros(here.tokens), _zeros(here.pooled)
            there = replace(here, tokens=tokens, pooled=pooled, read_ledger=Ledger)
        elif self.negative is not None:
            later = (0, moment[1])  # only the positive side has AND
            there = self._join_side(self.negative, later, t5)
        found = self._finish(here, t5, negative=False)
        if there is None:
            return found
        return replace(found, negative=self._finish(there, t5, negative=True))

    def _join_side(self, side: Side, moment: Moment, t5: T5Tensors) -> Conditioning:
        rule = unequal_rule(self.options)
        prompts = [
            lengthen(one, self.length, rule, side.empties(number))
            for number, one in enumerate(
                side.prompts(moment, levelled=rule != "empty chunk")  # else both are one step
            )
        ]
        joined = join(prompts, self.family, self.options.weighting.scales)
        return replace(joined, read_ledger=self._reads(side, moment, t5))

    def _reads(
        self, side: Side, moment: Moment, t5: T5Tensors, only: int | None = None
    ) -> Callable[[], Ledger]:
        """A function that reads the ledger of a side, T5 included."""
        negative = side is self.negative
        texts = self.request.language[negative]
        read = read_t5(texts, t5, negative=negative, name=side.name_wording)
        if only is not None:
            read = [replace(read[only], prompt=0, batch=1)] if read else []
        return partial(side.ledger, moment, only, tuple(read))

    @property
    def facts(self) -> CallFacts:
        """The options in words, and where the negative comes from."""
        negative: Origin = "given" if self.request.stated else "empty prompt"
        if self.zeros or self.negative is None:
            negative = "zeros" if self.zeros else "none"
        return CallFacts(self.options.names(), negative=negative)

    def _finish(self, found: Conditioning, t5: T5Tensors, *, negative: bool) -> Conditioning:
        """Add T5 and sizes to one side, in the shape and dtype of the family."""
        behaviour, family = self.options.behaviour, self.family
        batch = next(len(x) for x in (found.tokens, found.pooled) if x is not None)
        tokens, pooled = (
            x.float() if x is not None and behaviour.float32 else x
            for x in (found.tokens, found.pooled)
        )
        rule, sizes = family.language, family.sizes
        if rule is not None and rule.join == "alone":
            tokens = t5.negative if negative else t5.positive
        elif rule is not None and tokens is not None:
            wanted = self.options.max_sequence_length
            missing = behaviour.missing_t5 if wanted is None else wanted
            tokens = t5.append_to(
                tokens,
                negative=negative,
                empty=tokens.shape[1] if missing is None else missing,
            )
        if pooled is not None and family.pooled_axis:
            pooled = pooled[:, None]  # (B, 1, E)
        if sizes is not None:
            ids = (self.sizes or Sizes()).ids(sizes, batch, negative=negative)
            found = replace(found, size_ids=ids, sizes=self.sizes)
        return replace(found, tokens=tokens, pooled=pooled)


def _add_weights(
    found: Conditioning, parts: Sequence[Conditioning], weights: Sequence[Sequence[float]]
) -> Conditioning:
    """Add the alternatives of AND, with one weight per prompt; none if nothing is weighted."""
    if len(parts) == 1 and set(weights[0]) == {1.0}:
        return found
    several = len(weights[0]) > 1
    shown = (torch.tensor(one) if several else one[0] for one in weights)
    return replace(found, alternatives=tuple(zip(parts, shown, strict=True)))


def _group_lines(sides: Iterable[Side]) -> dict[tuple[LineEncoder, Hashable], list[Line]]:
    """Group the lines by encoder and group."""
    found: dict[tuple[LineEncoder, Hashable], list[Line]] = {}
    for side in sides:
        for encoder, group, line in side.lines():
            found.setdefault((encoder, group), []).append(line)
    return found


def _group_by_loras(
    jobs: Mapping[tuple[LineEncoder, Hashable], Sequence[Line]],
) -> dict[Loras, list[tuple[LineEncoder, Hashable, Sequence[Line]]]]:
    """(encoder, group, lines) of each set of LoRAs, in order."""
    found: dict[Loras, list[tuple[LineEncoder, Hashable, Sequence[Line]]]] = {}
    for (encoder, group), lines in jobs.items():
        found.setdefault(encoder.loras, []).append((encoder, group, lines))
    return found


def _zeros(x: Tensor | None) -> Tensor | None:
    return None if x is None else torch.zeros_like(x)
