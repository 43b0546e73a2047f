"""ComfyUI's dialect: round brackets; a written weight replaces the weight around it.

Source: `parse_parentheses` and `token_weights` of comfy/sd1_clip.py in ComfyUI. `\\(` and `\\)` are
text. A prompt is text from an unbalanced bracket to the end, unless it ends with a closing bracket:
then that part is a group. Square brackets, BREAK and AND are text.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

from ecliptic.prompts.limits import check_depth, check_weight
from ecliptic.prompts.printing import node_error, write_decimal
from ecliptic.prompts.reading import Alternative, Line, Segment, Span
from ecliptic.prompts.traced import Traced
from ecliptic.prompts.tree import Node, Text, Tree, Weighted, merge

GROUP = 1.1  # of "(...)"
_ESCAPED = re.compile(r"\\([()])")
_BRACKET = re.compile(r"[()]")
_TEXT_BRACKET = "\0"  # replaces an escaped bracket during the search for brackets
_KNOWN = ("Text", "Weighted")


def read(text: str) -> Tree:
    """The tree of a prompt.

    Raises:
        TextError: a weight is not finite, or brackets are nested too deeply.
    """
    return _merge_all(_read(text))


def write(tree: Tree) -> str:
    """Write the prompt that reads as `tree`; written weights replace those around them.

    Raises:
        ConfigError: ComfyUI cannot express a node.
    """
    return _write(tree, 1.0)


def spans(text: str) -> list[tuple[str, float]]:
    """Texts with their weights; none for an empty prompt."""
    return [(segment.text, segment.weight) for segment in _segments(_read(text))]


def readings(text: str, steps: int | None, negative: bool) -> tuple[Alternative, ...]:
    """One line for all steps, for negative prompts too."""
    del negative
    line = Line(tuple(_segments(_read(text))))
    return (Alternative(1.0, ((steps or 1, line),)),)


def _read(text: str) -> Tree:
    """The tree with separate neighbouring texts, as ComfyUI tokenizes them."""
    shape, pieces, end = [], [], 0
    for match in _ESCAPED.finditer(text):
        shape += [text[end : match.start()], _TEXT_BRACKET]
        pieces += [*range(end, match.start()), match.start(1)]
        end = match.end()
    pieces += range(end, len(text))
    shape.append(text[end:])
    visible = Traced("".join(text[place] for place in pieces), tuple(pieces))
    tree = _Reader(visible, "".join(shape)).read(0, len(pieces), 0)
    for _ in _segments(tree):
        pass  # checks that the products of weights are finite
    return tree


def _merge_all(tree: Tree) -> Tree:
    return merge(
        replace(node, children=_merge_all(node.children)) if isinstance(node, Weighted) else node
        for node in tree
    )


class _Reader:
    """Reads the prompt without its escapes; `shape` is the same text without escaped brackets."""

    def __init__(self, text: Traced, shape: str) -> None:
        self.text = text
        self.shape = shape

    def read(self, start: int, end: int, depth: int) -> Tree:
        return tuple(self._read_node(*piece, depth) for piece in self._split(start, end, depth))

    def _split(self, start: int, end: int, depth: int) -> Iterator[Span]:
        """Split where the brackets balance; as in ComfyUI, the level can fall below 0."""
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
            if self._is_group(start, end):
                check_depth(depth + deepest, self.text.place(start))
            yield start, end

    def _is_group(self, start: int, end: int) -> bool:
        return end - start >= 2 and self.shape[start] == "(" and self.shape[end - 1] == ")"

    def _read_node(self, start: int, end: int, depth: int) -> Node:
        if not self._is_group(start, end):
            piece = self.text[start:end]
            return Text(piece.text, piece.places)
        span = (self.text.place(start), self.text.place(end - 1) + 1)
        number = _find_weight(self.shape, start + 1, end - 1)
        if number is None:
            return Weighted(self.read(start + 1, end - 1, depth + 1), GROUP, "(", span)
        colon, weight = number
        check_weight(weight, self.text.place(colon), self.shape[colon + 1 : end - 1])
        return Weighted(self.read(start + 1, colon, depth + 1), weight, ":", span)


def _find_weight(shape: str, start: int, end: int) -> tuple[int, float] | None:
    """The last colon of a group and the number after it; None without a number or words."""
    colon = shape.rfind(":", start, end)
    if colon <= start:
        return None
    try:
        return colon, float(shape[colon + 1 : end])
    except ValueError:
        return None


def _segments(tree: Tree, weight: float = 1.0) -> Iterator[Segment]:
    for node in tree:
        if isinstance(node, Text):
            yield Segment(node.text, weight, node.origin)
        elif isinstance(node, Weighted):
            inner = weight * GROUP if node.mark == "(" else node.weight
            check_weight(inner, node.span[0])
            yield from _segments(node.children, inner)


def _write(tree: Tree, weight: float) -> str:
    nodes = merge(tree)
    written = []
    for node, after in zip_longest(nodes, nodes[1:]):
        if isinstance(node, Text):
            text = _BRACKET.sub(r"\\\g<0>", node.text)
            alone = text.endswith("\\") and after is not None  # it would escape the next bracket
            written.append(f"({text}:{write_decimal(weight)})" if alone else text)
        elif isinstance(node, Weighted):
            written.append(_write_group(node, weight))
        else:
            raise node_error(node, "comfyui", _KNOWN)
    return "".join(written)


def _write_group(node: Weighted, outer: float) -> str:
    plain = node.mark == "(" and node.weight == GROUP
    weight = outer * GROUP if plain else node.weight
    text = _write(node.children, weight)
    shape = _ESCAPED.sub(_TEXT_BRACKET, text)
    misread = text.endswith("\\") or _find_weight(shape, 0, len(shape)) is not None
    if not text or (plain and not misread):
        return f"({text})"
    return f"({text}:{write_decimal(weight)})"
