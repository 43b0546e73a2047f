"""Turns text into token ids, exactly as openai/CLIP's `clip/simple_tokenizer.py` does.

Cleans (ftfy, HTML entities, white space, lower case), splits into words by one pattern, merges
bytes. Intended differences: special strings in the text stay text by default, and nothing is
dropped silently. N texts, T tokens of context. Never imports torch.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from ecliptic.errors import ConfigError, TextError, TextTooLongError, warn
from ecliptic.inputs.beginnings import chunks, repaired_beginnings, words
from ecliptic.inputs.bpe import byte_pairs
from ecliptic.inputs.cleaning import Span, clean, clean_with_offsets
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


class Tokenizer:
    """CLIP's byte-pair tokenizer; `spec` sets the merges, the context and the padding.

    Threads may share it: its only state is a cache of words.
    """

    def __init__(self, spec: TokenizerSpec | None = None) -> None:
        self.spec = spec or TokenizerSpec()
        self.pairs = byte_pairs(self.spec.merges)
        self._chunks: dict[str, list[int]] = {}  # ids of words seen before
        self._special_ids = dict.fromkeys(START_SPELLINGS, self.spec.start_of_text)
        self._special_ids |= dict.fromkeys(END_SPELLINGS, self.spec.end_of_text)

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of `text` without start and end.

        `specials=True` turns the special strings of openai/CLIP and open_clip into their ids;
        each reference does so for its own strings. Leave it off for text from users.
        Raises TextError unless `text` is a `str` of whole characters.
        """
        check_text(text)
        cleaned = clean(text)
        if specials:
            return [id_ for _, ids in self.words(cleaned, specials=True) for id_ in ids]
        ids: list[int] = []
        known = self._chunks
        for chunk in cleaned.split():
            ids += known.get(chunk) or self._encode_chunk(chunk)
        return ids

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
        rows, spec, room = _list_texts(texts), self.spec, self.spec.context - 2
        ids = np.full((len(rows), spec.context), spec.pad, dtype=np.int64)  # (N, T)
        lengths = np.empty(len(rows), dtype=np.int64)  # (N,)
        cut: dict[int, Callable[[], str]] = {}
        for row, text in enumerate(rows):
            found = self._encode_row(text, row, room + 1)
            if len(found) > room:
                cut[row] = partial(self._find_dropped, text)
                del found[room:]
            lengths[row] = length = len(found) + 2
            ids[row, :length] = [spec.start_of_text, *found, spec.end_of_text]
        if cut and overflow != "truncate":
            self._report_cuts(cut, overflow)
        return TokenBatch(ids, lengths, cut)

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

    def _encode_row(self, text: str, row: int, count: int) -> list[int]:
        try:
            if isinstance(text, str) and len(text) > _LONG:
                return self.encode_beginning(text, count)
            return self.encode(text)
        except TextError as error:
            raise TextError(f"text {row}: {error}", place=error.place) from None

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

    def _encode_chunk(self, chunk: str) -> list[int]:
        """Ids of the words in `chunk`, which has no white space; cached when short."""
        ids: list[int] = []
        for word in WORD.findall(chunk):
            ids += self.pairs.encode_word(word.encode())
        if len(chunk) <= _CACHED_LENGTH:
            if len(self._chunks) >= _CACHED_CHUNKS:
                self._chunks.clear()
            self._chunks[chunk] = ids
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
