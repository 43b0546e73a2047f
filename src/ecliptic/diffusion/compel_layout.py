"""compel's ways to split a long prompt: after a sentence, a phrase, a word, or anywhere.

Source: compel 2.5.1, embeddings_provider.py `_find_next_best_split_point`, with
`truncate_long_prompts=False`. It takes the last such place within the room of a chunk, even one
that leaves the chunk nearly empty.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from ecliptic.diffusion.packing import Packer, hard_cut
from ecliptic.diffusion.rows import Token
from ecliptic.inputs import SPECIALS

Split = Literal["sentences", "phrases", "words"]
_Ending: TypeAlias = Callable[[Sequence[Token], int], bool]  # does it end at this place?

# ids of "." and of ". , ; :" ending a word, in the order of the byte pairs
SENTENCE_ENDS = frozenset({269})
PHRASE_ENDS = frozenset({269, 267, 282, 281})


def compel_sizes(split: Split) -> Packer:
    """The packer of one `split_long_text_mode`; the brutal one is `hard_cut`."""
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
