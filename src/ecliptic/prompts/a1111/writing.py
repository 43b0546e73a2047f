"""A1111's prompts written from their tree, so that reading them gives the tree again.

The attention stage drops a backslash before any character that is no bracket, and the schedule
stage takes it along with what follows; so a backslash keeps BREAK, AND, colons and numbers text.
"""

import re

from ecliptic.prompts.a1111.attention import BREAK, ROUND, SQUARE
from ecliptic.prompts.printing import decimal, foreign, pointed
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    merged,
)

_KNOWN = ("Text", "Weighted", "ChunkBreak", "Scheduled", "Alternating", "Joined by AND")
_KEYWORD = re.compile(r"\b(AND|BREAK)\b")
_SPECIAL = re.compile(r"[\\()\[\]|]")
_SPECIAL_INSIDE = re.compile(r"[\\()\[\]|:]")
_NUMBER_AT_END = re.compile(r"(:\s*)(?=[+-]?[.\d]+\s*\Z)")


def write(tree: Tree) -> str:
    """The prompt that reads as `tree`.

    Raises:
        ConfigError: a node that A1111 has no words for.
    """
    if len(tree) == 1 and isinstance(tree[0], Joined):
        return _sides(tree[0])
    return _side(tree)


def _sides(node: Joined) -> str:
    if node.kind != "AND":
        raise foreign(node, "a1111", _KNOWN)
    written: list[str] = []
    for children, weight in node.parts:
        text = _side(children)
        if weight != 1.0 or len(node.parts) == 1:
            text = f"{_outside(children)}:{decimal(weight)}"
        lead = "\\" if written and re.match(r"\w", text) else ""
        written.append(lead + text)
    return " AND".join(written)


def _outside(tree: Tree) -> str:
    """A whole side; the spaces of a BREAK are not needed at its ends."""
    nodes = merged(tree)
    text = _nodes(nodes, inside=False, branch=False)
    if nodes and isinstance(nodes[0], ChunkBreak):
        text = text.removeprefix(" ")
    return text.removesuffix(" ") if nodes and isinstance(nodes[-1], ChunkBreak) else text


def _side(tree: Tree) -> str:
    """A whole side without a weight, which must not end as if it had one."""
    return _literal_number(_outside(tree))


def _literal_number(text: str) -> str:
    return _NUMBER_AT_END.sub(r"\1\\", text)


def _nodes(tree: Tree, *, inside: bool, branch: bool) -> str:
    """Neighbours, one after the other.

    Args:
        tree: the nodes.
        inside: of a bracket whose colons and bars mean something.
        branch: the first and last of them touch the border of a schedule.
    """
    nodes = (None, *merged(tree), None)
    written = []
    for before, node, after in zip(nodes, nodes[1:], nodes[2:], strict=False):
        if isinstance(node, Text):
            written.append(_text(node.text, before, after, inside=inside, branch=branch))
        elif isinstance(node, ChunkBreak):
            written.append(f"{_space(before, branch)}{BREAK}{_space(after, branch)}")
        elif node is not None:
            written.append(_node(node, inside))
    return "".join(written)


def _node(node: Node, inside: bool) -> str:
    if isinstance(node, Weighted):
        return _weighted(node, inside)
    if isinstance(node, Alternating):
        options = (_nodes(option, inside=True, branch=True) for option in node.options)
        return f"[{'|'.join(options)}]"
    if isinstance(node, Scheduled):
        when = pointed(node.when) if node.fraction else decimal(node.when)
        before = _nodes(node.before, inside=True, branch=True)
        after = _nodes(node.after, inside=True, branch=True)
        return f"[{before}:{after}:{when}]" if node.before else f"[{after}:{when}]"
    raise foreign(node, "a1111", _KNOWN)


def _weighted(node: Weighted, inside: bool) -> str:
    if node.mark == "[" and node.weight == SQUARE:
        return f"[{_nodes(node.children, inside=True, branch=False)}]"
    text = _nodes(node.children, inside=inside, branch=False)
    if node.mark == "(" and node.weight == ROUND:
        return f"({_literal_number(text)})"
    return f"({text}:{decimal(node.weight)})"


def _space(neighbour: Node | None, branch: bool) -> str:
    """What parts BREAK from its neighbour, unless that is a schedule or white space already."""
    space = isinstance(neighbour, Text) and neighbour.text.isspace()
    return "" if space or _touches(neighbour, branch) else " "


def _text(text: str, before: Node | None, after: Node | None, *, inside: bool, branch: bool) -> str:
    special = _SPECIAL_INSIDE if inside else _SPECIAL
    parts = _KEYWORD.split(text)
    parts[1::2] = [f"{word[0]}\\{word[1:]}" for word in parts[1::2]]
    parts[::2] = [special.sub(r"\\\g<0>", part) for part in parts[::2]]
    written = "".join(parts)
    if text.isspace() and (_touches(before, branch) or _touches(after, branch)):
        return written
    if isinstance(before, ChunkBreak) and text[0].isspace():
        written = f"\\{written}"  # else BREAK would take the space along
    if isinstance(after, ChunkBreak) and text[-1].isspace():
        written = f"{written}\\"
    return written


def _touches(neighbour: Node | None, branch: bool) -> bool:
    return isinstance(neighbour, Scheduled | Alternating) or (neighbour is None and branch)
