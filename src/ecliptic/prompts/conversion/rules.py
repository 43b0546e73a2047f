"""Flattens trees, and builds the tree of each dialect from a flat prompt.

A `Flat` prompt has sides (of AND, `.blend`, `.and` or BREAK). Each side has texts with their final
weights. For a schedule of A1111, a side has the text that most steps use.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from ecliptic.prompts.compel.writing import fits_brackets
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.limits import check_weight
from ecliptic.prompts.printing import write_decimal
from ecliptic.prompts.reading import Segment
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    LoraUse,
    Mark,
    Network,
    Node,
    Scheduled,
    Swap,
    Text,
    Tree,
    Weighted,
)

TextRun: TypeAlias = list[tuple[str, float]]  # texts with their weights
JoinKind: TypeAlias = Literal["AND", "blend", "and", "BREAK", "one"]


@dataclass
class FlatSide:
    """Texts of one side; BREAKs split it into chunks."""

    weight: float = 1.0
    chunks: list[TextRun] = field(default_factory=lambda: [[]])


@dataclass
class Flat:
    """A flattened prompt of `dialect`."""

    dialect: Dialect
    kind: JoinKind = "one"
    normalize: bool = True
    sides: list[FlatSide] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def read(self, tree: Tree) -> None:
        """Add a tree of the dialect."""
        joined = next((node for node in tree if isinstance(node, Joined)), None)
        self.kind = "one" if joined is None else joined.kind
        self.normalize = joined is None or joined.normalize
        for node in tree if joined else ():
            if isinstance(node, LoraUse | Network):
                self.leave_out(node)
        for part, weight in ((tree, 1.0),) if joined is None else joined.parts:
            side = FlatSide(weight)
            self._add_all(side, part, 1.0)
            self.sides.append(side)

    def read_line(self, segments: Iterable[Segment]) -> None:
        """Add texts as the encoder gets them, one after the other."""
        side = FlatSide()
        for segment in segments:
            if self.dialect == "compel":
                _add_space(side.chunks[0])
            _append(side.chunks[0], segment.text, segment.weight, merges=False)
        self.sides.append(side)

    def leave_out(self, node: LoraUse | Network) -> None:
        """Note a LoRA or another network, for which no target dialect has a place."""
        kind = node.kind if isinstance(node, Network) else "LoRA"
        self.differences.append(
            f"the {kind} {node.name!r} with weight {write_decimal(node.weight)} is left out; "
            "load it separately."
        )

    def runs(self) -> Iterator[TextRun]:
        """The texts of every chunk of every side."""
        for side in self.sides:
            yield from side.chunks

    def _add_all(self, side: FlatSide, tree: Tree, scale: float) -> None:
        for node in tree:
            if self.dialect == "compel":
                _add_space(side.chunks[-1])
            self._add(side, node, scale)

    def _add(self, side: FlatSide, node: Node, scale: float) -> None:
        if isinstance(node, Text):
            _append(side.chunks[-1], node.text, scale, merges=self.dialect == "a1111")
        elif isinstance(node, Weighted):
            replaces = self.dialect == "comfyui" and node.mark == ":"
            inner = node.weight if replaces else scale * node.weight
            check_weight(inner, node.span[0])
            self._add_all(side, node.children, inner)
        elif isinstance(node, ChunkBreak):
            side.chunks.append([])
        elif isinstance(node, LoraUse | Network):
            self.leave_out(node)
        else:
            self._choose(side, node, scale)

    def _choose(self, side: FlatSide, node: Node, scale: float) -> None:
        if isinstance(node, Swap):
            chosen, what = node.before, "only the first side of .swap() is kept"
        elif isinstance(node, Scheduled):
            late = node.fraction and node.when >= 0.5  # half of the steps
            first = node.before if late else node.after
            chosen = first or node.after or node.before
            what = "a schedule has no counterpart; the text of most steps is kept for all steps"
        elif isinstance(node, Alternating):
            chosen = next((option for option in node.options if option), ())
            what = "an alternation has no counterpart; its first text is kept for all steps"
        else:
            return
        self.differences.append(f"{what}.")
        self._add_all(side, chosen, scale)


def _append(run: TextRun, text: str, weight: float, *, merges: bool) -> None:
    """Append `text` to `run`; A1111 merges neighbours of equal weight into one text."""
    if run and run[-1][1] == weight:
        before = run[-1][0]
        gap = "" if merges or not _would_merge(before, text) else " "
        run[-1] = (before + gap + text, weight)
    elif text:
        run.append((text, weight))


def _add_space(run: TextRun) -> None:
    """Add a space, since compel tokenizes neighbours separately."""
    if run and not run[-1][0][-1:].isspace():
        run[-1] = (f"{run[-1][0]} ", run[-1][1])


def _would_merge(before: str, after: str) -> bool:
    """Whether the tokenizer could read the two as one word."""
    last, first = before[-1:], after[:1]
    if not last or not first or last.isspace() or first.isspace():
        return False
    return last.isalpha() == first.isalpha() or last == "'"


def build_tree(flat: Flat, dialect: Dialect) -> tuple[Tree, bool]:
    """Build the tree of `flat` for another dialect; also return whether it has a weight.

    Changes `flat` where the dialect has no counterpart, and adds that to its differences.
    """
    rules = _TARGETS[dialect]
    rules.fit_sides(flat)
    for side in flat.sides:
        side.chunks = [rules.fit_run(flat, chunk) for chunk in side.chunks]
    tree = rules.build(flat)
    return tree, any(weight != 1 for run in flat.runs() for _, weight in run)


# sides


def _join_sides(flat: Flat) -> None:
    """Join all sides into one, for dialects without sides."""
    if flat.kind != "one":
        name = "AND" if flat.kind == "AND" else f".{flat.kind}()"
        flat.differences.append(
            f"{name} has no counterpart; its sides follow one another, without their weights."
        )
    if any(len(side.chunks) > 1 for side in flat.sides):
        flat.differences.append("BREAK has no counterpart; no new chunk starts there.")
    flat.kind, flat.sides = "one", [FlatSide(1.0, [_chain(flat.runs())])]


def _chain(runs: Iterable[TextRun]) -> TextRun:
    chain: TextRun = []
    for run in runs:
        if run:
            _add_space(chain)
        for text, weight in run:
            _append(chain, text, weight, merges=True)
    return chain


def _fit_sides_to_a1111(flat: Flat) -> None:
    if flat.kind == "blend":
        flat.differences.append(
            ".blend() becomes AND, which mixes the predictions of the model instead of the vectors."
        )
        flat.kind = "AND"
    elif flat.kind == "and":
        flat.differences.append(
            ".and() becomes BREAK: parts fill chunks, and their weights multiply those of words."
        )
        chunks = [
            [(text, weight * side.weight) for text, weight in run]
            for side in flat.sides
            for run in side.chunks
        ]
        flat.kind, flat.sides = "one", [FlatSide(1.0, chunks)]


def _fit_sides_to_compel(flat: Flat) -> None:
    if flat.kind == "AND":
        flat.differences.append(
            "AND becomes .blend(), which mixes the vectors instead of the predictions of the model."
        )
        flat.kind = "blend"
        flat.normalize = sum(side.weight for side in flat.sides) > 0
        for side in flat.sides:
            if len(side.chunks) > 1:
                flat.differences.append("BREAK inside AND is left out; no new chunk starts there.")
            side.chunks = [_chain(side.chunks)]
    elif any(len(side.chunks) > 1 for side in flat.sides):
        flat.differences.append(
            "BREAK becomes .and(): each part is encoded separately, and empty parts are left out."
        )
        chunks = [chunk for side in flat.sides for chunk in side.chunks if chunk]
        flat.kind, flat.sides = "and", [FlatSide(1.0, [chunk]) for chunk in chunks or [[]]]


# texts and weights


def _move_space_out(flat: Flat, run: TextRun) -> TextRun:
    """Move white space at the ends of a weighted text out of its brackets."""
    del flat
    found: TextRun = []
    for text, weight in run:
        inner = text.strip()
        start = text.index(inner)
        pieces = (text[:start], inner, text[start + len(inner) :])
        for piece, one in zip(pieces, (1.0, weight, 1.0), strict=True):
            if piece:
                _append(found, piece, one, merges=True)
    return found


def _drop_weights(flat: Flat, run: TextRun) -> TextRun:
    if any(weight != 1 and text.strip() for text, weight in run):
        flat.differences.append("weights have no counterpart and are left out.")
    text = ""
    for piece, _ in run:
        text += f" {piece}" if _would_merge(text, piece) else piece
    return [(text, 1.0)] if text else []


def _fit_weights_to_compel(flat: Flat, run: TextRun) -> TextRun:
    found: TextRun = []
    for text, weight in run:
        if weight < 0:
            flat.differences.append(
                f"compel has no weight below 0, so {text.strip()!r} gets 0 instead of "
                f"{write_decimal(weight)}; put it into the negative prompt."
            )
        for word in re.findall(r"\S+", text):
            fits = weight == 1 or fits_brackets(word)
            if not fits:
                flat.differences.append(
                    f"compel cannot put {word!r} into brackets, so it loses its weight."
                )
            _add_space(found)
            _append(found, word, max(weight, 0.0) if fits else 1.0, merges=True)
    return found


# trees


def _build_a1111_tree(flat: Flat) -> Tree:
    """Build chunks with breaks between them, and join several sides by AND."""
    if flat.kind == "one":
        return _build_side(flat.sides[0])
    for side in flat.sides[1:]:
        side.chunks[0].insert(0, (" ", 1.0))  # between AND and the first word
    sides = [(_build_side(side), side.weight) for side in flat.sides]
    return (Joined("AND", tuple(sides), normalize=False, span=(0, 0)),)


def _build_side(side: FlatSide) -> Tree:
    nodes: list[Node] = []
    for number, chunk in enumerate(side.chunks):
        nodes += [ChunkBreak((0, 0))] if number else []
        nodes += _build_nodes(chunk, ":")
    return tuple(nodes)


def _build_compel_tree(flat: Flat) -> Tree:
    sides = tuple((_build_nodes(side.chunks[0], "number"), side.weight) for side in flat.sides)
    if flat.kind == "one":
        return sides[0][0]
    kind: Literal["blend", "and"] = "and" if flat.kind == "and" else "blend"
    return (Joined(kind, sides, flat.normalize, (0, 0)),)


def _build_nodes(run: TextRun, mark: Mark) -> Tree:
    return tuple(
        Text(text) if weight == 1 else Weighted((Text(text),), weight, mark, (0, 0))
        for text, weight in run
    )


@dataclass(frozen=True)
class _Target:
    """The functions that express a flat prompt in one dialect."""

    fit_sides: Callable[[Flat], None]
    fit_run: Callable[[Flat, TextRun], TextRun]
    build: Callable[[Flat], Tree]


_TARGETS: Mapping[Dialect, _Target] = MappingProxyType(
    {
        "plain": _Target(_join_sides, _drop_weights, _build_a1111_tree),
        "a1111": _Target(_fit_sides_to_a1111, _move_space_out, _build_a1111_tree),
        "comfyui": _Target(_join_sides, _move_space_out, _build_a1111_tree),
        "compel": _Target(_fit_sides_to_compel, _fit_weights_to_compel, _build_compel_tree),
    }
)
