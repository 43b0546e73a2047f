"""How trees are laid flat, and how each dialect says what is flat.

A `Flat` prompt has sides (of AND, `.blend`, `.and` or BREAK), each a row of texts under their final
weights. A side of A1111 holds its schedules as chosen: the text that most steps would show.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from ecliptic.prompts.compel.writing import bracketable
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.limits import check_weight
from ecliptic.prompts.printing import decimal
from ecliptic.prompts.reading import Segment
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    LoraUse,
    Mark,
    Node,
    Scheduled,
    Swap,
    Text,
    Tree,
    Weighted,
)

Run: TypeAlias = tuple[tuple[str, float], ...]  # texts under their weights
Kind: TypeAlias = Literal["AND", "blend", "and", "BREAK", "one"]


@dataclass
class FlatSide:
    """Texts of one side; more than one chunk where BREAKs part them."""

    weight: float = 1.0
    chunks: list[list[tuple[str, float]]] = field(default_factory=lambda: [[]])


@dataclass
class Flat:
    """A prompt of `dialect` laid flat."""

    dialect: Dialect
    kind: Kind = "one"
    normalize: bool = True
    sides: list[FlatSide] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def read(self, tree: Tree) -> None:
        """Take in a tree of the dialect."""
        joined = next((node for node in tree if isinstance(node, Joined)), None)
        self.kind = "one" if joined is None else joined.kind
        self.normalize = joined is None or joined.normalize
        for node in tree if joined else ():
            if isinstance(node, LoraUse):
                self._take(FlatSide(), node, 1.0)
        for part, weight in ((tree, 1.0),) if joined is None else joined.parts:
            side = FlatSide(weight)
            self._nodes(side, part, 1.0)
            self.sides.append(side)

    def read_line(self, segments: Iterable[Segment]) -> None:
        """Take in texts as the encoder gets them, one behind the other."""
        side = FlatSide()
        for segment in segments:
            if self.dialect == "compel":
                _space(side.chunks[0])
            _add(side.chunks[0], segment.text, segment.weight, merges=False)
        self.sides.append(side)

    def runs(self) -> Iterator[Run]:
        """The texts of every chunk of every side."""
        for side in self.sides:
            yield from (tuple(chunk) for chunk in side.chunks)

    def _nodes(self, side: FlatSide, tree: Tree, scale: float) -> None:
        for node in tree:
            if self.dialect == "compel":
                _space(side.chunks[-1])
            self._take(side, node, scale)

    def _take(self, side: FlatSide, node: Node, scale: float) -> None:
        if isinstance(node, Text):
            _add(side.chunks[-1], node.text, scale, merges=self.dialect == "a1111")
        elif isinstance(node, Weighted):
            replaces = self.dialect == "comfyui" and node.mark == ":"
            inner = node.weight if replaces else scale * node.weight
            check_weight(inner, str(inner), node.span[0])
            self._nodes(side, node.children, inner)
        elif isinstance(node, ChunkBreak):
            side.chunks.append([])
        elif isinstance(node, LoraUse):
            self.differences.append(
                f"the LoRA {node.name!r} with weight {decimal(node.weight)} is left out; load it "
                "beside the prompt."
            )
        else:
            self._choose(side, node, scale)

    def _choose(self, side: FlatSide, node: Node, scale: float) -> None:
        if isinstance(node, Swap):
            chosen, what = node.before, "of .swap() the first side alone is kept"
        elif isinstance(node, Scheduled):
            late = node.fraction and node.when >= 0.5  # half of the steps
            first = node.before if late else node.after
            chosen = first or node.after or node.before
            what = "a schedule has no counterpart; the text of most steps is kept at all of them"
        elif isinstance(node, Alternating):
            chosen = next((option for option in node.options if option), ())
            what = "an alternation has no counterpart; its first text is kept at all steps"
        else:
            return
        self.differences.append(f"{what}.")
        self._nodes(side, chosen, scale)


def _add(run: list[tuple[str, float]], text: str, weight: float, *, merges: bool) -> None:
    """Put `text` behind `run`; A1111 merges neighbours of equal weight into one text."""
    if run and run[-1][1] == weight:
        before = run[-1][0]
        gap = "" if merges or not _glued(before, text) else " "
        run[-1] = (before + gap + text, weight)
    elif text:
        run.append((text, weight))


def _space(run: list[tuple[str, float]]) -> None:
    """compel tokenizes neighbours apart."""
    if run and not run[-1][0][-1:].isspace():
        run[-1] = (f"{run[-1][0]} ", run[-1][1])


def _glued(before: str, after: str) -> bool:
    """Whether the tokenizer could read the two as one word."""
    last, first = before[-1:], after[:1]
    if not last or not first or last.isspace() or first.isspace():
        return False
    return last.isalpha() == first.isalpha() or last == "'"


def build_tree(flat: Flat, dialect: Dialect) -> tuple[Tree, bool]:
    """The tree of `flat` for another dialect, and whether it holds a weight.

    What cannot be kept is changed in `flat` itself and named in its differences.
    """
    rules = _TARGETS[dialect]
    rules.sides(flat)
    for side in flat.sides:
        side.chunks = [rules.run(flat, chunk) for chunk in side.chunks]
    tree = rules.tree(flat)
    return tree, any(weight != 1 for run in flat.runs() for _, weight in run)


# what becomes of the sides


def _one_side(flat: Flat) -> None:
    """No counterpart to sides at all: all words in one row."""
    runs = [list(run) for run in flat.runs()]
    if flat.kind != "one":
        name = "AND" if flat.kind == "AND" else f".{flat.kind}()"
        flat.differences.append(
            f"{name} has no counterpart; its sides stand one behind the other, their weights gone."
        )
    if any(len(side.chunks) > 1 for side in flat.sides):
        flat.differences.append("BREAK has no counterpart; no new chunk begins there.")
    flat.kind, flat.sides = "one", [FlatSide(1.0, [_chained(runs)])]


def _chained(runs: list[list[tuple[str, float]]]) -> list[tuple[str, float]]:
    chain: list[tuple[str, float]] = []
    for run in runs:
        if run:
            _space(chain)
        for text, weight in run:
            _add(chain, text, weight, merges=True)
    return chain


def _sides_of_a1111(flat: Flat) -> None:
    if flat.kind == "blend":
        flat.differences.append(
            ".blend() becomes AND: the predictions of the model are mixed, not the vectors."
        )
        flat.kind = "AND"
    elif flat.kind == "and":
        flat.differences.append(
            ".and() becomes BREAK: the parts fill chunks, and a weight multiplies those of words."
        )
        chunks = [_times(run, side.weight) for side in flat.sides for run in side.chunks]
        flat.kind, flat.sides = "one", [FlatSide(1.0, chunks)]


def _times(run: list[tuple[str, float]], weight: float) -> list[tuple[str, float]]:
    return [(text, one * weight) for text, one in run]


def _sides_of_compel(flat: Flat) -> None:
    if flat.kind == "AND":
        flat.differences.append(
            "AND becomes .blend(): the vectors are mixed, not the predictions of the model."
        )
        flat.kind = "blend"
        flat.normalize = sum(side.weight for side in flat.sides) > 0
        for side in flat.sides:
            if len(side.chunks) > 1:
                flat.differences.append("BREAK inside AND is left out; no new chunk begins there.")
            side.chunks = [_chained([list(chunk) for chunk in side.chunks])]
    elif any(len(side.chunks) > 1 for side in flat.sides):
        flat.differences.append(
            "BREAK becomes .and(): each part is encoded apart, and an empty one is left out."
        )
        chunks = [chunk for side in flat.sides for chunk in side.chunks if chunk]
        flat.kind, flat.sides = "and", [FlatSide(1.0, [chunk]) for chunk in chunks or [[]]]


# what becomes of texts and weights


def _weighted_run(flat: Flat, run: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """White space at the ends of a weighted text stands outside of its brackets."""
    del flat
    found: list[tuple[str, float]] = []
    for text, weight in run:
        inner = text.strip()
        start = text.index(inner)
        pieces = (text[:start], inner, text[start + len(inner) :])
        for piece, one in zip(pieces, (1.0, weight, 1.0), strict=True):
            if piece:
                _add(found, piece, one, merges=True)
    return found


def _unweighted_run(flat: Flat, run: list[tuple[str, float]]) -> list[tuple[str, float]]:
    if any(weight != 1 and text.strip() for text, weight in run):
        flat.differences.append("weights have no counterpart and are left out.")
    text = ""
    for piece, _ in run:
        text += f" {piece}" if _glued(text, piece) else piece
    return [(text, 1.0)] if text else []


def _compel_run(flat: Flat, run: list[tuple[str, float]]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for text, weight in run:
        if weight < 0:
            flat.differences.append(
                f"compel has no weight below 0, so {text.strip()!r} gets 0 and not "
                f"{decimal(weight)}; put it into the negative prompt."
            )
        for word in re.findall(r"\S+", text):
            fits = weight == 1 or bracketable(word)
            if not fits:
                flat.differences.append(
                    f"compel takes no {word!r} into brackets, so it loses its weight."
                )
            _space(found)
            _add(found, word, max(weight, 0.0) if fits else 1.0, merges=True)
    return found


# trees


def _flat_tree(flat: Flat) -> Tree:
    """Chunks with breaks between them, sides under AND."""
    if flat.kind == "one":
        return _breaks(flat.sides[0])
    for side in flat.sides[1:]:
        side.chunks[0].insert(0, (" ", 1.0))  # between AND and the first word
    sides = [(_breaks(side), side.weight) for side in flat.sides]
    return (Joined("AND", tuple(sides), normalize=False, span=(0, 0)),)


def _breaks(side: FlatSide) -> Tree:
    nodes: list[Node] = []
    for number, chunk in enumerate(side.chunks):
        nodes += [ChunkBreak((0, 0))] if number else []
        nodes += _nodes(chunk, ":")
    return tuple(nodes)


def _compel_tree(flat: Flat) -> Tree:
    sides = tuple((_nodes(side.chunks[0], "number"), side.weight) for side in flat.sides)
    if flat.kind == "one":
        return sides[0][0]
    kind: Literal["blend", "and"] = "and" if flat.kind == "and" else "blend"
    return (Joined(kind, sides, flat.normalize, (0, 0)),)


def _nodes(run: list[tuple[str, float]], mark: Mark) -> Tree:
    return tuple(
        Text(text) if weight == 1 else Weighted((Text(text),), weight, mark, (0, 0))
        for text, weight in run
    )


@dataclass(frozen=True)
class _Target:
    """How one dialect says what is flat."""

    sides: Callable[[Flat], None]
    run: Callable[[Flat, list[tuple[str, float]]], list[tuple[str, float]]]
    tree: Callable[[Flat], Tree]


_TARGETS: Mapping[Dialect, _Target] = MappingProxyType(
    {
        "plain": _Target(_one_side, _unweighted_run, _flat_tree),
        "a1111": _Target(_sides_of_a1111, _weighted_run, _flat_tree),
        "comfyui": _Target(_one_side, _weighted_run, _flat_tree),
        "compel": _Target(_sides_of_compel, _compel_run, _compel_tree),
    }
)
