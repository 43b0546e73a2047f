"""Byte-pair merging: turns the UTF-8 bytes of one word into ids of CLIP's vocabulary.

The ids are 256 bytes, the same 256 bytes at the end of a word, then one id per merge in list order.
The list is lines 1 to 48894 of openai/CLIP's `bpe_simple_vocab_16e6.txt`, in `merges.txt.gz`.
`cleaning.py` cleans text, and `tokenizer.py` splits it into words.
"""

import gzip
from bisect import bisect_right
from functools import cached_property, lru_cache
from heapq import heappop, heappush
from itertools import count, pairwise
from pathlib import Path

from ecliptic.inputs.specs import FULL_MERGES, SPECIALS

BYTES = 256  # ids 0..255 are bytes inside a word, 256..511 the same bytes at its end
FIRST_MERGE = 2 * BYTES
WORD_END = "</w>"  # mark of a symbol at the end of a word
MERGED_AWAY = -1  # in place of a symbol that was joined to the one on its left
UNKNOWN = -2  # in place of all that follows in an open word
_BYTES_PER_ID = 8  # read first of a long word; most ids have fewer
_SHORT = 64  # bytes; up to here, looking through all pairs takes half the time of a heap
_NEVER = 1 << 16  # in place of the id of two symbols that no merge joins
MERGES_FILE = Path(__file__).with_name("merges.txt.gz")

# openai/CLIP clip/simple_tokenizer.py `bytes_to_unicode`: printable bytes come first in the
# vocabulary and are written as themselves, the others are written as characters from U+0100.
PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
BYTE_ORDER = (*PRINTABLE, *(byte for byte in range(BYTES) if byte not in PRINTABLE))
BYTE_ID = {byte: id_ for id_, byte in enumerate(BYTE_ORDER)}
BYTE_NAMES = [*map(chr, PRINTABLE), *map(chr, range(BYTES, 2 * BYTES - len(PRINTABLE)))]
BYTE_OF_NAME = dict(zip(BYTE_NAMES, BYTE_ORDER, strict=True))
_NAME_OF_BYTE = {byte: name for name, byte in BYTE_OF_NAME.items()}


def written_merges(merges: int = FULL_MERGES) -> list[str]:
    """The first `merges` lines of the merge list, such as "i n"."""
    return _read_merges().split("\n")[:merges]


def written_vocabulary(merges: int = FULL_MERGES) -> list[str]:
    """Every token in the order of the ids, as openai/CLIP and Hugging Face write the vocabulary.

    Start and end of text come last.
    """
    final = (name + WORD_END for name in BYTE_NAMES)
    joined = _read_merges().replace(" ", "").split("\n")[:merges]
    return [*BYTE_NAMES, *final, *joined, *SPECIALS]


def _read_merges() -> str:
    return gzip.decompress(MERGES_FILE.read_bytes()).decode()


def written_bytes() -> list[str]:
    """The character that stands for each byte in the vocabulary, in the order of the bytes."""
    return [_NAME_OF_BYTE[byte] for byte in range(BYTES)]


class BytePairs:
    """Joins bytes into ids by the first `merges` merges of CLIP's list.

    Both a whole word and two neighbours are looked up by their name in one table. This is exact,
    since the bytes of each symbol are merged to it; `tests/inputs/test_bpe.py` checks all of them
    and says why it is enough.
    """

    def __init__(self, merges: int = FULL_MERGES) -> None:
        self._merges = merges
        self._names = written_vocabulary(merges)[: -len(SPECIALS)]
        self._ids = dict(zip(self._names, count()))  # the end of a word is a part of the name
        self._pieces: dict[int, bytes] = {}  # filled by `piece`

    def __len__(self) -> int:
        return len(self._names)

    def encode_word(self, word: bytes) -> list[int]:
        """Ids of one word, the last byte as a word-final id; none for `b""`."""
        if not word:
            return []
        written = word.decode("latin-1").translate(_NAME_OF_BYTE) + WORD_END
        whole = self._ids.get(written)
        if whole is not None:
            return [whole]
        if len(word) <= _SHORT:
            return self._merge_short([*written[: len(word) - 1], written[len(word) - 1 :]])
        symbols = [BYTE_ID[byte] for byte in word]
        symbols[-1] += BYTES
        return _Merging(symbols, self).run()

    def _merge_short(self, symbols: list[str]) -> list[int]:
        """Ids of a word that is no symbol: joins the first place of the lowest merge each time.

        The same as all places in one round, since new neighbours have later merges.
        """
        ids, names = self._ids, self._names
        merges = [ids.get(left + right, _NEVER) for left, right in pairwise(symbols)]
        while (lowest := min(merges)) < _NEVER:
            place = merges.index(lowest)
            symbols[place : place + 2] = [names[lowest]]
            del merges[place]
            if place:
                merges[place - 1] = ids.get(symbols[place - 1] + symbols[place], _NEVER)
            if place < len(merges):
                merges[place] = ids.get(symbols[place] + symbols[place + 1], _NEVER)
        return [ids[symbol] for symbol in symbols]

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
        for merged, line in enumerate(written_merges(self._merges), FIRST_MERGE):
            found.setdefault(line.partition(" ")[0], []).append(merged)
        return found

    def pair(self, left: int, right: int) -> int | None:
        """Id of two neighbouring symbols joined; None if the list does not join them."""
        return self._ids.get(self._names[left] + self._names[right])

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
