"""Turns text into token ids, exactly as openai/CLIP's `clip/simple_tokenizer.py` does.

Cleans (ftfy, HTML entities, white space, lower case), splits into words by one pattern, merges
bytes. Intended differences: special strings in the text stay text by default, and nothing is
dropped silently. N texts, T tokens of context. Never imports torch.
"""

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from ecliptic.errors import ConfigError, TextError, TextTooLongError, warn
from ecliptic.inputs.beginnings import chunks, repaired_beginnings, words
from ecliptic.inputs.bpe import BytePairs, byte_pairs
from ecliptic.inputs.cleaning import Span, clean_with_offsets, repair
from ecliptic.inputs.specs import SPECIALS, TokenizerSpec

Overflow = Literal["warn", "error", "truncate"]

START_SPELLINGS = (SPECIALS[0], "<start_of_text>")  # openai/CLIP, open_clip
END_SPELLINGS = (SPECIALS[1], "<end_of_text>")
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # simple_tokenizer.py `pat`
_SPECIALS = "|".join(regex.escape(text) for text in START_SPELLINGS + END_SPELLINGS)
WORD = regex.compile(_WORDS, regex.IGNORECASE)
WORD_OR_SPECIAL = regex.compile(f"{_SPECIALS}|{_WORDS}", regex.IGNORECASE)

_LONE_SURROGATE = regex.compile(
    r"[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]"
)
_CACHED_CHUNKS = 1 << 16  # entries; a full cache is cleared
_CACHED_LENGTH = 32  # characters; longer chunks are rare and take memory
_ID_BYTES = 2  # of a packed id
_STRIP = 1 << 10  # rows that are put into the array at once
_LONG = 1 << 12  # characters; of a longer text, a row takes only the beginning
_SEARCHED = 1 << 13  # characters in which the dropped part is searched
_DROPPED = 400  # tokens of the dropped part that are given where it is behind them
_QUOTED = 80  # characters of dropped text in a message
_QUOTED_ROWS = 5  # rows named in a message


class TruncationWarning(UserWarning):
    """Texts longer than the context were cut; the message quotes what was dropped."""


@dataclass(frozen=True)
class TokenBatch:
    """Tokens of N texts, ready for the text tower."""

    ids: NDArray[np.int64]  # (N, T), padded after the end of text
    lengths: NDArray[np.int64]  # (N,) tokens in use, with start and end
    cut: Mapping[int, Callable[[], str]] = field(default_factory=dict)
    """Row of every text that was cut -> a function that finds the characters that were dropped."""

    @property
    def truncated(self) -> tuple[tuple[int, str], ...]:
        """(row, dropped characters) of every text that was cut, as they were given.

        They are searched in the first 8,192 characters of a text. If these hold no dropped one,
        they are written from the first 400 tokens that were dropped, in lower case.
        """
        return tuple((row, find()) for row, find in self.cut.items())


class _Chunks(dict[str, bytes]):
    """Packed ids of chunks of clean text, without white space; encodes what it lacks."""

    def __init__(self, pairs: BytePairs) -> None:
        super().__init__()
        self._pairs = pairs

    def __missing__(self, chunk: str) -> bytes:
        """Ids of the words in `chunk`; kept if it is short."""
        words = [chunk] if chunk.isascii() and chunk.isalpha() else WORD.findall(chunk)
        if len(words) == 1:
            packed = _pack(self._pairs.encode_word(words[0].encode()))
        else:
            packed = b"".join(map(self.__getitem__, words))
        if len(chunk) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_CHUNKS:
                self.clear()
            self[chunk] = packed
        return packed


