"""Turns the text of a prompt into words of ids and their spans, as each tool does.

Tools differ in how they clean text, and in what "!" is for an encoder that pads with id 0. The byte
pairs are always those of `inputs`. Hugging Face's cleaning is NFC, white space and lower case,
without ftfy and HTML entities; white space only separates words, so runs of it may stay. Sources:
openai/CLIP clip/simple_tokenizer.py; transformers 5.23, models/clip/tokenization_clip.py;
tokenizers, `Lowercase` (letter by letter: no final sigma) and `ByteLevel`.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

import regex

from ecliptic.checks import check_choice
from ecliptic.diffusion.behaviours import Cleaning, Exclamation
from ecliptic.errors import TextError
from ecliptic.inputs import SPECIALS, Tokenizer, ledger
from ecliptic.prompts import Span

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_WORD = regex.compile(_WORDS)
_WORD_OR_SPECIAL = regex.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}")
_CLUSTER = regex.compile(r"\X")  # user-perceived characters; NFC composes within them
_CACHED_WORDS = 1 << 16
PAD_PIECE = "!"  # the text of id 0; an added token in a tokenizer that pads with it


@dataclass(frozen=True)
class Wording:
    """How text becomes ids.

    `specials` lets "<|startoftext|>" and "<|endoftext|>" in a prompt become their ids, as
    Hugging Face's tokenizer does; it is off by default, since a user's text could end a prompt.
    """

    exclamation: Exclamation = "word"  # as in training; "pad": "!" is always id 0, between words
    cleaning: Cleaning = "huggingface"  # NFC and lower case; "openai": ftfy and HTML entities too
    specials: bool = False

    def __post_init__(self) -> None:
        check_choice("exclamation", self.exclamation, get_args(Exclamation))
        check_choice("cleaning", self.cleaning, get_args(Cleaning))


@dataclass(frozen=True)
class TokenPiece:
    """One token and the characters it came from."""

    id: int
    text: str  # for display
    span: Span


@dataclass(frozen=True)
class Word:
    """The tokens of one word, or the name of a textual inversion."""

    pieces: tuple[TokenPiece, ...] = ()
    inversion: str | None = None
    span: Span = (0, 0)  # of the name

    def shift(self, offset: int) -> "Word":
        """Move the spans of the word by `offset` characters."""
        if not offset:
            return self
        pieces = (
            TokenPiece(piece.id, piece.text, _shift(piece.span, offset)) for piece in self.pieces
        )
        return Word(tuple(pieces), self.inversion, _shift(self.span, offset))


@dataclass(frozen=True)
class Reader:
    """A tokenizer with its wording."""

    tokenizer: Tokenizer
    wording: Wording

    def words(self, text: str) -> list[Word]:
        """Words of `text`, without start and end."""
        return [word for part in self.split(text) for word in self.read_part(*part)]

    def split(self, text: str) -> Iterator[tuple[int, str, int | None]]:
        """Split off strings that are one token: (offset, characters, id); other parts have no id.

        Hugging Face's tokenizer does this before it cleans, and cleans every other part by itself.
        """
        fixed = self._fixed()
        if not fixed:
            yield 0, text, None
            return
        for offset, part in split_around(text, "|".join(map(regex.escape, fixed))):
            yield offset, part, fixed.get(part)

    def read_part(self, offset: int, text: str, id_: int | None) -> Iterator[Word]:
        """The words of one part of `split`."""
        if id_ is not None:
            yield Word((TokenPiece(id_, text, (offset, offset + len(text))),))
            return
        clean_words = _openai_words if self.wording.cleaning == "openai" else _huggingface_words
        for word in clean_words(text, self.tokenizer):
            yield word.shift(offset)

    def _fixed(self) -> dict[str, int]:
        """Strings that are one token everywhere, in exactly this letter case."""
        spec = self.tokenizer.spec
        fixed = {PAD_PIECE: 0} if self.wording.exclamation == "pad" else {}
        if self.wording.specials:
            fixed |= dict(zip(SPECIALS, (spec.start_of_text, spec.end_of_text), strict=True))
        return fixed


def split_around(text: str, pattern: str) -> Iterator[tuple[int, str]]:
    """Split `text` into matches of `pattern` and the parts between: (offset, characters)."""
    after = 0
    for match in regex.finditer(pattern, text):
        if match.start() > after:
            yield after, text[after : match.start()]
        yield match.start(), match.group()
        after = match.end()
    if after < len(text):
        yield after, text[after:]


def check_characters(text: str, origin: tuple[int, ...]) -> None:
    """Raise TextError for a lone surrogate, with its place in the prompt.

    Args:
        text: any string.
        origin: place in the prompt of each of its characters.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"character {origin[error.start]} of the prompt is a lone surrogate "
            f"(U+{ord(text[error.start]):04X}), half of a character; read the text with "
            'errors="replace" or remove it.',
            place=origin[error.start],
        ) from None


