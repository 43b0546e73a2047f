"""compel's dialect: read, print back, and what the encoders get.

Texts are cut as compel 2.5.1 cuts them: neighbouring fragments of equal weight are one segment,
joined by a space. Differences on purpose: a part or prompt that is empty reads as the empty text
instead of failing, and every error is a TextError that names the character.
"""

import math
from collections.abc import Iterator

from ecliptic.diffusion.prompt.compel_grammar import Grammar
from ecliptic.diffusion.prompt.compel_source import source_of
from ecliptic.diffusion.prompt.compel_writing import written
from ecliptic.diffusion.prompt.reading import Alternative, Line, Mix, Reading, Segment
from ecliptic.diffusion.prompt.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    LoraUse,
    Node,
    Scheduled,
    Swap,
    Text,
    Tree,
    Weighted,
)
from ecliptic.errors import TextError

_SWAP_NOTE = ".swap() needs a sampler that edits attention; its first side alone is read."


def read(text: str) -> Tree:
    """The tree of `text`; TextError with the position where compel refuses it."""
    return Grammar(source_of(text)).whole()


def write(tree: Tree) -> str:
    """Text that reads as `tree`, up to white space; see `converting` for trees of other dialects.

    Raises TextError for a node that compel has no way to write.
    """
    return written(tree)


def readings(
    text: str,
    steps: int,
    negative: bool = False,  # noqa: ARG001 every dialect takes it; compel reads both sides alike
) -> tuple[Alternative, ...]:
    """What the encoders get: one alternative that stays the same over all `steps`."""
    return (Alternative(1.0, ((steps, reading_of(read(text))),)),)


def spans(text: str) -> list[tuple[str, float]]:
    """(text, weight) of every segment; those of blended or joined prompts one after the other."""
    return [(segment.text, segment.weight) for segment in _segments_of(reading_of(read(text)))]


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """(name, weight) of every `withLora`, in order."""
    return tuple((node.name, node.weight) for node in _walk(tree) if isinstance(node, LoraUse))


def notes(tree: Tree) -> tuple[str, ...]:
    """What `readings` leaves out of `tree`."""
    return (_SWAP_NOTE,) if any(isinstance(node, Swap) for node in _walk(tree)) else ()


def reading_of(tree: Tree) -> Reading:
    """The reading of a tree that compel can write; TextError where weights multiply to infinity."""
    joined = next((node for node in tree if isinstance(node, Joined)), None)
    if joined is None:
        return _line(_segments(tree))
    if joined.kind == "AND":
        raise _foreign(joined)
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
            raise _foreign(node)


def _product(scale: float, node: Weighted) -> float:
    weight = scale * node.weight
    if not math.isfinite(weight):
        raise TextError(
            f"character {node.span[0]}: the weights around it multiply to {weight}, which is no "
            "finite number; make them smaller."
        )
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


def _walk(tree: Tree) -> Iterator[Node]:
    for node in tree:
        yield node
        if isinstance(node, Weighted):
            yield from _walk(node.children)
        elif isinstance(node, Swap):
            yield from _walk(node.before + node.after)
        elif isinstance(node, Joined):
            for part, _ in node.parts:
                yield from _walk(part)


def _foreign(node: Node) -> TextError:
    kinds = {ChunkBreak: "BREAK", Scheduled: "a schedule", Alternating: "an alternation"}
    name = kinds.get(type(node), "AND, .blend() or .and()")
    return TextError(f"compel has no place for {name} here; convert the prompt to compel first.")
