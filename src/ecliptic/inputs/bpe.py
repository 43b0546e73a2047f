"""Byte-pair merging: turns the UTF-8 bytes of one word into ids of CLIP's vocabulary.

The ids are 256 bytes, the same 256 bytes at the end of a word, then one id per merge in list order.
The list is lines 1 to 48894 of openai/CLIP's `bpe_simple_vocab_16e6.txt`, in `merges.txt.gz`.
`cleaning.py` cleans text, and `tokenizer.py` splits it into words.
"""

import gzip
from bisect import bisect_right
from functools import cached_property, lru_cache
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from ecliptic.inputs.specs import FULL_MERGES, SPECIALS

BYTES = 256  # ids 0..255 are bytes inside a word, 256..511 the same bytes at its end
FIRST_MERGE = 2 * BYTES
WORD_END = "</w>"  # mark of a symbol at the end of a word
MERGED_AWAY = -1  # in place of a symbol that was joined to the one on its left
UNKNOWN = -2  # in place of all that follows in an open word
_BYTES_PER_ID = 8  # read first of a long word; most ids have fewer
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


def written_vocabulary(merges: int = FULL_MERGES) -> list[str]:
    """Every token in the order of the ids, as openai/CLIP and Hugging Face write the vocabulary.

    Start and end of text come last.
    """
    final = (name + WORD_END for name in BYTE_NAMES)
    joined = (line.replace(" ", "") for line in written_merges(merges))
    return [*BYTE_NAMES, *final, *joined, *SPECIALS]


def written_bytes() -> list[str]:
    """The character that stands for each byte in the vocabulary, in the order of the bytes."""
    names = {byte: name for name, byte in BYTE_OF_NAME.items()}
    return [names[byte] for byte in range(BYTES)]


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
        return _Merging(symbols, self).run()

    def encode_beginning(self, word: bytes, count: int, *, whole: bool = True) -> list[int]:
        """The first `count` ids of a word, for the price of its beginning.

        Args:
            word: its bytes.
            count: of the ids; all are given if there are fewer.
            whole: False where `word` is itself only the beginning of a word. The ids are then
                those that any such word has, and may be fewer than `count`.
        """
        word = word if whole else word[:-1]  # the last byte has another id if the word ends here
        size = count * _BYTES_PER_ID
        while size < len(word) or not whole:
            symbols = [BYTE_ID[byte] for byte in word[:size]]
            ids = _Merging([*symbols, UNKNOWN], self).run()
            if len(ids) >= count or size >= len(word):
                return ids[:count]
            size *= 4
        return self.encode_word(word)[:count]

    def ends_word(self, id_: int) -> bool:
        """Whether `id_` only occurs at the end of a word."""
        return self._names[id_].endswith(WORD_END)

    def piece(self, id_: int) -> bytes:
        """The bytes of `id_`, without the word-final mark."""
        if id_ not in self._pieces:
            name = self._names[id_].removesuffix(WORD_END)
            self._pieces[id_] = bytes(BYTE_OF_NAME[char] for char in name)
        return self._pieces[id_]

    @cached_property
    def by_left(self) -> dict[str, list[int]]:
        """The ids of the merges that begin with each symbol, in order; for open words."""
        found: dict[str, list[int]] = {}
        for pair, merged in self._merged.items():
            found.setdefault(pair.partition(" ")[0], []).append(merged)
        return found

    def pair(self, left: int, right: int) -> int | None:
        """Id of two neighbouring symbols joined; None if the list does not join them."""
        return self._merged.get(f"{self._names[left]} {self._names[right]}")

    def next_merge(self, left: int, above: int) -> int | None:
        """The first merge with an id over `above` that may join `left` to an unknown symbol."""
        merges = self.by_left.get(self._names[left], [])
        place = bisect_right(merges, above)
        return merges[place] if place < len(merges) else None


class _Merging:
    """Joins neighbours until no pair is left, the lowest merge first, each merge from the left.

    One round joins every place of the lowest merge, as the reference does. Each merge has a list
    of its places, so n bytes cost about n log n instead of the reference's n squared.

    An open word ends in UNKNOWN, which stands for every way to go on. It takes in a symbol in each
    round that could join that symbol to what follows, so the symbols that are left are those of
    any word with this beginning. This holds since a merge only joins symbols made in earlier
    rounds, and since each merge works from the left.
    """

    def __init__(self, symbols: list[int], pairs: BytePairs) -> None:
        size = len(symbols)
        self.symbols, self.size, self.pairs = symbols, size, pairs
        self.before, self.after = list(range(-1, size - 1)), list(range(1, size + 1))
        self.waiting: dict[int, list[int]] = {}  # merged id -> positions of the left symbol
        self.rounds: list[int] = []  # heap of the keys of `waiting`

    def run(self) -> list[int]:
        """The symbols that are left, without UNKNOWN."""
        for left in range(self.size - 1):
            self._add(left, left + 1, above=-1)
        while self.rounds:
            merged = heappop(self.rounds)
            for left in sorted(self.waiting.pop(merged)):
                self._join(left, merged)
        return [symbol for symbol in self.symbols if symbol >= 0]

    def _add(self, left: int, right: int, above: int) -> None:
        """Let two neighbours wait for the merge that joins them."""
        merged = self._find(left, right, above)
        if merged is None:
            return
        if merged not in self.waiting:
            self.waiting[merged] = []
            heappush(self.rounds, merged)
        self.waiting[merged].append(left)

    def _find(self, left: int, right: int, above: int) -> int | None:
        """The merge of two neighbours; with UNKNOWN, the next one over `above`."""
        symbols = self.symbols
        if symbols[right] == UNKNOWN:
            return self.pairs.next_merge(symbols[left], above)
        return self.pairs.pair(symbols[left], symbols[right])

    def _join(self, left: int, merged: int) -> None:
        """Join the symbol at `left` to the next one, if none of them was joined before."""
        symbols, before, after = self.symbols, self.before, self.after
        right = after[left]
        if symbols[left] == MERGED_AWAY or right == self.size:
            return
        if self._find(left, right, merged - 1) != merged:
            return
        symbols[left] = UNKNOWN if symbols[right] == UNKNOWN else merged
        symbols[right] = MERGED_AWAY
        after[left] = after[right]
        if before[left] >= 0:
            self._add(before[left], left, merged)
        if after[left] < self.size:
            before[after[left]] = left
            self._add(left, after[left], merged)


@lru_cache(maxsize=4)
def byte_pairs(merges: int) -> BytePairs:
    """The shared `BytePairs` with the first `merges` merges."""
    return BytePairs(merges)
