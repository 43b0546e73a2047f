"""Lays out tokens in chunks, which a text encoder reads one by one; one row of a table per tool.

`packing.py` decides where chunks end. C chunks, T tokens of context, D width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ecliptic.checks import check_choice
from ecliptic.diffusion.options import ChunkLayout
from ecliptic.diffusion.tokens.packing import (
    Packer,
    a1111_sizes,
    comfyui_sizes,
    compel_sizes,
    ends_phrase,
    ends_sentence,
    ends_word,
    full_sizes,
)
from ecliptic.diffusion.tokens.tokens import Token
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.prompts import Break

NO_WORD = -1  # for start, end and padding in `Chunks.words` and `Chunks.segments`
_COLUMNS = ("ids", "weights", "words", "segments")
ChunkPlace = tuple[int, int]  # (chunk, position), start of text at position 0


@dataclass(frozen=True, eq=False)
class Chunks:
    """The chunks of one prompt for one encoder, ready for its tower."""

    ids: Tensor  # (C, T) int64
    weights: Tensor  # (C, T) float32; 1 on start, end and padding
    words: Tensor  # (C, T) int64, or NO_WORD
    segments: Tensor  # (C, T) int64, or NO_WORD
    vectors: Mapping[ChunkPlace, Tensor] = field(default_factory=dict)  # place -> (D,)
    mask: Tensor | None = None  # (C, T) bool: tokens that may be attended to; None is all
    used: Tensor | None = None  # (C, T) bool: positions of the output that are kept; None is all

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, output: Tensor) -> Tensor:
        """Keep the `used` positions of an encoder's output, in order: (C, T, ...) -> (N, ...)."""
        if self.used is None:
            return output.flatten(0, 1)
        return output[self.used.to(output.device)]

    def select(self, numbers: Sequence[int]) -> "Chunks":
        """Select some of the chunks; `used` is left out."""
        rows = torch.tensor(numbers)
        new = {number: place for place, number in enumerate(numbers)}
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Chunks(
            **columns,
            vectors={(new[c], p): vector for (c, p), vector in self.vectors.items() if c in new},
            mask=None if self.mask is None else self.mask[rows],
        )


@dataclass(frozen=True, eq=False)
class TokenizedLine:
    """The tokens of a line of a prompt, and the chunks that hold them."""

    tokens: tuple[Token, ...]
    chunks: Chunks
    places: tuple[ChunkPlace | None, ...]  # of each token; None if no chunk holds it

    @property
    def dropped(self) -> tuple[Token, ...]:
        """Tokens that no chunk holds, in order."""
        pairs = zip(self.tokens, self.places, strict=True)
        return tuple(token for token, place in pairs if place is None)

    @property
    def is_empty(self) -> bool:
        """Whether it is the empty prompt."""
        return not self.tokens and len(self.chunks) == 1

    def first_chunk(self) -> "TokenizedLine":
        """The first chunk alone; the tokens of the others are dropped."""
        if len(self.chunks) == 1:
            return self
        kept = (place if place is not None and place[0] == 0 else None for place in self.places)
        return replace(self, chunks=self.chunks.select([0]), places=tuple(kept))

    def unread(self) -> "TokenizedLine":
        """The same line, every token of which is dropped."""
        return replace(self, places=(None,) * len(self.tokens))


@dataclass(frozen=True)
class _Scheme:
    """How one layout fills chunks."""

    sizes: Packer
    most: int | None = None  # chunks; more tokens are dropped
    breaks: bool = True  # BREAK begins a chunk
    shares_ends: bool = False  # start and end of inner chunks are left out of the output


_SCHEMES: Mapping[ChunkLayout, _Scheme] = MappingProxyType(
    {
        "truncate": _Scheme(full_sizes, most=1, breaks=False),
        "a1111": _Scheme(a1111_sizes),
        "comfyui": _Scheme(comfyui_sizes),
        "compel": _Scheme(compel_sizes(ends_sentence, ends_phrase, ends_word)),
        "compel-phrases": _Scheme(compel_sizes(ends_phrase, ends_word)),
        "compel-words": _Scheme(compel_sizes(ends_word)),
        "compel-brutal": _Scheme(full_sizes),
        "kohya": _Scheme(full_sizes, most=3, shares_ends=True),  # max_token_length 225
        "lpw": _Scheme(full_sizes, most=3),  # max_embeddings_multiples 3
    }
)


