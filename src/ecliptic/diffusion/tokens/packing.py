"""The number of tokens in each chunk of a run, by the rule of each tool.

A packer yields the sizes of the contiguous chunks of one run; a run ends at a BREAK.
Sources: stable-diffusion-webui modules/sd_hijack_clip.py `tokenize_line`; ComfyUI
comfy/sd1_clip.py `SDTokenizer.tokenize_with_weights`; compel 2.5.1, embeddings_provider.py
`_find_next_best_split_point` with `truncate_long_prompts=False`; kohya sd-scripts
library/strategy_base.py and lpw_stable_diffusion.py of diffusers, which both fill every chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias

from ecliptic.diffusion.tokens.tokens import Token
from ecliptic.inputs import SPECIALS

Packer: TypeAlias = Callable[[Sequence[Token], int], Iterator[int]]  # (run, room) -> sizes

COMMA = 267  # id of "," ending a word: ids begin with 256 bytes, then the same bytes as word ends
BACKTRACK = 20  # tokens; webui's default of `comma_padding_backtrack`
KEPT_WHOLE = 8  # tokens; ComfyUI's `max_word_length`: smaller groups are never cut


def full_sizes(run: Sequence[Token], room: int) -> Iterator[int]:
    """Fill every chunk but the last."""
    return (min(room, len(run) - first) for first in range(0, len(run), room))


def a1111_sizes(run: Sequence[Token], room: int) -> Iterator[int]:
    """Fill every chunk, but move tokens after a comma among the last 20 to the next chunk.

    An inversion that does not fit moves whole. If a comma moves it, webui leaves its vectors
    behind; here they move with it. An inversion of more vectors than a chunk holds, which webui
    cannot encode, is cut.
    """
    first, comma = 0, -1  # of the chunk: its first token, its last comma
    for start, after in _units(run):
        if run[start].id == COMMA:
            comma = start
        elif start - first == room and comma >= 0 and start - comma <= BACKTRACK:
            yield comma + 1 - first
            first, comma = comma + 1, -1
        if start - first == room or (after - first > room and start > first and after > start + 1):
            yield start - first
            first, comma = start, -1
        while after - first > room:
            yield room
            first += room
    if first < len(run):
        yield len(run) - first


def comfyui_sizes(run: Sequence[Token], room: int) -> Iterator[int]:
    """Pack segments in order; a segment of less than 8 tokens is not cut if a chunk can hold it."""
    filled = 0
    for _, tokens in groupby(run, key=lambda token: token.segment):
        left = size = len(list(tokens))
        while filled + left > room:
            if size >= KEPT_WHOLE or size > room:
                left -= room - filled
                filled = room
            if filled:
                yield filled
            filled = 0
        filled += left
    if filled:
        yield filled


def _units(run: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Yield [start, after) of every token; all vectors of an inversion are one unit."""
    start = 0
    for _, tokens in groupby(run, key=lambda token: (token.word, token.vector is not None)):
        size = len(list(tokens))
        if run[start].vector is not None:
            yield start, start + size
        else:
            yield from ((place, place + 1) for place in range(start, start + size))
        start += size


_Ending: TypeAlias = Callable[[Sequence[Token], int], bool]  # does it end at this place?

# ids of "." and of ". , ; :" ending a word, in the order of the byte pairs
SENTENCE_ENDS = frozenset({269})
PHRASE_ENDS = frozenset({269, 267, 282, 281})


def compel_sizes(*endings: _Ending) -> Packer:
    """Make the packer of one `split_long_text_mode`: try each ending in order, else fill chunks.

    Like compel, it takes the last place that fits, even if the chunk is then nearly empty.
    """

    def sizes(run: Sequence[Token], room: int) -> Iterator[int]:
        first = 0
        while len(run) - first > room:
            found = (_find_last(run, first, room, ends) for ends in endings)
            size = next(filter(None, found), room)
            yield size
            first += size
        yield from full_sizes(run[first:], room)

    return sizes


def _find_last(run: Sequence[Token], first: int, room: int, ends: _Ending) -> int:
    """Size of the longest chunk from `first` that stops at an ending; 0 if there is none."""
    return next((size for size in range(room, 0, -1) if ends(run, first + size - 1)), 0)


def ends_sentence(run: Sequence[Token], place: int) -> bool:
    """Whether the token is a full stop."""
    return run[place].id in SENTENCE_ENDS


def ends_phrase(run: Sequence[Token], place: int) -> bool:
    """Whether the token is a full stop, comma, semicolon or colon."""
    return run[place].id in PHRASE_ENDS


def ends_word(run: Sequence[Token], place: int) -> bool:
    """Whether the token ends a word; tokens added to the vocabulary never do."""
    token = run[place]
    added = token.vector is not None or token.id == 0 or token.piece in SPECIALS
    last = place + 1 == len(run) or run[place + 1].word != token.word
    return last and not added
