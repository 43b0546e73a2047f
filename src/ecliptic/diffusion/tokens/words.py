"""The text of a prompt as words of ids, where the tools disagree, and where each came from.

Two questions: how text is cleaned, and what "!" is for an encoder that pads with id 0. The byte
pairs are those of `inputs`, whichever way text is cleaned. Hugging Face's cleaning is NFC, white
space and lower case, without ftfy and HTML entities; white space only parts words, so runs of it
may stay. Sources: openai/CLIP clip/simple_tokenizer.py; transformers 5.23,
models/clip/tokenization_clip.py; tokenizers, `Lowercase` (letter by letter: no final sigma) and
`ByteLevel`.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import get_args

import regex

from ecliptic.diffusion.behaviours import Cleaning, Exclamation
from ecliptic.errors import ConfigError, TextError
from ecliptic.inputs import SPECIALS, Tokenizer, ledger
from ecliptic.prompts import Span

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_WORD = regex.compile(_WORDS)
_WORD_OR_SPECIAL = regex.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}")
_CLUSTER = regex.compile(r"\X")  # user-perceived characters; NFC composes within them
_CACHED_WORDS = 1 << 16
PAD_PIECE = "!"  # what id 0 spells; an added token wherever a tokenizer is told to pad with it


@dataclass(frozen=True)
class Wording:
    """How text becomes ids.

    `specials` lets "<|startoftext|>" and "<|endoftext|>" in a prompt become their ids, as
    Hugging Face's tokenizer does; it is off, since text from users could end a prompt early.
    """

    exclamation: Exclamation = "word"  # as in training, or every "!" is id 0 and parts words
    cleaning: Cleaning = "huggingface"  # NFC and lower case; or ftfy and HTML entities as well
    specials: bool = False

    def __post_init__(self) -> None:
        for name, known in (("exclamation", Exclamation), ("cleaning", Cleaning)):
            if (value := getattr(self, name)) not in get_args(known):
                choices = " or ".join(map(repr, get_args(known)))
                raise ConfigError(f"there is no {name} {value!r}; use {choices}.")


@dataclass(frozen=True)
class TokenPiece:
    """One token and the characters it came from."""

    id: int
    text: str  # for display
    span: Span


@dataclass(frozen=True)
class Word:
    """Tokens that belong together, or the name of a textual inversion in their place."""

    pieces: tuple[TokenPiece, ...] = ()
    inversion: str | None = None
    span: Span = (0, 0)  # of the name

    def moved(self, offset: int) -> "Word":
        """The same word, its text beginning `offset` characters further on."""
        if not offset:
            return self
        pieces = (
            TokenPiece(piece.id, piece.text, _moved(piece.span, offset)) for piece in self.pieces
        )
        return Word(tuple(pieces), self.inversion, _moved(self.span, offset))


@dataclass(frozen=True)
class Reader:
    """A tokenizer and the way it is used."""

    tokenizer: Tokenizer
    wording: Wording

    def words(self, text: str) -> list[Word]:
        """Words of `text`, without start and end."""
        parts = self.parts(text)
        return [word for part in parts for word in self.part_words(*part)]

    def parts(self, text: str) -> Iterator[tuple[int, str, int | None]]:
        """(offset, characters, id) of what is a token by itself, and with no id of the rest.

        Hugging Face's tokenizer looks for these before it cleans, and cleans each rest apart.
        """
        fixed = self._fixed()
        if not fixed:
            yield 0, text, None
            return
        for offset, part in split_around(text, "|".join(map(regex.escape, fixed))):
            yield offset, part, fixed.get(part)

    def part_words(self, offset: int, text: str, id_: int | None) -> Iterator[Word]:
        """The words of one of the `parts`."""
        if id_ is not None:
            yield Word((TokenPiece(id_, text, (offset, offset + len(text))),))
            return
        clean_words = _openai_words if self.wording.cleaning == "openai" else _huggingface_words
        for word in clean_words(text, self.tokenizer):
            yield word.moved(offset)

    def _fixed(self) -> dict[str, int]:
        """Strings that are one token wherever they stand, letter case included."""
        spec = self.tokenizer.spec
        fixed = {PAD_PIECE: 0} if self.wording.exclamation == "pad" else {}
        if self.wording.specials:
            fixed |= dict(zip(SPECIALS, (spec.start_of_text, spec.end_of_text), strict=True))
        return fixed


def split_around(text: str, pattern: str) -> Iterator[tuple[int, str]]:
    """(offset, characters) of every match, letter case included, and of what lies between."""
    after = 0
    for match in regex.finditer(pattern, text):
        if match.start() > after:
            yield after, text[after : match.start()]
        yield match.start(), match.group()
        after = match.end()
    if after < len(text):
        yield after, text[after:]


def check_characters(text: str, origin: tuple[int, ...]) -> None:
    """Raise TextError, with its place in the prompt, for a character that is none.

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
    for ids, spans in huggingface_words(text, tokenizer):
        shown = (tokenizer.pairs.piece(id_).decode(errors="backslashreplace") for id_ in ids)
        yield Word(tuple(map(TokenPiece, ids, shown, spans)))


