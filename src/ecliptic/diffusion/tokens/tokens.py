"""Turns a line of a prompt into tokens with their characters, weight, word and segment.

`words.py` turns text into ids, `inversion_names.py` finds the names of inversions, and `chunks.py`
lays out the tokens. n vectors of an inversion, D width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from ecliptic.checks import check_choice, check_finite, is_finite
from ecliptic.diffusion.options import InversionMatch
from ecliptic.diffusion.tokens.inversion_names import MATCHERS
from ecliptic.diffusion.tokens.words import Reader, Word, Wording, check_characters
from ecliptic.errors import ConfigError, ShapeError, TextError
from ecliptic.inputs import Tokenizer
from ecliptic.prompts import Break, Line, Segment, Span


@dataclass(frozen=True, eq=False)
class Token:
    """One token of a prompt, not yet placed in a chunk."""

    id: int  # 0 if `vector` replaces the embedding
    piece: str  # for display
    span: Span  # characters of the prompt as given
    weight: float
    word: int  # number of its word, from 0 over the whole prompt
    segment: int  # number of the weighted segment, likewise
    vector: Tensor | None = None  # (D,) of a textual inversion


NO_INVERSIONS: Mapping[str, Tensor] = MappingProxyType({})


def tokenize(
    line: Line,
    tokenizer: Tokenizer,
    wording: Wording | None = None,
    *,
    inversions: Mapping[str, Tensor] = NO_INVERSIONS,
    match: InversionMatch = "diffusers",
) -> list[Token | Break]:
    """Tokenize every segment of `line` by itself, without start and end.

    Args:
        line: what is encoded as one prompt.
        tokenizer: of the encoder.
        wording: how text becomes ids; None: "!" is a word, and Hugging Face's cleaning.
        inversions: (D,) or (n, D) vectors by name.
        match: the tool whose rule finds the names.

    Returns:
        Tokens and breaks in order. An inversion is n tokens of id 0 with a vector each; they are
        one word with the weight of its segment, as if the vectors were spliced into the embedded
        sequence. With `match="comfyui"` a name is a segment of its own, as in ComfyUI.

    Raises:
        ConfigError: an unknown match, or an inversion without a name.
        ShapeError: an inversion of another shape.
        NumericalError: an inversion that holds NaN or infinity.
        TextError: a lone surrogate, or a weight that is not finite.
    """
    check_choice("match", match, MATCHERS)
    vectors = {name: _check_vectors(name, given) for name, given in inversions.items()}
    find = MATCHERS[match](Reader(tokenizer, wording or Wording()), vectors)
    stream: list[Token | Break] = []
    count, words, segments = 0, 0, 0  # characters, words and segments so far
    for part in line.parts:
        if isinstance(part, Break):
            stream.append(part)
            continue
        origin = _origin(part, count)
        count += len(part.text)
        check_characters(part.text, origin)
        _check_weight(part, origin)
        for group in find(part.text):
            for word in group:
                place = _Place(origin, part.weight, words, segments)
                stream += _make_tokens(word, vectors, place)
                words += 1
            segments += 1
    return stream


@dataclass(frozen=True)
class _Place:
    """The values that all tokens of one word share."""

    origin: tuple[int, ...]
    weight: float
    word: int
    segment: int

    def span(self, span: Span) -> Span:
        """The characters of the prompt behind a span of the segment."""
        start, end = span
        chosen = self.origin[start:end] or self.origin[max(start - 1, 0) : start + 1]
        return min(chosen), max(chosen) + 1


def _make_tokens(word: Word, vectors: Mapping[str, Tensor], place: _Place) -> Iterator[Token]:
    common = (place.weight, place.word, place.segment)
    for piece in word.pieces:
        yield Token(piece.id, piece.text, place.span(piece.span), *common)
    if word.inversion is None:
        return
    rows, span = vectors[word.inversion], place.span(word.span)
    for number, vector in enumerate(rows, start=1):
        shown = word.inversion if len(rows) == 1 else f"{word.inversion} {number}/{len(rows)}"
        yield Token(0, shown, span, *common, vector)


def _check_vectors(name: str, given: Tensor) -> Tensor:
    """Check the vectors of an inversion; returns them as (n, D)."""
    if not name.strip():
        raise ConfigError("a textual inversion has no name, so no prompt can use it; give it one.")
    vectors = given.unsqueeze(0) if given.dim() == 1 else given
    if vectors.dim() != 2 or not vectors.numel():
        raise ShapeError(
            f"the textual inversion {name!r} is {tuple(given.shape)}; it must be (n, D) vectors "
            "as wide as the encoder's embeddings, or one vector (D,)."
        )
    check_finite(vectors, f"the textual inversion {name!r}", "train or download it again.")
    return vectors  # (n, D)


def _origin(segment: Segment, count: int) -> tuple[int, ...]:
    """Place in the prompt of each character; without an origin, segments are contiguous."""
    if not segment.origin:
        return tuple(range(count, count + len(segment.text)))
    if len(segment.origin) != len(segment.text):
        raise ShapeError(
            f"segment {segment.text[:80]!r} has {len(segment.text)} characters but places for "
            f"{len(segment.origin)}; give one for each character, or none at all."
        )
    return segment.origin


def _check_weight(segment: Segment, origin: tuple[int, ...]) -> None:
    if is_finite(segment.weight):
        return
    where = f"at character {origin[0]} " if origin else ""
    raise TextError(
        f"the weight of {segment.text[:80]!r} {where}is {segment.weight}, but must be finite; "
        "write another number.",
        place=origin[0] if origin else None,
    )
