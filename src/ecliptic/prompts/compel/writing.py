r"""Writes compel's prompts: escapes, weights and calls.

Inside brackets, compel's grammar accepts no bare `=`, and no `+` or `-` before a space or a symbol.
Such a sign is written with a backslash, which compel keeps as text. Only trees of other dialects
have such signs in brackets.
"""

import re

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.compel.characters import BLANK, NOT_BLANK, characters_of
from ecliptic.prompts.compel.parsing import BASES, WORD, CompelGrammar
from ecliptic.prompts.printing import node_error, write_decimal
from ecliptic.prompts.tree import Joined, LoraUse, Node, Swap, Text, Tree, Weighted

KNOWN = ("Text", "Weighted", "Swap", "LoraUse", "Joined by .blend or .and")
_SIMPLE = re.compile(rf"""[^{BLANK}()",.+\-=\\]+""")  # a word that needs no brackets
_WHOLE_WORD = re.compile(rf"(?:{WORD.pattern}|[,.](?![,.+\-]))*")
_LONE_SIGN = re.compile(
    rf"""(\\[()",.+\-=])|(=|[-+](?=[{BLANK}()",.+\-=]|\Z))"""
)  # an escape, or a sign that is not allowed in brackets


def write(tree: Tree) -> str:
    """Write a prompt that reads as `tree`, except for white space.

    Escapes brackets in the text unless that changes the meaning of signs after them.

    Raises:
        ConfigError: compel cannot express a node, or a weight is below 0.
    """
    texts = [
        _join([_write_top(node, len(tree) == 1, safe) for node in tree]) for safe in (True, False)
    ]
    return next((text for text in texts if _reads_as(text, tree)), texts[0])


def fits_brackets(word: str) -> bool:
    """Whether compel reads `word` in brackets as one word."""
    return bool(_WHOLE_WORD.fullmatch(_escape(word)))


def _reads_as(text: str, tree: Tree) -> bool:
    try:
        return _shape(CompelGrammar(characters_of(text)).read()) == _shape(tree)
    except TextError:
        return False


def _shape(tree: Tree) -> list[object]:
    """Nodes without places, and texts without white space, for a comparison."""
    shape: list[object] = []
    for node in tree:
        if isinstance(node, Text):
            shape += NOT_BLANK.findall(node.text)
        elif isinstance(node, Weighted):
            shape.append((node.weight, _shape(node.children)))
        elif isinstance(node, Swap):
            shape.append((_shape(node.before), _shape(node.after), node.options))
        elif isinstance(node, LoraUse):
            shape.append((node.name, node.weight))
        elif isinstance(node, Joined):
            shape.append([(_shape(part), weight) for part, weight in node.parts])
    return shape


def _write_top(node: Node, alone: bool, safe: bool) -> str:
    if isinstance(node, Text):
        found = NOT_BLANK.findall(node.text)
        words = [_separate_signs(word) for word in found] if safe else found
        return " ".join(words) if words or not alone else '""'
    return _write_joined(node) if isinstance(node, Joined) else _write_node(node)


def _separate_signs(word: str) -> str:
    """Put a space before signs, outside brackets, that would read as a weight."""
    rest, pieces = _escape(word), []
    while (head := WORD.match(rest)) and rest[head.end() : head.end() + 1] in ("+", "-"):
        pieces.append(head.group())
        rest = rest[head.end() :]
    return " ".join([*pieces, rest])


def _escape(text: str) -> str:
    return re.sub(r'([()"])', r"\\\1", text)


def _write_node(node: Node) -> str:
    """Write a node that reads the same inside and outside of brackets."""
    if isinstance(node, Weighted):
        return _write_weighted(node)
    if isinstance(node, LoraUse):
        weight = "" if node.weight == 1 else f", {write_decimal(node.weight)}"
        return f"withLora({node.name}{weight})"
    if isinstance(node, Swap):
        options = "".join(f", {name}={write_decimal(value)}" for name, value in node.options)
        return f"{_write_target(node.before)}.swap({_write_target(node.after)}{options})"
    raise node_error(node, "compel", KNOWN)


def _write_weighted(node: Weighted) -> str:
    base = BASES.get(node.mark)
    count = next((n for n in range(1, 9) if base and base**n == node.weight), 0)
    if count:
        return _write_target(node.children) + node.mark * count
    if node.weight < 0:
        raise ConfigError(
            f"compel has no weight below 0, got {write_decimal(node.weight)}; use 0 or a small "
            "weight, or put the words into the negative prompt."
        )
    return _write_group(node.children) + write_decimal(node.weight)


def _write_target(tree: Tree) -> str:
    if len(tree) == 1 and isinstance(tree[0], Text) and _SIMPLE.fullmatch(tree[0].text):
        return tree[0].text
    return _write_group(tree)


def _write_group(tree: Tree) -> str:
    pieces = [_write_inner(node) if isinstance(node, Text) else _write_node(node) for node in tree]
    return f"({_protect_end(_join(pieces))})"


def _write_inner(node: Text) -> str:
    text = _escape(" ".join(NOT_BLANK.findall(node.text)))
    return _LONE_SIGN.sub(lambda found: found[1] or f"\\{found[2]}", text)


def _write_joined(node: Joined) -> str:
    if node.kind == "AND":
        raise node_error(node, "compel", KNOWN)
    items = ", ".join(_write_item(part) for part, _ in node.parts)
    plain = all(weight == 1 for _, weight in node.parts)
    weights = [] if plain else [write_decimal(weight) for _, weight in node.parts]
    if not node.normalize:
        weights.append("no_normalize")
    return f"({items}).{node.kind}({', '.join(weights)})"


def _write_item(tree: Tree) -> str:
    inside = _join([_write_top(node, alone=False, safe=True) for node in tree])
    return f'"{_protect_end(inside)}"' if inside or tree else "()"


def _protect_end(inside: str) -> str:
    """Add a space after a final backslash, which would escape the closing bracket or quote."""
    return f"{inside} " if inside.endswith("\\") else inside


def _join(pieces: list[str]) -> str:
    return " ".join(piece for piece in pieces if piece)