def ids_of(words: list[Word]) -> list[int]:
    """Ids of words without inversions, in order."""
    return [piece.id for piece in chain.from_iterable(word.pieces for word in words)]


def _moved(span: Span, offset: int) -> Span:
    return span[0] + offset, span[1] + offset


def huggingface_words(text: str, tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[Span]]]:
    """(ids, spans in `text`) of every word of `text`; what spells a special token is mere text."""
    cleaned, origins = _cleaned(text)
    for start, end in _word_places(cleaned):
        ids, lengths = _encoded(tokenizer, cleaned[start:end])
        yield list(ids), _spans(cleaned, start, end, lengths, origins)


def _cleaned(text: str) -> tuple[str, list[Span] | None]:
    """Composed and lower-case text, and the span in `text` of each character; None is its own."""
    if text.isascii():
        return text.lower(), None
    characters: list[str] = []
    spans: list[Span] = []
    for composed, span in _composed(text):
        for character in composed:
            lowered = character.lower()
            characters.append(lowered)
            spans += [span] * len(lowered)  # "İ" becomes two characters
    return "".join(characters), spans


def _composed(text: str) -> Iterator[tuple[str, Span]]:
    """Runs of characters in NFC, with where they came from."""
    if unicodedata.is_normalized("NFC", text):
        yield from ((character, (place, place + 1)) for place, character in enumerate(text))
        return
    clusters = [(match.group(), match.span()) for match in _CLUSTER.finditer(text)]
    composed = [(unicodedata.normalize("NFC", cluster), span) for cluster, span in clusters]
    whole = unicodedata.normalize("NFC", text)
    if "".join(cluster for cluster, _ in composed) == whole:
        yield from composed
    else:  # composed across clusters: the spans are no finer than the text
        yield whole, (0, len(text))


def _word_places(cleaned: str) -> Iterator[Span]:
    for match in _WORD_OR_SPECIAL.finditer(cleaned):
        # `ByteLevel` splits again, so that what spells a special token ends up as three words
        for word in _WORD.finditer(cleaned, *match.span()):
            yield word.span()


@lru_cache(maxsize=_CACHED_WORDS)
def _encoded(tokenizer: Tokenizer, word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of a word, and how many bytes each holds."""
    ids = tuple(tokenizer.pairs.encode_word(word.encode()))
    return ids, tuple(len(tokenizer.pairs.piece(id_)) for id_ in ids)


def _spans(
    cleaned: str, start: int, end: int, lengths: tuple[int, ...], origins: list[Span] | None
) -> list[Span]:
    """Where each token of the word at `start` to `end` came from."""
    # place of the clean character that each byte of the word belongs to
    places = [place for place in range(start, end) for _ in cleaned[place].encode()]
    spans, first = [], 0  # byte
    for length in lengths:
        begin, last = places[first], places[first + length - 1]
        spans.append(
            (begin, last + 1) if origins is None else (origins[begin][0], origins[last][1])
        )
        first += length
    return spans
