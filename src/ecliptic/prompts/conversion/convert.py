"""Converts a prompt to another dialect, and lists everything that changes.

The tree is flattened to texts with their final weights, which every dialect can express; syntax
without a counterpart takes the form that loses least. The result is read again to find characters
that the target reads differently.
"""

from dataclasses import dataclass
from itertools import zip_longest

import regex

from ecliptic.prompts.conversion.rules import Flat, build_tree
from ecliptic.prompts.dialects import Dialect, grammar
from ecliptic.prompts.prompt import Prompt, parse
from ecliptic.prompts.reading import Line, Segment
from ecliptic.prompts.tree import Network, Text, Weighted, walk

WEIGHTS_NOTE = (
    "weights keep their numbers, but each tool computes with them in its own way; "
    "pass emphasis=... to keep their effect."
)

# openai/CLIP clip/simple_tokenizer.py `pat`: the words of the tokenizer
_WORD = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


@dataclass(frozen=True)
class Conversion:
    """A converted prompt, and how it differs from the original."""

    text: str
    dialect: Dialect
    differences: tuple[str, ...]  # sentences; empty if the encoders get the same


def convert(prompt: Prompt, dialect: Dialect) -> Conversion:
    """Convert `prompt` to another dialect.

    If `differences` is empty, or holds only `WEIGHTS_NOTE`, the target reads the same words with
    the same weights. Nested weights are multiplied by the rules of the source.

    Raises:
        ConfigError: there is no such dialect.
        TextError: a product of weights is not finite.
    """
    target = grammar(dialect)
    if dialect == prompt.dialect:
        return Conversion(prompt.print(), dialect, ())
    flat = _flatten(prompt)
    tree, weighted = build_tree(flat, dialect)
    text = target.write(tree)
    again = _flatten(parse(text, dialect))
    differences = list(dict.fromkeys(flat.differences))
    if misread := _find_misread(flat, again):
        differences.append(misread)
    if weighted:
        differences.append(WEIGHTS_NOTE)
    return Conversion(text, dialect, tuple(differences))


def _flatten(prompt: Prompt) -> Flat:
    flat = Flat(prompt.dialect)
    if all(isinstance(node, Text | Weighted | Network) for node in walk(prompt.tree)):
        line = prompt.readings()[0].schedule[0][1]  # shows splits that the tree does not show
        parts = line.parts if isinstance(line, Line) else ()
        flat.read_line(part for part in parts if isinstance(part, Segment))
        for network in prompt.networks:
            flat.leave_out(network)
    else:
        flat.read(prompt.tree)
    return flat


def split_words(text: str) -> list[str]:
    """Split `text` into words as the tokenizer does."""
    return [word.group() for word in _WORD.finditer(text)]


def _find_misread(sent: Flat, got: Flat) -> str | None:
    """Name the first word that the target reads as another one, or with another weight."""
    for one, other in zip_longest(_weighted_words(sent), _weighted_words(got)):
        if one != other:
            return f"{_quote(one)} is read as {_quote(other)}: the target dialect cannot write it."
    return None


def _weighted_words(flat: Flat) -> list[tuple[str, float]]:
    pairs = (pair for run in flat.runs() for pair in run)
    return [(word, weight) for text, weight in pairs for word in split_words(text)]


def _quote(word: tuple[str, float] | None) -> str:
    return "nothing" if word is None else f"{word[0]!r} with weight {word[1]:g}"
