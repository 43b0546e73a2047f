"""Tokens laid out in chunks that a text encoder reads one by one: one row of a table per tool.

`packing.py` and `compel_layout.py` say where chunks end. C chunks, T tokens of context.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ecliptic.diffusion.compel_layout import compel_sizes
from ecliptic.diffusion.packing import Packer, a1111_sizes, comfyui_sizes, hard_cut
from ecliptic.diffusion.rows import NO_WORD, Rows, Token
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.prompts import Break

Layout = Literal[
    "truncate",
    "a1111",
    "comfyui",
    "compel",
    "compel-phrases",
    "compel-words",
    "compel-brutal",
    "kohya",
    "lpw",
]
Place = tuple[int, int]  # (chunk, position), start of text at position 0


@dataclass(frozen=True)
class _Scheme:
    """How one layout fills chunks."""

    sizes: Packer
    most: int | None = None  # chunks; tokens beyond are dropped
    breaks: bool = True  # BREAK begins a chunk
    joined: bool = False  # start and end of inner chunks are left out of the output


_SCHEMES: Mapping[Layout, _Scheme] = MappingProxyType(
    {
        "truncate": _Scheme(hard_cut, most=1, breaks=False),
        "a1111": _Scheme(a1111_sizes),
        "comfyui": _Scheme(comfyui_sizes),
        "compel": _Scheme(compel_sizes("sentences")),
        "compel-phrases": _Scheme(compel_sizes("phrases")),
        "compel-words": _Scheme(compel_sizes("words")),
        "compel-brutal": _Scheme(hard_cut),
        "kohya": _Scheme(hard_cut, most=3, joined=True),  # max_token_length 225
        "lpw": _Scheme(hard_cut, most=3),  # max_embeddings_multiples 3
    }
)
LAYOUTS: tuple[Layout, ...] = tuple(_SCHEMES)


@dataclass(frozen=True, eq=False)
class LaidOut:
    """Rows for an encoder, and where each token of the prompt went."""

    rows: Rows
    places: tuple[Place | None, ...]  # of each token, breaks not counted; None is dropped
    dropped: tuple[Token, ...]  # tokens that no chunk holds, in order


def lay_out(
    stream: Sequence[Token | Break],
    layout: Layout,
    *,
    context: int,
    start: int,
    end: int,
    pad: int,
) -> LaidOut:
    """The chunks of one prompt: start, tokens, end, padding. The empty prompt is one chunk.

    Args:
        stream: tokens and breaks of one line, without start and end.
        layout: one of `LAYOUTS`.
        context: tokens of a chunk, start and end included.
        start: id of the start of text.
        end: id of the end of text.
        pad: id that fills a chunk after its end of text.

    Raises:
        ConfigError: there is no such layout, or a context too short for a token.
    """
    if layout not in _SCHEMES:
        near = difflib.get_close_matches(str(layout), _SCHEMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"layout must be one of {', '.join(_SCHEMES)}, got {layout!r}. {hint}")
    if context < 3:
        raise ConfigError(f"context must hold start, one token and end, got {context}.")
    scheme = _SCHEMES[layout]
    chunks = list(_chunks(stream, scheme, context - 2))
    kept, rest = chunks[: scheme.most], chunks[len(chunks[: scheme.most]) :]
    rows = _rows(kept, context=context, start=start, end=end, pad=pad)
    if scheme.joined:
        rows = replace(rows, used=_joined(*rows.ids.shape))
    dropped = tuple(token for chunk in rest for token in chunk)
    held = [(c, place) for c, chunk in enumerate(kept) for place in range(1, len(chunk) + 1)]
    return LaidOut(rows, (*held, *[None] * len(dropped)), dropped)


def pad_chunks(rows: Rows, chunks: int, *, end: int, pad: int) -> Rows:
    """The same prompt in `chunks` chunks, those added being the empty prompt.

    A1111 (by option), compel and kohya lengthen the shorter of two prompts like this.

    Raises:
        ShapeError: there are more chunks already.
    """
    C, T = rows.ids.shape
    if chunks < C:
        raise ShapeError(
            f"a prompt of {C} chunks cannot be padded to {chunks}; ask for at least {C}."
        )
    if chunks == C:
        return rows
    start = int(rows.ids[0, 0])
    added = _rows([[]] * (chunks - C), context=T, start=start, end=end, pad=pad)
    seen = torch.ones_like(added.ids, dtype=torch.bool)
    return Rows(
        torch.cat([rows.ids, added.ids]),
        torch.cat([rows.weights, added.weights]),
        torch.cat([rows.words, added.words]),
        torch.cat([rows.segments, added.segments]),
        rows.vectors,
        None if rows.mask is None else torch.cat([rows.mask, seen]),
        None if rows.used is None else _joined(chunks, T),
    )


def equalise(prompts: Sequence[Rows], *, end: int, pad: int) -> list[Rows]:
    """Every prompt with as many chunks as the longest has, by `pad_chunks`."""
    longest = max((len(rows.ids) for rows in prompts), default=0)
    return [pad_chunks(rows, longest, end=end, pad=pad) for rows in prompts]


def _chunks(stream: Sequence[Token | Break], scheme: _Scheme, room: int) -> Iterator[list[Token]]:
    """The tokens of each chunk; one at least, and an empty one for a BREAK after nothing."""
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


def _rows(
    chunks: Sequence[Sequence[Token]], *, context: int, start: int, end: int, pad: int
) -> Rows:
    def column(fill: int, of: Callable[[Token], int]) -> Tensor:
        table = torch.full((len(chunks), context), fill)  # (C, T) int64
        for row, chunk in zip(table, chunks, strict=True):
            row[1 : len(chunk) + 1] = torch.tensor([of(token) for token in chunk])
        return table

    ids = column(pad, lambda token: token.id)
    weights = torch.ones(ids.shape)
    vectors: dict[Place, Tensor] = {}
    ids[:, 0] = start
    for number, chunk in enumerate(chunks):
        ids[number, len(chunk) + 1] = end
        weights[number, 1 : len(chunk) + 1] = torch.tensor([token.weight for token in chunk])
        placed = enumerate(chunk, start=1)
        vectors |= {(number, p): t.vector for p, t in placed if t.vector is not None}
    words = column(NO_WORD, lambda token: token.word)
    return Rows(ids, weights, words, column(NO_WORD, lambda token: token.segment), vectors)


def _joined(chunks: int, context: int) -> Tensor:
    """Positions kept where the starts and ends of inner chunks are left out."""
    used = torch.ones((chunks, context), dtype=torch.bool)  # (C, T)
    used[1:, 0] = False
    used[:-1, -1] = False
    return used
