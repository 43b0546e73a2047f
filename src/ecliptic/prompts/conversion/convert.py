"""A prompt in another dialect, with whatever could not be kept stated.

The tree becomes a flat row of texts under their final weights, which every dialect can say; what
has no counterpart takes the form that loses least. The result is read again, so that a character
that the target reads otherwise never goes unnoticed.
"""

from dataclasses import dataclass

import regex

from ecliptic.prompts.conversion.rules import Flat, build_tree
from ecliptic.prompts.dialects import Dialect, grammar
from ecliptic.prompts.prompt import Prompt, parse
from ecliptic.prompts.reading import Line, Segment
from ecliptic.prompts.tree import Text, Weighted, walk

WEIGHTS_NOTE = (
    "weights are kept as numbers, but each tool computes with them in its own way; "
    "pass emphasis=... to keep their meaning."
)

# openai/CLIP clip/simple_tokenizer.py `pat`: what the tokenizer takes as one word
_WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


@dataclass(frozen=True)
class Conversion:
    """A prompt that was converted."""

    text: str
    dialect: Dialect
    differences: tuple[str, ...]  # in words; empty where the encoders get the same


def convert(prompt: Prompt, dialect: Dialect) -> Conversion:
    """`prompt` in another dialect.

    Where `differences` is empty, or holds only `WEIGHTS_NOTE`, the target reads the same words
    under the same weights. Nested weights are multiplied out as the source means them.

    Raises:
        ConfigError: there is no such dialect.
        TextError: weights that multiply to no finite number.
    """
    target = grammar(dialect)
    if dialect == prompt.dialect:
        return Conversion(prompt.print(), dialect, ())
    flat = _flat(prompt)
    tree, weighted = build_tree(flat, dialect)
    text = target.write(tree)
    again = _flat(parse(text, dialect))
    differences = list(dict.fromkeys(flat.differences))
    if misread := _misread(flat, again):
        differences.append(misread)
    if weighted:
        differences.append(WEIGHTS_NOTE)
    return Conversion(text, dialect, tuple(differences))


def _flat(prompt: Prompt) -> Flat:
    flat = Flat(prompt.dialect)
    if all(isinstance(node, Text | Weighted) for node in walk(prompt.tree)):
        line = prompt.readings()[0].schedule[0][1]  # knows cuts that the tree does not show
        parts = line.parts if isinstance(line, Line) else ()
        flat.read_line(part for part in parts if isinstance(part, Segment))
    else:
        flat.read(prompt.tree)
    return flat


def words(text: str) -> list[str]:
    """`text` cut as the tokenizer cuts it before its pairs of bytes."""
    return [word.group() for word in _WORD.finditer(text)]


def _misread(sent: Flat, got: Flat) -> str | None:
    """The first word that the target takes for another, or under another weight."""
    before, after = _weighted_words(sent), _weighted_words(got)
    for index in range(max(len(before), len(after))):
        one, other = (row[index] if index < len(row) else None for row in (before, after))
        if one != other:
            return f"{_quoted(one)} is read as {_quoted(other)}: the target cannot write it as is."
    return None


def _weighted_words(flat: Flat) -> list[tuple[str, float]]:
    return [(word, weight) for run in flat.runs() for text, weight in run for word in words(text)]


def _quoted(word: tuple[str, float] | None) -> str:
    return "nothing" if word is None else f"{word[0]!r} with weight {word[1]:g}"
