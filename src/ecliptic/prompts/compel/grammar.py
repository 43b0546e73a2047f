"""compel's dialect: read, print back, and what the encoders get.

Texts are cut as compel 2.5.1 cuts them: neighbouring fragments of equal weight are one segment,
joined by a space. Differences on purpose: a part or prompt that is empty reads as the empty text
instead of failing, and every error is a TextError that names the character.
"""

from collections.abc import Iterator

from ecliptic.prompts.compel.characters import characters_of
from ecliptic.prompts.compel.parsing import CompelGrammar
from ecliptic.prompts.compel.writing import KNOWN, written
from ecliptic.prompts.limits import check_weight
from ecliptic.prompts.printing import foreign
from ecliptic.prompts.reading import Alternative, Line, Mix, Reading, Segment
from ecliptic.prompts.tree import (
    Joined,
    LoraUse,
    Swap,
    Text,
    Tree,
    Weighted,
    walk,
)


def read(text: str) -> Tree:
    """The tree of `text`; TextError with the position where compel refuses it."""
    return CompelGrammar(characters_of(text)).whole()


def write(tree: Tree) -> str:
    """Text that reads as `tree`, up to white space; see `converting` for trees of other dialects.

    Raises ConfigError for a node that compel has no words for, or a weight below 0.
    """
    return written(tree)


def readings(
    text: str,
    steps: int | None,
    negative: bool,
) -> tuple[Alternative, ...]:
    """One alternative that is the same at all steps, for negative prompts too."""
    del negative
    return (Alternative(1.0, ((steps or 1, reading_of(read(text))),)),)


def spans(text: str) -> list[tuple[str, float]]:
    """(text, weight) of every segment; those of blended or joined prompts one after the other."""
    return [(segment.text, segment.weight) for segment in _segments_of(reading_of(read(text)))]


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """(name, weight) of every `withLora`, in order."""
    return tuple((node.name, node.weight) for node in walk(tree) if isinstance(node, LoraUse))


def reading_of(tree: Tree) -> Reading:
    """The reading of a tree that compel can write; TextError where weights multiply to infinity."""
    joined = next((node for node in tree if isinstance(node, Joined)), None)
    if joined is None:
        return _line(_segments(tree))
    if joined.kind == "AND":
        raise foreign(joined, "compel", KNOWN)
    parts = [(_segments(part), weight) for part, weight in joined.parts]
    if joined.kind == "and":
        parts = [part for part in parts if part[0]]  # compel drops the empty ones
    lines = tuple((_line(segments), weight) for segments, weight in parts)
    return Mix(joined.kind, lines, joined.normalize) if lines else _line(())


def _line(segments: tuple[Segment, ...]) -> Line:
    return Line(segments or (Segment(""),))


def _segments(tree: Tree, scale: float = 1.0) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    run: list[Segment] = []
    for segment in (*_flat(tree, scale), None):
        if run and (segment is None or segment.weight != run[0].weight):
            segments.append(_one_segment(run))
            run = []
        if segment is not None:
            run.append(segment)
    return tuple(segments)


def _flat(tree: Tree, scale: float) -> Iterator[Segment | None]:
    """Texts under the product of their weights; None where a swap keeps neighbours apart."""
    for node in tree:
        if isinstance(node, Text):
            yield Segment(node.text, scale, node.origin)
        elif isinstance(node, Weighted):
            yield from _flat(node.children, _product(scale, node))
        elif isinstance(node, Swap):
            yield None
            yield from _segments(node.before, scale) or (Segment("", scale),)
            yield None
        elif not isinstance(node, LoraUse):
            raise foreign(node, "compel", KNOWN)


def _product(scale: float, node: Weighted) -> float:
    weight = scale * node.weight
    check_weight(weight, str(weight), node.span[0])
    return weight


def _one_segment(run: list[Segment]) -> Segment:
    origin: list[int] = []
    for number, segment in enumerate(run):
        if number:
            first = segment.origin[0] if segment.origin else 0
            origin.append(origin[-1] + 1 if origin else first)
        origin += segment.origin
    return Segment(" ".join(segment.text for segment in run), run[0].weight, tuple(origin))


def _segments_of(reading: Reading) -> Iterator[Segment]:
    if isinstance(reading, Mix):
        for part, _ in reading.parts:
            yield from _segments_of(part)
        return
    yield from (part for part in reading.parts if isinstance(part, Segment))
