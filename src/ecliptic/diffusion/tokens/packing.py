"""How many tokens each chunk of a run takes, by the rule of each tool.

A packer yields the sizes of the chunks of one run, which are contiguous; a run ends at a BREAK.
Sources: stable-diffusion-webui modules/sd_hijack_clip.py `tokenize_line`; ComfyUI
comfy/sd1_clip.py `SDTokenizer.tokenize_with_weights`; compel 2.5.1, embeddings_provider.py
`_find_next_best_split_point` with `truncate_long_prompts=False`; kohya sd-scripts
library/strategy_base.py and lpw_stable_diffusion.py of diffusers, which both cut hard.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Literal, TypeAlias

from ecliptic.diffusion.tokens.tokens import Token
from ecliptic.inputs import SPECIALS

Packer: TypeAlias = Callable[[Sequence[Token], int], Iterator[int]]  # (run, room) -> sizes

COMMA = 267  # id of "," ending a word: byte pairs begin with 256 bytes, then the same as word ends
BACKTRACK = 20  # tokens; webui's default of `comma_padding_backtrack`
KEPT_WHOLE = 8  # tokens; ComfyUI's `max_word_length`: smaller groups are never cut


def hard_cut(run: Sequence[Token], room: int) -> Iterator[int]:
    """Full chunks and a last one."""
    left = len(run)
    while left:
        yield min(left, room)
        left -= min(left, room)


def a1111_sizes(run: Sequence[Token], room: int) -> Iterator[int]:
    """Full chunks, but what follows a comma less than 20 tokens from the end moves on.

    An inversion that does not fit moves on whole; webui leaves its vectors behind when a comma
    moves it, here they stay with it. One of more vectors than a chunk holds, which webui cannot
    encode, is cut.
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
    """Segments one behind the other; one of less than 8 tokens is never cut where it could fit."""
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
    """[start, after) of every token, and of all vectors of one inversion together."""
    start = 0
    for _, tokens in groupby(run, key=lambda token: (token.word, token.vector is not None)):
        size = len(list(tokens))
        if run[start].vector is not None:
            yield start, start + size
        else:
            yield from ((place, place + 1) for place in range(start, start + size))
        start += size


Split = Literal["sentences", "phrases", "words"]
_Ending: TypeAlias = Callable[[Sequence[Token], int], bool]  # does it end at this place?

# ids of "." and of ". , ; :" ending a word, in the order of the byte pairs
SENTENCE_ENDS = frozenset({269})
PHRASE_ENDS = frozenset({269, 267, 282, 281})


def compel_sizes(split: Split) -> Packer:
    """The packer of one `split_long_text_mode`; the brutal one is `hard_cut`.

    As in compel, the last place that fits is taken, even one that leaves the chunk nearly empty.
    """
    endings = _ENDINGS[_SPLITS.index(split) :]

    def sizes(run: Sequence[Token], room: int) -> Iterator[int]:
        first = 0
        while len(run) - first > room:
            size = next(filter(None, (_last(run, first, room, ends) for ends in endings)), room)
            yield size
            first += size
        yield from hard_cut(run[first:], room)

    return sizes


def _last(run: Sequence[Token], first: int, room: int, ends: _Ending) -> int:
    """Size of the longest chunk from `first` on after which `ends` holds; 0 where there is none."""
    return next((size for size in range(room, 0, -1) if ends(run, first + size - 1)), 0)


def _ends_sentence(run: Sequence[Token], place: int) -> bool:
    return run[place].id in SENTENCE_ENDS


def _ends_phrase(run: Sequence[Token], place: int) -> bool:
    return run[place].id in PHRASE_ENDS


def _ends_word(run: Sequence[Token], place: int) -> bool:
    """Whether the piece is word-final; tokens added to the vocabulary never are."""
    token = run[place]
    added = token.vector is not None or token.id == 0 or token.piece in SPECIALS
    last = place + 1 == len(run) or run[place + 1].word != token.word
    return last and not added


_SPLITS: tuple[Split, ...] = ("sentences", "phrases", "words")  # each falls back to the next
_ENDINGS: tuple[_Ending, ...] = (_ends_sentence, _ends_phrase, _ends_word)