def lay_out(
    stream: Sequence[Token | Break],
    layout: ChunkLayout,
    *,
    context: int,
    start: int,
    end: int,
    pad: int,
) -> TokenizedLine:
    """Lay out one prompt in chunks of start, tokens, end and padding; "" is one chunk.

    Args:
        stream: tokens and breaks of one line, without start and end.
        layout: one of `LAYOUTS`.
        context: tokens of a chunk, start and end included.
        start: id of the start of text.
        end: id of the end of text.
        pad: id that fills a chunk after its end of text.

    Raises:
        ConfigError: an unknown layout, or a context too short for a token.
    """
    check_choice("layout", layout, _SCHEMES)
    if context < 3:
        raise ConfigError(f"context must hold start, one token and end, got {context}.")
    scheme = _SCHEMES[layout]
    chunks = list(_split(stream, scheme, context - 2))
    kept = chunks[: scheme.most]
    made = _fill(kept, context=context, start=start, end=end, pad=pad)
    if scheme.shares_ends:
        made = replace(made, used=_inner_positions(*made.ids.shape))
    tokens = tuple(token for chunk in chunks for token in chunk)
    held = [(c, place) for c, chunk in enumerate(kept) for place in range(1, len(chunk) + 1)]
    return TokenizedLine(tokens, made, (*held, *[None] * (len(tokens) - len(held))))


def starts_chunks(layout: ChunkLayout) -> bool:
    """Whether BREAK starts a chunk under `layout`; else it is left out."""
    return _SCHEMES[layout].breaks


def pad_chunks(chunks: Chunks, count: int, *, end: int, pad: int) -> Chunks:
    """Pad a prompt to `count` chunks with chunks of the empty prompt.

    A1111 (by option), compel and kohya lengthen the shorter of two prompts like this.

    Raises:
        ShapeError: there are more chunks already.
    """
    C, T = chunks.ids.shape
    if count < C:
        raise ShapeError(
            f"a prompt of {C} chunks cannot be padded to {count}; ask for at least {C}."
        )
    if count == C:
        return chunks
    start = int(chunks.ids[0, 0])
    added = _fill([[]] * (count - C), context=T, start=start, end=end, pad=pad)
    seen = torch.ones_like(added.ids, dtype=torch.bool)
    columns: dict[str, Any] = {
        name: torch.cat([getattr(chunks, name), getattr(added, name)]) for name in _COLUMNS
    }
    return replace(
        chunks,
        **columns,
        mask=None if chunks.mask is None else torch.cat([chunks.mask, seen]),
        used=None if chunks.used is None else _inner_positions(count, T),
    )


def equalise(prompts: Sequence[Chunks], *, end: int, pad: int) -> list[Chunks]:
    """Pad every prompt to as many chunks as the longest has."""
    longest = max(map(len, prompts), default=0)
    return [pad_chunks(chunks, longest, end=end, pad=pad) for chunks in prompts]


def _split(stream: Sequence[Token | Break], scheme: _Scheme, room: int) -> Iterator[list[Token]]:
    """Yield the tokens of each chunk, at least one; a BREAK after no tokens ends an empty chunk."""
    runs: list[list[Token]] = [[]]
    for item in stream:
        if isinstance(item, Token):
            runs[-1].append(item)
        elif scheme.breaks:
            runs.append([])
    for number, run in enumerate(runs):
        tokens = iter(run)
        for size in scheme.sizes(run, room):
            yield list(islice(tokens, size))
        if not run and (number < len(runs) - 1 or not number):
            yield []


def _fill(
    chunks: Sequence[Sequence[Token]], *, context: int, start: int, end: int, pad: int
) -> Chunks:
    def column(fill: int, of: Callable[[Token], int]) -> Tensor:
        table = torch.full((len(chunks), context), fill)  # (C, T) int64
        for row, chunk in zip(table, chunks, strict=True):
            row[1 : len(chunk) + 1] = torch.tensor([of(token) for token in chunk])
        return table

    ids = column(pad, lambda token: token.id)
    weights = torch.ones(ids.shape)
    vectors: dict[ChunkPlace, Tensor] = {}
    ids[:, 0] = start
    for number, chunk in enumerate(chunks):
        ids[number, len(chunk) + 1] = end
        weights[number, 1 : len(chunk) + 1] = torch.tensor([token.weight for token in chunk])
        placed = enumerate(chunk, start=1)
        vectors |= {(number, p): t.vector for p, t in placed if t.vector is not None}
    words = column(NO_WORD, lambda token: token.word)
    return Chunks(ids, weights, words, column(NO_WORD, lambda token: token.segment), vectors)


def _inner_positions(chunks: int, context: int) -> Tensor:
    """(C, T) bool: all positions except starts and ends between chunks."""
    used = torch.ones((chunks, context), dtype=torch.bool)  # (C, T)
    used[1:, 0] = False
    used[:-1, -1] = False
    return used
