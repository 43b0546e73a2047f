"""ComfyUI's dialect: round brackets, whose written weights replace those around them.

Source: `parse_parentheses` and `token_weights` of comfy/sd1_clip.py in ComfyUI. `\\(` and `\\)` are
text. Brackets that do not balance are text up to the end, unless what is left happens to end with
a closing one: then it is a group all the same. Square brackets, BREAK and AND are text.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

from ecliptic.prompts.limits import check_depth, check_weight
from ecliptic.prompts.printing import decimal, foreign
from ecliptic.prompts.reading import Alternative, Line, Segment, Span
from ecliptic.prompts.traced import Traced
from ecliptic.prompts.tree import Node, Text, Tree, Weighted, merged

GROUP = 1.1  # of "(...)"
_ESCAPED = re.compile(r"\\([()])")
_BRACKET = re.compile(r"[()]")
_TEXT_BRACKET = "\0"  # stands for an escaped bracket while brackets are looked for
_KNOWN = ("Text", "Weighted")


def read(text: str) -> Tree:
    """The tree of a prompt.

    Raises:
        TextError: a weight is not finite, or brackets are nested too deeply.
    """
    return _tidy(_read(text))


def write(tree: Tree) -> str:
    """The prompt that reads as `tree`, whose written weights replace those around them.

    Raises:
        ConfigError: a node that ComfyUI has no words for.
    """
    return _written(tree, 1.0)


def spans(text: str) -> list[tuple[str, float]]:
    """Text under its weight; none where the prompt is empty."""
    return [(segment.text, segment.weight) for segment in _segments(_read(text), 1.0)]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """One line at all steps, for negative prompts too."""
    del negative
    line = Line(tuple(_segments(_read(text), 1.0)))
    return (Alternative(1.0, ((steps or 1, line),)),)


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """None: ComfyUI loads them by nodes of its graph."""
    del tree
    return ()


def _read(text: str) -> Tree:
    """The tree with neighbouring texts apart, as ComfyUI tokenizes them."""
    shape, pieces, end = [], [], 0
    for match in _ESCAPED.finditer(text):
        shape += [text[end : match.start()], _TEXT_BRACKET]
        pieces += [*range(end, match.start()), match.start(1)]
        end = match.end()
    pieces += range(end, len(text))
    shape.append(text[end:])
    visible = Traced("".join(text[place] for place in pieces), tuple(pieces))
    tree = _Reader(visible, "".join(shape)).nodes(0, len(pieces), 0)
    for _ in _segments(tree, 1.0):
        pass  # the products of weights are finite
    return tree


def _tidy(tree: Tree) -> Tree:
    inside = (
        replace(node, children=_tidy(node.children)) if isinstance(node, Weighted) else node
        for node in tree
    )
    return merged(inside)


class _Reader:
    """The prompt without its escapes, and its shape: the same with no bracket that is text."""

    def __init__(self, text: Traced, shape: str) -> None:
        self.text = text
        self.shape = shape

    def nodes(self, start: int, end: int, depth: int) -> Tree:
        return tuple(self._node(*piece, depth) for piece in self._pieces(start, end, depth))

    def _pieces(self, start: int, end: int, depth: int) -> Iterator[Span]:
        """Cut where the brackets balance; ComfyUI's level may fall below 0 and rise again."""
        level = deepest = 0
        for match in _BRACKET.finditer(self.shape, start, end):
            place = match.start()
            if match[0] == "(":
                if level == 0 and place > start:
                    yield start, place
                    start = place
                level += 1
                deepest = max(deepest, level)
                continue
            level -= 1
            if level == 0:
                check_depth(depth + deepest, self.text.place(start))
                yield start, place + 1
                start, deepest = place + 1, 0
        if end > start:
            if self._grouped(start, end):
                check_depth(depth + deepest, self.text.place(start))
            yield start, end

    def _grouped(self, start: int, end: int) -> bool:
        return end - start >= 2 and self.shape[start] == "(" and self.shape[end - 1] == ")"

    def _node(self, start: int, end: int, depth: int) -> Node:
        if not self._grouped(start, end):
            piece = self.text[start:end]
            return Text(piece.text, piece.places)
        span = (self.text.place(start), self.text.place(end - 1) + 1)
        number = _trailing(self.shape, start + 1, end - 1)
        if number is None:
            return Weighted(self.nodes(start + 1, end - 1, depth + 1), GROUP, "(", span)
        colon, weight = number
        check_weight(weight, self.shape[colon + 1 : end - 1], self.text.place(colon))
        return Weighted(self.nodes(start + 1, colon, depth + 1), weight, ":", span)


def _trailing(shape: str, start: int, end: int) -> tuple[int, float] | None:
    """The last colon of a group and the number behind it, if it is one and has words before."""
    colon = shape.rfind(":", start, end)
    if colon <= start:
        return None
    try:
        return colon, float(shape[colon + 1 : end])
    except ValueError:
        return None


def _segments(tree: Tree, weight: float) -> Iterator[Segment]:
    for node in tree:
        if isinstance(node, Text):
            yield Segment(node.text, weight, node.origin)
        elif isinstance(node, Weighted):
            inner = weight * GROUP if node.mark == "(" else node.weight
            check_weight(inner, str(inner), node.span[0])
            yield from _segments(node.children, inner)


def _written(tree: Tree, weight: float) -> str:
    nodes = merged(tree)
    written = []
    for node, after in zip_longest(nodes, nodes[1:]):
        if isinstance(node, Text):
            text = _BRACKET.sub(r"\\\g<0>", node.text)
            alone = text.endswith("\\") and after is not None  # it would escape the next bracket
            written.append(f"({text}:{decimal(weight)})" if alone else text)
        elif isinstance(node, Weighted):
            written.append(_group(node, weight))
        else:
            raise foreign(node, "comfyui", _KNOWN)
    return "".join(written)


def _group(node: Weighted, outer: float) -> str:
    plain = node.mark == "(" and node.weight == GROUP
    weight = outer * GROUP if plain else node.weight
    text = _written(node.children, weight)
    shape = _ESCAPED.sub(_TEXT_BRACKET, text)
    misread = text.endswith("\\") or _trailing(shape, 0, len(shape)) is not None
    if not text or (plain and not misread):
        return f"({text})"
    return f"({text}:{decimal(weight)})"