def _openai_words(text: str, tokenizer: Tokenizer) -> Iterator[Word]:
    pieces: list[TokenPiece] = []
    for token in ledger(text, tokenizer)[1:-1]:
        pieces.append(TokenPiece(token.id, token.piece, token.span))
        if token.ends_word:
            yield Word(tuple(pieces))
            pieces = []


def _huggingface_words(text: str, tokenizer: Tokenizer) -> Iterator[Word]:
    """The words of `text`; the spelling of a special token is plain text."""
    cleaned, origins = _clean(text)
    for start, end in _find_words(cleaned):
        ids, lengths = _encode_word(tokenizer, cleaned[start:end])
        spans = _find_spans(cleaned, start, end, lengths, origins)
        shown = (tokenizer.pairs.piece(id_).decode(errors="backslashreplace") for id_ in ids)
        yield Word(tuple(map(TokenPiece, ids, shown, spans)))


def _shift(span: Span, offset: int) -> Span:
    return span[0] + offset, span[1] + offset


def _clean(text: str) -> tuple[str, list[Span] | None]:
    """Compose and lower-case `text`; also the span in `text` of each character, None: its own."""
    if text.isascii():
        return text.lower(), None
    characters: list[str] = []
    spans: list[Span] = []
    for composed, span in _compose(text):
        for character in composed:
            lowered = character.lower()
            characters.append(lowered)
            spans += [span] * len(lowered)  # "İ" becomes two characters
    return "".join(characters), spans


def _compose(text: str) -> Iterator[tuple[str, Span]]:
    """Yield runs of characters in NFC, with their spans in `text`."""
    if unicodedata.is_normalized("NFC", text):
        yield from ((character, (place, place + 1)) for place, character in enumerate(text))
        return
    clusters = [(match.group(), match.span()) for match in _CLUSTER.finditer(text)]
    composed = [(unicodedata.normalize("NFC", cluster), span) for cluster, span in clusters]
    whole = unicodedata.normalize("NFC", text)
    if "".join(cluster for cluster, _ in composed) == whole:
        yield from composed
    else:  # composed across clusters: the only span is the whole text
        yield whole, (0, len(text))


def _find_words(cleaned: str) -> Iterator[Span]:
    for match in _WORD_OR_SPECIAL.finditer(cleaned):
        # `ByteLevel` splits again, so the spelling of a special token becomes three words
        for word in _WORD.finditer(cleaned, *match.span()):
            yield word.span()


@lru_cache(maxsize=_CACHED_WORDS)
def _encode_word(tokenizer: Tokenizer, word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Encode a word: its ids, and the number of bytes of each."""
    ids = tuple(tokenizer.pairs.encode_word(word.encode()))
    return ids, tuple(len(tokenizer.pairs.piece(id_)) for id_ in ids)


def _find_spans(
    cleaned: str, start: int, end: int, lengths: tuple[int, ...], origins: list[Span] | None
) -> list[Span]:
    """The span in the text of each token of the word at `start` to `end`."""
    # place of the cleaned character of each byte of the word
    places = [place for place in range(start, end) for _ in cleaned[place].encode()]
    spans, first = [], 0  # byte
    for length in lengths:
        begin, last = places[first], places[first + length - 1]
        spans.append(
            (begin, last + 1) if origins is None else (origins[begin][0], origins[last][1])
        )
        first += length
    return spans
