r"""compel's dialect printed back: escapes, weights and calls.

Inside brackets compel's grammar takes no bare `=`, nor a `+` or `-` before a space or a symbol;
such a sign is written with a backslash, which compel keeps as text. Only trees of other dialects
have them there.
"""

import re

from ecliptic.errors import ConfigError, TextError
from ecliptic.prompts.compel.characters import BLANK, characters_of
from ecliptic.prompts.compel.parsing import CompelGrammar
from ecliptic.prompts.printing import decimal, foreign
from ecliptic.prompts.tree import Joined, LoraUse, Node, Swap, Text, Tree, Weighted

KNOWN = ("Text", "Weighted", "Swap", "LoraUse", "Joined by .blend or .and")
_BASES = {"+": 1.1, "-": 0.9}
_SIMPLE = re.compile(rf"""[^{BLANK}()",.+\-=\\]+""")  # a word that needs no brackets
_TARGET = re.compile(rf"""(?:\\[()",.+\-=]|[-+](?![{BLANK}()",.+\-=]|\Z)|[^{BLANK}()",.+\-=])+""")
_WHOLE_WORD = re.compile(rf"(?:{_TARGET.pattern}|[,.](?![,.+\-]))*")
_LONE_SIGN = re.compile(
    rf"""(\\[()",.+\-=])|(=|[-+](?=[{BLANK}()",.+\-=]|\Z))"""
)  # an escape, or a sign that brackets do not take


def written(tree: Tree) -> str:
    """`tree` as a prompt of compel; ConfigError for nodes that compel does not have.

    Brackets in the text are escaped unless that changes what signs behind them mean.
    """
    texts = [_spaced([_top(node, len(tree) == 1, safe) for node in tree]) for safe in (True, False)]
    return next((text for text in texts if _reads_as(text, tree)), texts[0])


def bracketable(word: str) -> bool:
    """Whether brackets can hold `word` as it is, its marks not pulled apart."""
    return bool(_WHOLE_WORD.fullmatch(_escaped(word)))


def _reads_as(text: str, tree: Tree) -> bool:
    try:
        return _shape(CompelGrammar(characters_of(text)).whole()) == _shape(tree)
    except TextError:
        return False


def _shape(tree: Tree) -> list[object]:
    """What is compared: nodes without places, texts without white space."""
    shape: list[object] = []
    for node in tree:
        if isinstance(node, Text):
            shape += re.findall(rf"[^{BLANK}]+", node.text)
        elif isinstance(node, Weighted):
            shape.append((node.weight, _shape(node.children)))
        elif isinstance(node, Swap):
            shape.append((_shape(node.before), _shape(node.after), node.options))
        elif isinstance(node, LoraUse):
            shape.append((node.name, node.weight))
        elif isinstance(node, Joined):
            shape.append([(_shape(part), weight) for part, weight in node.parts])
    return shape


def _top(node: Node, alone: bool, safe: bool) -> str:
    if isinstance(node, Text):
        found = re.findall(rf"[^{BLANK}]+", node.text)
        words = [_free_word(word) for word in found] if safe else found
        return " ".join(words) if words or not alone else '""'
    return _joined(node) if isinstance(node, Joined) else _call(node)


def _free_word(word: str) -> str:
    """A word outside brackets; a space keeps signs from being a weight of what is before them."""
    rest, pieces = _escaped(word), []
    while (head := _TARGET.match(rest)) and rest[head.end() : head.end() + 1] in ("+", "-"):
        pieces.append(head.group())
        rest = rest[head.end() :]
    return " ".join([*pieces, rest])


def _escaped(text: str) -> str:
    return re.sub(r'([()"])', r"\\\1", text)


def _call(node: Node) -> str:
    """A node that reads the same inside and outside of brackets."""
    if isinstance(node, Weighted):
        return _weighted(node)
    if isinstance(node, LoraUse):
        weight = "" if node.weight == 1 else f", {decimal(node.weight)}"
        return f"withLora({node.name}{weight})"
    if isinstance(node, Swap):
        options = "".join(f", {name}={decimal(value)}" for name, value in node.options)
        return f"{_target(node.before)}.swap({_target(node.after)}{options})"
    raise foreign(node, "compel", KNOWN)


def _weighted(node: Weighted) -> str:
    sign = node.mark if node.mark in _BASES else ""
    count = next((n for n in range(1, 9) if sign and _BASES[sign] ** n == node.weight), 0)
    if count:
        simple = _simple(node.children)
        return (simple or _group(node.children)) + sign * count
    if node.weight < 0:
        raise ConfigError(
            f"compel has no weight below 0, here {decimal(node.weight)}; use 0 or a small one, or "
            "put the words into the negative prompt."
        )
    return _group(node.children) + decimal(node.weight)


def _simple(tree: Tree) -> str | None:
    if len(tree) == 1 and isinstance(tree[0], Text) and _SIMPLE.fullmatch(tree[0].text):
        return tree[0].text
    return None


def _target(tree: Tree) -> str:
    return _simple(tree) or _group(tree)


def _group(tree: Tree) -> str:
    pieces = [_inner(node) if isinstance(node, Text) else _call(node) for node in tree]
    return f"({_closable(_spaced(pieces))})"


def _inner(node: Text) -> str:
    words = re.findall(rf"[^{BLANK}]+", node.text)
    return " ".join(_bracketed_word(word) for word in words)


def _bracketed_word(word: str) -> str:
    return _LONE_SIGN.sub(lambda found: found[1] or f"\\{found[2]}", _escaped(word))


def _joined(node: Joined) -> str:
    if node.kind == "AND":
        raise foreign(node, "compel", KNOWN)
    items = ", ".join(_item(part) for part, _ in node.parts)
    weights = [decimal(weight) for _, weight in node.parts]
    if all(weight == 1 for _, weight in node.parts):
        weights = []
    if not node.normalize:
        weights.append("no_normalize")
    return f"({items}).{node.kind}({', '.join(weights)})"


def _item(tree: Tree) -> str:
    inside = _spaced([_top(node, alone=False, safe=True) for node in tree])
    return f'"{_closable(inside)}"' if inside or tree else "()"


def _closable(inside: str) -> str:
    """A backslash at the end would escape the bracket or quote that closes."""
    return f"{inside} " if inside.endswith("\\") else inside


def _spaced(pieces: list[str]) -> str:
    return " ".join(piece for piece in pieces if piece)
