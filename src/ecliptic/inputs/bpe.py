"""Byte-pair merging: turns the UTF-8 bytes of one word into ids of CLIP's vocabulary.

The ids are 256 bytes, the same 256 bytes at the end of a word, then one id per merge in list order.
The list is lines 1 to 48894 of openai/CLIP's `bpe_simple_vocab_16e6.txt`, in `merges.txt.gz`.
`cleaning.py` cleans text, and `tokenizer.py` splits it into words.
"""

import gzip
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from ecliptic.inputs.specs import FULL_MERGES

BYTES = 256  # ids 0..255 are bytes inside a word, 256..511 the same bytes at its end
FIRST_MERGE = 2 * BYTES
WORD_END = "</w>"  # mark of a symbol at the end of a word
MERGED_AWAY = -1  # in place of a symbol that was joined to the one on its left
MERGES_FILE = Path(__file__).with_name("merges.txt.gz")

# openai/CLIP clip/simple_tokenizer.py `bytes_to_unicode`: printable bytes come first in the
# vocabulary and are written as themselves, the others are written as characters from U+0100.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
BYTE_ORDER = (*PRINTABLE, *(byte for byte in range(BYTES) if byte not in PRINTABLE))
BYTE_ID = {byte: id_ for id_, byte in enumerate(BYTE_ORDER)}
BYTE_NAMES = [*map(chr, PRINTABLE), *map(chr, range(BYTES, 2 * BYTES - len(PRINTABLE)))]
BYTE_OF_NAME = dict(zip(BYTE_NAMES, BYTE_ORDER, strict=True))


def written_merges(merges: int = FULL_MERGES) -> list[str]:
    """The first `merges` lines of the merge list, such as "i n"."""
    return gzip.decompress(MERGES_FILE.read_bytes()).decode().split("\n")[:merges]


class BytePairs:
    """Joins bytes into ids by the first `merges` merges of CLIP's list.

    Looks up a pair as "left right", the form of the list: building the table from ids instead
    takes twice as long and makes the first call noticeably slower.
    """

    def __init__(self, merges: int = FULL_MERGES) -> None:
        lines = written_merges(merges)
        self._merged = dict(zip(lines, count(FIRST_MERGE)))  # "left right" -> merged id
        self._names = [*BYTE_NAMES, *(name + WORD_END for name in BYTE_NAMES)]
        self._pieces: dict[int, bytes] = {}  # filled by `piece`
        self._names += "\n".join(lines).replace(" ", "").split("\n") if lines else []

    def __len__(self) -> int:
        return len(self._names)

    def encode_word(self, word: bytes) -> list[int]:
        """Ids of one word, the last byte as a word-final id; none for `b""`."""
        if not word:
            return []
        symbols = [BYTE_ID[byte] for byte in word]
        symbols[-1] += BYTES
        return self._merge(symbols)

    def ends_word(self, id_: int) -> bool:
        """Whether `id_` only occurs at the end of a word."""
        return self._names[id_].endswith(WORD_END)

    def piece(self, id_: int) -> bytes:
        """The bytes of `id_`, without the word-final mark."""
        if id_ not in self._pieces:
            name = self._names[id_].removesuffix(WORD_END)
            self._pieces[id_] = bytes(BYTE_OF_NAME[char] for char in name)
        return self._pieces[id_]

    def _pair(self, left: int, right: int) -> int | None:
        """Id of two neighbouring symbols joined; None if the list does not join them."""
        return self._merged.get(f"{self._names[left]} {self._names[right]}")

    def _merge(self, symbols: list[int]) -> list[int]:
        """Join neighbours until no pair is left, the lowest merge first, each merge from the left.

        One round joins every place of the lowest merge, as the reference does. Each merge has a
        list of its places, so n bytes cost about n log n instead of the reference's n squared.
        """
        size = len(symbols)
        before, after = list(range(-1, size - 1)), list(range(1, size + 1))
        waiting: dict[int, list[int]] = {}  # merged id -> positions of the left symbol
        rounds: list[int] = []  # heap of the keys of `waiting`

        def add_pair(left: int, right: int) -> None:
            merged = self._pair(symbols[left], symbols[right])
            if merged is not None and merged not in waiting:
                waiting[merged] = []
                heappush(rounds, merged)
            if merged is not None:
                waiting[merged].append(left)

        for left in range(size - 1):
            add_pair(left, left + 1)
        while rounds:
            merged = heappop(rounds)
            for left in sorted(waiting.pop(merged)):
                right = after[left]
                if symbols[left] == MERGED_AWAY or right == size:
                    continue
                if self._pair(symbols[left], symbols[right]) != merged:
                    continue  # one of the two was joined to another neighbour before
                symbols[left], symbols[right] = merged, MERGED_AWAY
                after[left] = after[right]
                if before[left] >= 0:
                    add_pair(before[left], left)
                if after[left] < size:
                    before[after[left]] = left
                    add_pair(left, after[left])
        return [symbol for symbol in symbols if symbol != MERGED_AWAY]


@lru_cache(maxsize=4)
def byte_pairs(merges: int) -> BytePairs:
    """The shared `BytePairs` with the first `merges` merges."""
    return BytePairs(merges)
