"""Byte-pair merging: the UTF-8 bytes of one word become ids of CLIP's vocabulary.

Ids are 256 bytes, the same 256 bytes ending a word, then one id per merge in the list's order.
The list is lines 1 to 48894 of openai/CLIP's `bpe_simple_vocab_16e6.txt`, in `merges.txt.gz`.
Cleaning and splitting text into words live in `tokenizer.py`.
"""

import gzip
from collections.abc import Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from importlib import resources
from itertools import pairwise

from ecliptic.errors import ConfigError

Pairs = dict[tuple[int, int], int]

BYTES = 256  # ids 0..255 are bytes inside a word, 256..511 the same bytes at its end
FIRST_MERGE = 2 * BYTES
MERGED_AWAY = -1  # stands where a symbol was joined to the one on its left

# openai/CLIP clip/simple_tokenizer.py `bytes_to_unicode`: printable bytes come first in the
# vocabulary and are written as themselves, the others are written as characters from U+0100.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
BYTE_ORDER = (*PRINTABLE, *(byte for byte in range(BYTES) if byte not in PRINTABLE))
BYTE_ID = {byte: position for position, byte in enumerate(BYTE_ORDER)}


class BytePairs:
    """The first `merges` merges of CLIP's list, ready to join bytes into ids."""

    def __init__(self, merges: int) -> None:
        pairs = _released_pairs()
        if not 0 <= merges <= len(pairs):
            raise ConfigError(
                f"merges must be 0 to {len(pairs)} (the released list), not {merges}."
            )
        self._limit = FIRST_MERGE + merges
        self._pairs = pairs
        if merges < len(pairs):
            self._pairs = {pair: id_ for pair, id_ in pairs.items() if id_ < self._limit}

    def encode_word(self, word: bytes) -> list[int]:
        """Ids of one word, whose last byte takes the word-final id; `b""` gives no id."""
        if not word:
            return []
        symbols = [BYTE_ID[byte] for byte in word]
        symbols[-1] += BYTES
        return merge(symbols, self._pairs)

    def pieces(self) -> list[bytes]:
        """The bytes of every id below start of text, in id order, without the word-final mark."""
        pieces = [bytes([byte]) for byte in BYTE_ORDER] * 2
        for left, right in self._pairs:  # insertion order is id order
            pieces.append(pieces[left] + pieces[right])
        return pieces

    def final(self) -> list[bool]:
        """For every id below start of text, whether it ends a word."""
        final = [False] * BYTES + [True] * BYTES
        for _, right in self._pairs:
            final.append(final[right])
        return final


def merge(symbols: Sequence[int], pairs: Pairs) -> list[int]:
    """Join neighbours until no pair is left, lowest merge first and each merge from the left.

    One round joins every place of the lowest merge, as the reference loop does. Places wait in a
    bucket per merge, so a word of n bytes costs about n log n instead of the reference's n squared.
    """
    joined = list(symbols)
    count = len(joined)
    before, after = list(range(-1, count - 1)), list(range(1, count + 1))
    waiting: dict[int, list[int]] = {}  # merged id -> positions of the left symbol
    for place, pair in enumerate(pairwise(joined)):
        if pair in pairs:
            waiting.setdefault(pairs[pair], []).append(place)
    ranks = list(waiting)
    heapify(ranks)

    def note(left: int, right: int) -> None:
        merged = pairs.get((joined[left], joined[right]))
        if merged is not None and merged in waiting:
            waiting[merged].append(left)
        elif merged is not None:
            waiting[merged] = [left]
            heappush(ranks, merged)

    while ranks:
        merged = heappop(ranks)
        for left in sorted(waiting.pop(merged)):
            right = after[left]
            if right == count or pairs.get((joined[left], joined[right])) != merged:
                continue  # one of the two was joined to another neighbour meanwhile
            joined[left], joined[right] = merged, MERGED_AWAY
            after[left] = after[right]
            if before[left] >= 0:
                note(before[left], left)
            if after[left] < count:
                before[after[left]] = left
                note(left, after[left])
    return [symbol for symbol in joined if symbol != MERGED_AWAY]


@lru_cache(maxsize=1)
def _released_pairs() -> Pairs:
    """(left id, right id) -> merged id, in the order of the released list."""
    packed = resources.files("ecliptic.inputs").joinpath("merges.txt.gz").read_bytes()
    written = [chr(byte) for byte in PRINTABLE]
    written += [chr(BYTES + offset) for offset in range(BYTES - len(PRINTABLE))]
    ids = {symbol: id_ for id_, symbol in enumerate(written)}
    ids |= {f"{symbol}</w>": BYTES + id_ for id_, symbol in enumerate(written)}
    pairs: Pairs = {}
    for id_, line in enumerate(gzip.decompress(packed).decode().split("\n"), FIRST_MERGE):
        left, right = line.split(" ")
        pairs[ids[left], ids[right]] = id_
        ids[left + right] = id_
    return pairs
