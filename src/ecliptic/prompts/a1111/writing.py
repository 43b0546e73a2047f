"""Writes A1111's prompts from their tree, so that reading them gives the same tree.

The attention stage drops a backslash before any character except brackets, and the schedule stage
reads it with the next character; so a backslash keeps BREAK, AND, colons and numbers as text.
"""

import re

from ecliptic.prompts.a1111.attention import BREAK, ROUND, SQUARE
from ecliptic.prompts.a1111.networks import escape_tags, write_network
from ecliptic.prompts.printing import node_error, write_decimal, write_with_point
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    Network,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    merge,
    networks,
)

_KNOWN = ("Text", "Weighted", "ChunkBreak", "Scheduled", "Alternating", "Joined by AND")
_KEYWORD = re.compile(r"\b(AND|BREAK)\b")
_SPECIAL = re.compile(r"[\\()\[\]|]")
_SPECIAL_INSIDE = re.compile(r"[\\()\[\]|:]")
_NUMBER_AT_END = re.compile(r"(:\s*)(?=[+-]?[.\d]+\s*\Z)")


def write(tree: Tree) -> str:
    """Write the prompt that reads as `tree`.

    Raises:
        ConfigError: A1111 cannot express a node.
    """
    tags = "".join(write_network(node) for node in networks(tree))
    words = tuple(node for node in tree if not isinstance(node, Network))
    if len(words) == 1 and isinstance(words[0], Joined):
        text = _write_sides(words[0])
    else:
        text = _escape_number(_write_side(words))
    return escape_tags(text, tags) + tags


def _write_sides(node: Joined) -> str:
    if node.kind != "AND":
        raise node_error(node, "a1111", _KNOWN)
    written: list[str] = []
    for children, weight in node.parts:
        text, bare = _write_side(children), weight == 1.0 and len(node.parts) > 1
        text = _escape_number(text) if bare else f"{text}:{write_decimal(weight)}"
        lead = "\\" if written and re.match(r"\w", text) else ""
        written.append(lead + text)
    return " AND".join(written)


def _write_side(tree: Tree) -> str:
    """Write a whole side without its weight; a BREAK needs no space at its ends."""
    nodes = merge(tree)
    text = _write_nodes(nodes, inside=False, branch=False)
    if nodes and isinstance(nodes[0], ChunkBreak):
        text = text.removeprefix(" ")
    return text.removesuffix(" ") if nodes and isinstance(nodes[-1], ChunkBreak) else text


def _escape_number(text: str) -> str:
    """Escape a number at the end that would read as a weight."""
    return _NUMBER_AT_END.sub(r"\1\\", text)


def _write_nodes(tree: Tree, *, inside: bool, branch: bool) -> str:
    """Write neighbours one after the other.

    Args:
        tree: the nodes.
        inside: they are inside a bracket where colons and bars are syntax.
        branch: the first and last of them are at the border of a schedule.
    """
    nodes = (None, *merge(tree), None)
    written = []
    for before, node, after in zip(nodes, nodes[1:], nodes[2:], strict=False):
        if isinstance(node, Text):
            written.append(_write_text(node.text, before, after, inside=inside, branch=branch))
        elif isinstance(node, ChunkBreak):
            written.append(f"{_space_beside(before, branch)}{BREAK}{_space_beside(after, branch)}")
        elif node is not None:
            written.append(_write_node(node, inside))
    return "".join(written)


def _write_node(node: Node, inside: bool) -> str:
    if isinstance(node, Weighted):
        return _write_weighted(node, inside)
    if isinstance(node, Alternating):
        options = (_write_nodes(option, inside=True, branch=True) for option in node.options)
        return f"[{'|'.join(options)}]"
    if isinstance(node, Scheduled):
        when = write_with_point(node.when) if node.fraction else write_decimal(node.when)
        before = _write_nodes(node.before, inside=True, branch=True)
        after = _write_nodes(node.after, inside=True, branch=True)
        return f"[{before}:{after}:{when}]" if node.before else f"[{after}:{when}]"
    raise node_error(node, "a1111", _KNOWN)


def _write_weighted(node: Weighted, inside: bool) -> str:
    if node.mark == "[" and node.weight == SQUARE:
        return f"[{_write_nodes(node.children, inside=True, branch=False)}]"
    text = _write_nodes(node.children, inside=inside, branch=False)
    if node.mark == "(" and node.weight == ROUND:
        return f"({_escape_number(text)})"
    return f"({text}:{write_decimal(node.weight)})"


def _space_beside(neighbour: Node | None, branch: bool) -> str:
    """The space between BREAK and its neighbour; none if that is a schedule or white space."""
    space = isinstance(neighbour, Text) and neighbour.text.isspace()
    return "" if space or _touches(neighbour, branch) else " "


def _write_text(
    text: str, before: Node | None, after: Node | None, *, inside: bool, branch: bool
) -> str:
    special = _SPECIAL_INSIDE if inside else _SPECIAL
    parts = _KEYWORD.split(text)
    parts[1::2] = [f"{word[0]}\\{word[1:]}" for word in parts[1::2]]
    parts[::2] = [special.sub(r"\\\g<0>", part) for part in parts[::2]]
    written = "".join(parts)
    if text.isspace() and (_touches(before, branch) or _touches(after, branch)):
        return written
    if isinstance(before, ChunkBreak) and text[0].isspace():
        written = f"\\{written}"  # else the space would belong to BREAK
    if isinstance(after, ChunkBreak) and text[-1].isspace():
        written = f"{written}\\"
    return written


def _touches(neighbour: Node | None, branch: bool) -> bool:
    return isinstance(neighbour, Scheduled | Alternating) or (neighbour is None and branch)
