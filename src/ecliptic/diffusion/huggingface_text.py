"""Text as Hugging Face's CLIP tokenizer reads it, and where each of its characters came from.

NFC, white space, lower case, words by one pattern: no ftfy and no HTML entities.
Source: transformers 5.23, models/clip/tokenization_clip.py; tokenizers, `Lowercase` (letter by
letter: no final sigma) and `ByteLevel`. White space only parts words, so runs of it may stay.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

import regex

from ecliptic.inputs import Tokenizer
from ecliptic.prompts import Span

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_WORD = regex.compile(_WORDS)
_WORD_OR_SPECIAL = regex.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}")
_CLUSTER = regex.compile(r"\X")  # user-perceived characters; NFC composes within them
_CACHED_WORDS = 1 << 16


def huggingface_words(text: str, tokenizer: Tokenizer) -> Iterator[tuple[list[int], list[Span]]]:
    """(ids, spans in `text`) of every word of `text`; what spells a special token is mere text."""
    cleaned, origins = normalise(text)
    for start, end in _word_places(cleaned):
        ids, lengths = _encoded(tokenizer, cleaned[start:end])
        yield list(ids), _spans(cleaned, start, end, lengths, origins)


def normalise(text: str) -> tuple[str, list[Span] | None]:
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