class Tokenizer:
    """CLIP's byte-pair tokenizer; `spec` sets the merges, the context and the padding.

    Threads may share it: its only state is a cache of words.
    """

    reads_specials = False  # whether special strings in the texts of a batch become their ids

    def __init__(self, spec: TokenizerSpec | None = None) -> None:
        self.spec = spec or TokenizerSpec()
        self.pairs = byte_pairs(self.spec.merges)
        self._chunks = _Chunks(self.pairs)
        self._start = _pack([self.spec.start_of_text])
        self._tail = _pack([self.spec.end_of_text, *[self.spec.pad] * (self.spec.context - 2)])
        self._special_ids = dict.fromkeys(START_SPELLINGS, self.spec.start_of_text)
        self._special_ids |= dict.fromkeys(END_SPELLINGS, self.spec.end_of_text)

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of `text` without start and end.

        `specials=True` turns the special strings of openai/CLIP and open_clip into their ids;
        each reference does so for its own strings. Leave it off for text from users.
        Raises TextError unless `text` is a `str` of whole characters.
        """
        return list(memoryview(self._encode(text, specials)).cast("H"))

    def words(self, cleaned: str, *, specials: bool = False) -> Iterator[tuple[Span, list[int]]]:
        """Yield (span in `cleaned`, ids) of every word of a clean text."""
        for word in (WORD_OR_SPECIAL if specials else WORD).finditer(cleaned):
            special = self._special_ids.get(word.group()) if specials else None
            ids = self.pairs.encode_word(word.group().encode()) if special is None else [special]
            yield word.span(), ids

    def decode(self, ids: Iterable[int]) -> str:
        """Lower-case text of `ids`, with a space after each word; broken bytes become U+FFFD."""
        return b"".join(self._decode_id(int(id_)) for id_ in ids).decode("utf-8", errors="replace")

    def batch(self, texts: str | Iterable[str], overflow: Overflow = "warn") -> TokenBatch:
        """Tokens of `texts`, one row each; a single string is one row.

        A text longer than `spec.context` keeps its first ids and its end of text. `overflow`:
        "error" raises TextTooLongError, "warn" gives one TruncationWarning, "truncate" only
        reports the cut in `truncated`.
        """
        return self._batch(texts, overflow)

    def __call__(
        self, texts: str | Iterable[str], overflow: Overflow = "warn"
    ) -> NDArray[np.int64]:
        """The (N, T) ids of `batch`."""
        return self._batch(texts, overflow).ids

    def _batch(self, texts: str | Iterable[str], overflow: Overflow) -> TokenBatch:
        if overflow not in ("warn", "error", "truncate"):
            raise ConfigError(f'overflow must be "warn", "error" or "truncate", not {overflow!r}.')
        rows, context = _list_texts(texts), self.spec.context
        ids = np.empty((len(rows), context), dtype=np.int64)  # (N, T)
        sizes: list[int] = []  # of the packed ids
        for first in range(0, len(rows), _STRIP):
            strip = slice(first, first + _STRIP)
            packed = [self._encode_row(text, row) for row, text in enumerate(rows[strip], first)]
            sizes += map(len, packed)
            ids[strip] = np.frombuffer(self._frame(packed), dtype=np.uint16).reshape(-1, context)
        lengths = np.array(sizes, dtype=np.int64) // _ID_BYTES + 2  # (N,)
        cut = {
            row: partial(self._find_dropped, rows[row])
            for row in np.flatnonzero(lengths > context).tolist()
        }
        if cut and overflow != "truncate":
            self._report_cuts(cut, overflow)
        return TokenBatch(ids, np.minimum(lengths, context), cut)

    def _find_dropped(self, text: str) -> str:
        """The characters of `text` from its first token without a place, as they were given."""
        room = self.spec.context - 2
        cleaned = clean_with_offsets(text[:_SEARCHED])
        for (start, end), ids in self.words(cleaned.text):
            if len(ids) > room:
                kept = sum(len(self.pairs.piece(id_)) for id_ in ids[:room])  # bytes
                places = (i for i in range(start, end) for _ in cleaned.text[i].encode())
                place = next(itertools.islice(places, kept, None))
                return text[cleaned.starts[place] : _SEARCHED].strip()
            room -= len(ids)
        room = self.spec.context - 2
        return self.decode(self.encode_beginning(text, room + _DROPPED)[room:]).strip()

    def _encode_row(self, text: str, row: int) -> bytes:
        """Packed ids of a text; of a long one, at most one more than there is room for."""
        try:
            if isinstance(text, str) and len(text) > _LONG:
                return _pack(self.encode_beginning(text, self.spec.context - 1))
            return self._encode(text, self.reads_specials)
        except TextError as error:
            raise TextError(f"text {row}: {error}", place=error.place) from None

    def _encode(self, text: str, specials: bool) -> bytes:
        """Packed ids of a text."""
        plain = isinstance(text, str) and text.isascii() and text.isprintable() and "&" not in text
        if not plain:  # most texts are; the checks would take half as long again
            check_text(text)
            text = repair(text)
        if specials and "<" in text:  # each special string begins with it
            words = self.words(" ".join(text.split()).lower(), specials=True)
            return _pack([id_ for _, ids in words for id_ in ids])
        return b"".join(map(self._chunks.__getitem__, text.lower().split()))

    def _frame(self, packed: list[bytes]) -> bytes:
        """Whole rows: start, as many ids as there is room for, end and padding."""
        start, tail, room = self._start, self._tail, len(self._tail) - _ID_BYTES
        kept = (ids[:room] for ids in packed)
        return b"".join([start + ids + tail[: len(tail) - len(ids)] for ids in kept])

    def encode_beginning(self, text: str, count: int) -> list[int]:
        """The first `count` ids of `encode(text)`, or all, for the price of a beginning of `text`.

        Raises TextError as `encode` does, for the part that is read.
        """
        check_text(text)
        ids: list[int] = []
        for repaired, whole in repaired_beginnings(text):
            ids = []
            for chunk, ends in chunks(repaired, whole=whole):
                ids += self._begin_chunk(chunk, count - len(ids), ends)
                if len(ids) >= count:
                    return ids
        return ids

    def _begin_chunk(self, chunk: str, count: int, ends: bool) -> list[int]:
        """The first `count` ids of a chunk; if it may go on, only those that are certain."""
        ids: list[int] = []
        for word, whole in words(chunk, WORD, whole=ends):
            left = count - len(ids)
            ids += self.pairs.encode_beginning(word.encode(), left, whole=whole)
            if len(ids) >= count:
                break
        return ids

    def _decode_id(self, id_: int) -> bytes:
        if id_ == self.spec.start_of_text:
            return START_SPELLINGS[0].encode()
        if id_ == self.spec.end_of_text:
            return END_SPELLINGS[0].encode()
        if not 0 <= id_ < self.spec.vocabulary:
            raise TextError(
                f"token id {id_} is outside the vocabulary of {self.spec.vocabulary} ids; "
                "decode the ids with the tokenizer that made them."
            )
        return self.pairs.piece(id_) + (b" " if self.pairs.ends_word(id_) else b"")

    def _report_cuts(self, cut: Mapping[int, Callable[[], str]], overflow: Overflow) -> None:
        quoted = "; ".join(
            f"text {row} loses {quote(find(), _QUOTED)}"
            for row, find in itertools.islice(cut.items(), _QUOTED_ROWS)
        )
        more = len(cut) - _QUOTED_ROWS
        message = (
            f"{'1 text needs' if len(cut) == 1 else f'{len(cut)} texts need'} more than "
            f"{self.spec.context} tokens: {quoted}"
            f"{f'; and {more} more' if more > 0 else ''}. Shorten them"
        )
        if overflow == "error":
            raise TextTooLongError(f'{message}, or pass overflow="truncate" to cut them.')
        message += ', or pass overflow="truncate" to cut them without this warning.'
        warn(message, TruncationWarning, stacklevel=None)


def _pack(ids: list[int]) -> bytes:
    """Two bytes for each id; the vocabulary has at most 49,408."""
    return array("H", ids).tobytes()


def check_text(text: str) -> None:
    """Raise TextError unless `text` is a `str` of whole characters."""
    if isinstance(text, str):
        try:
            text.encode()  # far quicker than the search
        except UnicodeEncodeError:
            _refuse_lone_surrogate(text)
        return
    if isinstance(text, bytes | bytearray):
        raise TextError('got bytes, not text; decode them first: text.decode("utf-8").')
    raise TextError(f"got {type(text).__name__}, not text; pass a str.")


def _refuse_lone_surrogate(text: str) -> None:
    """Raise TextError for half of a character; a pair of surrogates is a whole one."""
    if found := _LONE_SURROGATE.search(text):
        raise TextError(
            f"character {found.start()} is a lone surrogate (U+{ord(found.group()):04X}), half "
            'of a character; read the text with errors="replace" or remove it.',
            place=found.start(),
        )


def _list_texts(texts: str | Iterable[str]) -> list[str]:
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        return [texts]  # `encode` refuses what is not a text
    return list(texts)


def quote(text: str, length: int = 60) -> str:
    """Quote `text` for a message, shortened to `length` characters."""
    return repr(text if len(text) <= length else f"{text[:length]}...")
