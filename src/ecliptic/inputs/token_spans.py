"""Finds the characters that each token came from.

Spans count characters of the text as given, before cleaning; `cleaning.py` says how they are found
and where they are only approximate. If several tokens each hold some bytes of one character
(emoji, most scripts), all of them point at that character.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from ecliptic.inputs.cleaning import Cleaned, Span, clean_with_offsets
from ecliptic.inputs.tokenizer import END_SPELLINGS, START_SPELLINGS, Tokenizer, check_text

SpanKind = Literal["start", "text", "end"]


@dataclass(frozen=True)
class TokenSpan:
    """One token and the characters it came from."""

    id: int
    piece: str  # for display; incomplete characters are written as bytes, \xNN
    kind: SpanKind
    span: Span  # [start, end) in the original text; empty for the added start and end
    kept: bool  # False where the context is full and the token is dropped
    ends_word: bool = False

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"span": list(self.span)}


def ledger(text: str, tokenizer: Tokenizer, *, specials: bool = False) -> list[TokenSpan]:
    """Every token of `text` in order, with start and end of text and the dropped tokens.

    The ids of the kept tokens equal the tokenizer's row for `text`, without padding.
    Raises TextError as the tokenizer does.
    """
    check_text(text)
    spec = tokenizer.spec
    cleaned = clean_with_offsets(text)
    found = [_make_token(spec.start_of_text, (0, 0), tokenizer)]
    for (start, end), ids in tokenizer.words(cleaned.text, specials=specials):
        for id_, span in zip(ids, _find_spans(cleaned, start, end, ids, tokenizer), strict=True):
            found.append(_make_token(id_, span, tokenizer, kept=len(found) < spec.context - 1))
    return [*found, _make_token(spec.end_of_text, (len(text), len(text)), tokenizer)]


def _find_spans(
    cleaned: Cleaned, start: int, end: int, ids: list[int], tokenizer: Tokenizer
) -> Iterator[Span]:
    """Original span of each token of the word at `start` to `end` of the clean text."""
    if ids[0] >= tokenizer.spec.start_of_text:
        yield cleaned.span(start, end)
        return
    # index of the clean character of each byte of the word
    places = [place for place in range(start, end) for _ in cleaned.text[place].encode()]
    first = 0  # byte
    for id_ in ids:
        after = first + len(tokenizer.pairs.piece(id_))
        yield cleaned.span(places[first], places[after - 1] + 1)
        first = after


def _make_token(id_: int, span: Span, tokenizer: Tokenizer, *, kept: bool = True) -> TokenSpan:
    spec = tokenizer.spec
    if id_ == spec.start_of_text:
        return TokenSpan(id_, START_SPELLINGS[0], "start", span, kept)
    if id_ == spec.end_of_text:
        return TokenSpan(id_, END_SPELLINGS[0], "end", span, kept)
    piece = tokenizer.pairs.piece(id_).decode(errors="backslashreplace")
    return TokenSpan(id_, piece, "text", span, kept, tokenizer.pairs.ends_word(id_))
