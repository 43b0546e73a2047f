"""Encodes lines of a prompt with one encoder: tokens, chunks, vectors, weights, blends.

C chunks, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.diffusion.emphasis.blending import (
    blend,
    blend_pooled,
    concatenate,
    concatenate_pooled,
)
from ecliptic.diffusion.emphasis.chunk_ends import share_ends
from ecliptic.diffusion.emphasis.extending import common_length, extend
from ecliptic.diffusion.emphasis.scaling import original_batch
from ecliptic.diffusion.emphasis.variants import Variant
from ecliptic.diffusion.emphasis.weighting import Plan, WeightedVectors, plan
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.lengths import Encoding
from ecliptic.diffusion.encode.request import Loras
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.tokens.chunks import (
    Chunks,
    TokenizedLine,
    equalise,
    lay_out,
    pad_chunks,
)
from ecliptic.diffusion.tokens.tokens import Token, tokenize
from ecliptic.diffusion.tokens.words import Wording
from ecliptic.engine import numerical_error
from ecliptic.errors import ConfigError
from ecliptic.model import TextOutputs
from ecliptic.prompts import Break, Line, Mix, Reading, Segment

EMPTY = Line((Segment(""),))
VARIANTS = 32  # chunks of variants after which they are encoded together


@dataclass(frozen=True, eq=False)
class _Work:
    """A line to encode."""

    line: Line
    chunks: Chunks
    plan: Plan | None  # of its weights; None if they do nothing, or act on the whole group
    group: Hashable
    is_empty: bool  # the empty prompt, whose vectors stay unchanged


class LineEncoder:
    """Encodes lines with one encoder and the options of one call, and keeps the results."""

    def __init__(
        self, encoder: TextEncoder, options: Options, *, negative: bool, loras: Loras = ()
    ) -> None:
        self.encoder = encoder
        self.options = options
        self.loras = loras  # merged while it encodes; the caller does that
        skips = options.behaviour.skips_negative or not negative
        self.layer = encoder.layer(options.clip_skip if skips else None)
        self.empty: Encoding | None = None  # the empty prompt, once it is encoded
        self._empty_vectors: Tensor | None = None  # (1, T, D)
        self._streams: dict[Line, list[Token | Break]] = {}
        self._tokenized: dict[Line, TokenizedLine] = {}
        self._encodings: dict[tuple[Hashable, Line], Encoding] = {}

    def tokenize(self, line: Line) -> TokenizedLine:
        """Split `line` into tokens and chunks, without encoding it."""
        if line not in self._tokenized:
            self._streams[line] = self._stream(line)
            found = self._lay_out(self._streams[line])
            self._tokenized[line] = found.first_chunk() if self.encoder.only_pooled else found
        return self._tokenized[line]

    def _stream(self, line: Line) -> list[Token | Break]:
        encoder = self.encoder
        return tokenize(
            line,
            encoder.tokenizer,
            self._wording(),
            inversions=encoder.inversions,
            match=self.options.match,
        )

    def _lay_out(self, stream: Sequence[Token | Break]) -> TokenizedLine:
        spec = self.encoder.tokenizer.spec
        return lay_out(
            stream,
            self.options.layout,
            context=self.encoder.context,
            start=spec.start_of_text,
            end=spec.end_of_text,
            pad=self.encoder.pad,
        )

    def _without(self, line: Line) -> Callable[[int], Chunks]:
        """Lays out `line` without one segment, in as many chunks as the whole line has."""
        whole, stream = len(self.tokenize(line).chunks), self._streams[line]
        end, pad = self.encoder.tokenizer.spec.end_of_text, self.encoder.pad

        def lay_out_rest(segment: int) -> Chunks:
            rest = [one for one in stream if isinstance(one, Break) or one.segment != segment]
            found = self._lay_out(rest).chunks
            if len(found) > whole:
                raise ConfigError(
                    f"{text_of(line)[:80]!r} needs more chunks without one of its light "
                    'fragments than with it; use emphasis="compel", or another layout.'
                )
            return pad_chunks(found, whole, end=end, pad=pad)

        return lay_out_rest

    def encode(self, lines: Sequence[Line], *, empty: bool = False, group: Hashable = None) -> None:
        """Encode lines in one batch, with all that their weights need; `encoding` returns them.

        Args:
            lines: to encode; those that are already encoded are skipped.
            empty: encode the empty prompt too.
            group: name of the group of these lines, whose weights share their means; a line may
                be in several groups.
        """
        work = self._list_work(lines, empty, group)
        if not work:
            return
        rule, grad = self.encoder.rule, self.options.grad
        prompts = [one.chunks for one in work]
        outputs = self.encoder.run(prompts, self.layer, pooled=rule.pooled is not None, grad=grad)
        started = self._start(work, outputs, group)
        for some in _batch_variants(work, started):
            forms = [variant.chunks for _, variant in some]
            found = self.encoder.run(forms, self.layer, pooled=False, grad=grad).sequence
            assert found is not None  # weights act on sequences alone
            parts = torch.split(found, list(map(len, forms)))
            for (weighted, variant), vectors in zip(some, parts, strict=True):
                weighted.add(variant, vectors)
        self._keep(work, started, outputs)

    def encoding(self, reading: Reading, group: Hashable = None) -> Encoding:
        """The encoding of `reading`, whose lines are already encoded."""
        if isinstance(reading, Line):
            return self._encodings[group, reading]
        parts = [self.encoding(part, group) for part, _ in reading.parts]
        return self._mix(reading, parts, [weight for _, weight in reading.parts])

    def _wording(self) -> Wording:
        behaviour, padded = self.options.behaviour, self.encoder.pad == 0
        cleaning = behaviour.cleaning_zero_padded if padded else behaviour.cleaning
        if self.encoder.rule.repairs_text:
            cleaning = "openai"
        return Wording(behaviour.exclamation if padded else "word", cleaning)

    def _list_work(self, lines: Sequence[Line], empty: bool, group: Hashable) -> list[_Work]:
        """List the lines to encode; the empty prompt is last if only the others need it."""
        shared = group is not None
        todo = list(lines) if shared else list(dict.fromkeys(lines))
        todo = [line for line in todo if (group, line) not in self._encodings]
        tokenized = [self.tokenize(line) for line in todo]
        empties = [not shared and one.is_empty for one in tokenized]
        chunks = [one.chunks for one in tokenized]
        if shared:
            end, pad = self.encoder.tokenizer.spec.end_of_text, self.encoder.pad
            chunks = equalise(chunks, end=end, pad=pad)
        plain = shared or self.layer is None
        plans = [
            None if plain else plan(one, self.options.weighting, self._without(line))
            for line, one in zip(todo, chunks, strict=True)
        ]
        parts = zip(todo, chunks, plans, empties, strict=True)
        work = [_Work(line, one, plan, group, none) for line, one, plan, none in parts]
        wanted = empty or any(one is not None and one.needs_empty for one in plans)
        if wanted and self.empty is None and not any(empties):
            work.append(_Work(EMPTY, self.tokenize(EMPTY).chunks, None, None, is_empty=True))
        return work

    def _start(
        self, work: Sequence[_Work], outputs: TextOutputs, group: Hashable
    ) -> list[Tensor | WeightedVectors | None]:
        """Split the outputs into the vectors of each line; weighted ones still lack variants."""
        if outputs.sequence is None:
            return [None] * len(work)
        z = list(torch.split(outputs.sequence, [len(one.chunks) for one in work]))
        for one, vectors in zip(work, z, strict=True):
            if one.is_empty:
                self._empty_vectors = vectors
        if group is not None:
            members = [one.chunks for one in work if one.group is not None]
            z[: len(members)] = original_batch(z[: len(members)], members)
        return [
            vectors if one.plan is None else WeightedVectors(one.plan, vectors, self._empty_vectors)
            for one, vectors in zip(work, z, strict=True)
        ]

    def _keep(
        self,
        work: Sequence[_Work],
        started: Sequence[Tensor | WeightedVectors | None],
        outputs: TextOutputs,
    ) -> None:
        folders_do = self.options.behaviour.projects_folder_l
        projects = self.encoder.projects(folders_do=folders_do)
        pooled = outputs.vectors if projects else outputs.pooled
        firsts = accumulate((len(one.chunks) for one in work), initial=0)
        for one, z, first in zip(work, started, firsts, strict=False):
            vectors = z.result() if isinstance(z, WeightedVectors) else z
            found = self._make_encoding(one, vectors, None if pooled is None else pooled[first])
            self._encodings[one.group, one.line] = found
            if one.is_empty:
                self.empty = found

    def _make_encoding(self, one: _Work, z: Tensor | None, pooled: Tensor | None) -> Encoding:
        """Make the encoding of one line from its `used` positions; all values must be finite."""
        for tensor in (z, pooled):
            if tensor is not None and not is_finite(tensor):
                raise numerical_error(repr(text_of(one.line)))
        ids = one.chunks.ids.to(self.encoder.clip.device)
        keep = one.chunks.keep
        if z is not None:
            end = self.encoder.tokenizer.spec.end_of_text
            z = share_ends(one.chunks, z, self.options.chunk_ends, end=end)
        return Encoding(None if z is None else keep(z), pooled, keep(self.encoder.in_use(ids)))

    def _mix(self, mix: Mix, parts: Sequence[Encoding], weights: Sequence[float]) -> Encoding:
        """Apply compel's `.blend` or `.and` to encoded parts."""
        sequences = [part.sequence for part in parts if part.sequence is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        empty = None if self.empty is None else self.empty.sequence
        if mix.kind == "and":
            return Encoding(
                concatenate(sequences, weights, empty=empty) if sequences else None,
                concatenate_pooled(pooled) if pooled else None,
                torch.cat([part.mask for part in parts]),
            )
        normalize = mix.normalize
        return Encoding(
            blend(sequences, weights, normalize=normalize, empty=empty) if sequences else None,
            blend_pooled(pooled, weights, normalize=normalize) if pooled else None,
            _longest_mask(parts, self.empty),
        )


def _longest_mask(parts: Sequence[Encoding], empty: Encoding | None) -> Tensor:
    """The mask of blended parts: that of the longest, at their common length."""
    length = common_length((part.length for part in parts), 0 if empty is None else empty.length)
    mask = max(parts, key=lambda part: part.length).mask
    return extend(mask, length, None if empty is None else empty.mask)


def lines_of(reading: Reading) -> list[Line]:
    """Every line inside `reading`, in order."""
    if isinstance(reading, Line):
        return [reading]
    return [line for part, _ in reading.parts for line in lines_of(part)]


def pooled_lines_of(reading: Reading) -> list[Line]:
    """The lines that the pooled vector is made of: of prompts joined by `.and`, the first's."""
    if isinstance(reading, Line):
        return [reading]
    parts = reading.parts[:1] if reading.kind == "and" else reading.parts
    return [line for part, _ in parts for line in pooled_lines_of(part)]


def holds_of(reading: Reading) -> str:
    """The words of a reading; those of parts that are encoded apart with their weights."""
    if not isinstance(reading, Line):
        parts = (f"{holds_of(part)!r} {weight:g}" for part, weight in reading.parts)
        return f"{reading.kind} of {', '.join(parts)}"
    words = ""
    for one in reading.parts:
        text = one.text if isinstance(one, Segment) else " BREAK "
        # a segment is tokenized alone, so a word ends where it ends
        words += " " * (words[-1:].isalnum() and text[:1].isalnum()) + text
    return words


def text_of(line: Line, glue: str = "") -> str:
    """The words of `line` without syntax; `glue` goes between its segments, BREAK is a space."""
    return glue.join(part.text if isinstance(part, Segment) else " " for part in line.parts)


def _batch_variants(
    work: Sequence[_Work], started: Sequence[Tensor | WeightedVectors | None]
) -> Iterator[list[tuple[WeightedVectors, Variant]]]:
    """Yield the variants of all prompts, each with its prompt's vectors, a few chunks at a time."""
    variants = (
        (z, variant)
        for one, z in zip(work, started, strict=True)
        if isinstance(z, WeightedVectors) and one.plan is not None
        for variant in one.plan.variants
    )
    some: list[tuple[WeightedVectors, Variant]] = []
    for z, variant in variants:
        some.append((z, variant))
        if sum(len(other.chunks) for _, other in some) >= VARIANTS:
            yield some
            some = []
    if some:
        yield some
