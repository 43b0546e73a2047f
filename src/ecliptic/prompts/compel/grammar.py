"""compel's dialect: reads, writes and makes the readings for the encoders.

Texts are split as in compel 2.5.1: neighbouring fragments of equal weight are one segment, joined
by a space. Intended differences: an empty part or prompt reads as the empty text instead of
failing, and every error is a TextError with the position.
"""

from collections.abc import Iterator
from itertools import groupby

from ecliptic.prompts.compel.characters import characters_of, join_spaced
from ecliptic.prompts.compel.parsing import CompelGrammar
from ecliptic.prompts.compel.writing import KNOWN, write as write
from ecliptic.prompts.limits import check_weight
from ecliptic.prompts.printing import node_error
from ecliptic.prompts.reading import Alternative, Line, Mix, Reading, Segment, segments_of
from ecliptic.prompts.tree import Joined, LoraUse, Swap, Text, Tree, Weighted


def read(text: str) -> Tree:
    """The tree of `text`; TextError with the position if compel refuses it."""
    return CompelGrammar(characters_of(text)).read()


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """One reading for all steps, for negative prompts too."""
    del negative
    return (Alternative(1.0, ((steps or 1, reading_of(read(text))),)),)


def spans(text: str) -> list[tuple[str, float]]:
    """(text, weight) of every segment, also those of blended or joined prompts, in order."""
    return [(segment.text, segment.weight) for segment in segments_of(reading_of(read(text)))]


def reading_of(tree: Tree) -> Reading:
    """The reading of a tree that compel can write; TextError if weights multiply to infinity."""
    joined = next((node for node in tree if isinstance(node, Joined)), None)
    if joined is None:
        return _line(_segments(tree))
    if joined.kind == "AND":
        raise node_error(joined, "compel", KNOWN)
    parts = [(_segments(part), weight) for part, weight in joined.parts]
    if joined.kind == "and":
        parts = [part for part in parts if part[0]]  # compel drops empty parts
    lines = tuple((_line(segments), weight) for segments, weight in parts)
    return Mix(joined.kind, lines, joined.normalize) if lines else _line(())


def _line(segments: tuple[Segment, ...]) -> Line:
    return Line(segments or (Segment(""),))


def _segments(tree: Tree, scale: float = 1.0) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for weight, group in groupby(
        _flatten(tree, scale), key=lambda one: one.weight if one else None
    ):
        if weight is not None:
            text, origin = join_spaced([one for one in group if one])
            segments.append(Segment(text, weight, origin))
    return tuple(segments)


def _flatten(tree: Tree, scale: float) -> Iterator[Segment | None]:
    """Yield texts with the product of their weights; None before and after a swap."""
    for node in tree:
        if isinstance(node, Text):
            yield Segment(node.text, scale, node.origin)
        elif isinstance(node, Weighted):
            weight = scale * node.weight
            check_weight(weight, node.span[0])
            yield from _flatten(node.children, weight)
        elif isinstance(node, Swap):
            yield None
            yield from _segments(node.before, scale) or (Segment("", scale),)
            yield None
        elif not isinstance(node, LoraUse):
            raise node_error(node, "compel", KNOWN)
