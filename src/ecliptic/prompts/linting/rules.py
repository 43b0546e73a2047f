"""What the linter says about the syntax of prompts: one row a rule, and the rules of the tree.

Each rule is a small function from a `Written` prompt to places and messages; a new rule is a new
row of `RULES`. Rules that look for the syntax of other tools are in `foreign_syntax.py`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ecliptic.inputs import Finding, Severity, Tokenizer
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.linting.foreign_syntax import FOREIGN, Foreign
from ecliptic.prompts.reading import Span
from ecliptic.prompts.tree import (
    ChunkBreak,
    Joined,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    branches,
    walk,
)

# A rule of thumb: 1.8 is six pairs of A1111's brackets; far outside, words drown all others or
# vanish, and vectors leave the lengths that diffusion models were trained on.
LEAST, MOST = 0.2, 1.8

_BRACKETS = {"a1111": "()[]", "comfyui": "()", "compel": "()"}
_UNBALANCED = {
    "a1111": "an opening one weighs everything up to the end, a closing one is text",
    "comfyui": "it and what follows is read as text",
    "compel": "the words around it are read as text, weights and all",
}


@dataclass(frozen=True)
class Written:
    """A prompt, its tree and whose tokenizer reads it."""

    text: str
    dialect: Dialect
    tree: Tree
    tokenizer: Tokenizer

    def quote(self, span: Span) -> str:
        """The characters of `span` for a message, shortened."""
        text = self.text[slice(*span)]
        return repr(text if len(text) <= 60 else f"{text[:60]}...")


Remark = tuple[Span, str]
Rule = Callable[[Written], Iterator[Remark]]


@dataclass(frozen=True)
class SyntaxRule:
    """One rule, and where it applies."""

    code: str
    severity: Severity
    dialects: tuple[Dialect, ...]
    rule: Rule


def remarks(written: Written) -> list[Finding]:
    """The findings of every rule for the dialect."""
    return [
        Finding(rule.code, message, span, rule.severity)
        for rule in RULES
        if written.dialect in rule.dialects
        for span, message in rule.rule(written)
    ]


def _unbalanced(written: Written) -> Iterator[Remark]:
    for place in _alone(written.text, _BRACKETS[written.dialect]):
        what = _UNBALANCED[written.dialect]
        message = (
            f"the bracket {written.text[place]!r} has no partner: {what}; close or remove it, or "
            "write a backslash before it."
        )
        yield (place, place + 1), message


def _alone(text: str, brackets: str) -> list[int]:
    """Places of brackets without a partner of their own kind; escaped ones are text."""
    opened: dict[str, list[int]] = {opener: [] for opener in brackets[::2]}
    alone: list[int] = []
    for match in re.finditer(r"\\.|[()\[\]]", text, re.DOTALL):
        kind = brackets.find(match.group())
        if kind < 0:
            continue
        stack = opened[brackets[kind - kind % 2]]
        if kind % 2 == 0:
            stack.append(match.start())
        elif stack:
            stack.pop()
        else:
            alone.append(match.start())
    return sorted(alone + [place for stack in opened.values() for place in stack])


def _idle(written: Written) -> Iterator[Remark]:
    for node in walk(written.tree):
        if not isinstance(node, Weighted):
            continue
        if not _has_text(node.children):
            yield node.span, f"{written.quote(node.span)} weighs no words; remove it."
        elif node.weight == 1 and not _resets(written, node):
            yield (
                node.span,
                f"{written.quote(node.span)} has weight 1, which changes nothing; remove the "
                "brackets.",
            )


def _resets(written: Written, node: Weighted) -> bool:
    """In ComfyUI a nested weight of 1 undoes the one around it."""
    nested = written.dialect == "comfyui" and node.mark == ":"
    return nested and any(inner is node for inner, _ in _nested(written.tree))


def _extreme(written: Written) -> Iterator[Remark]:
    for node, weight in _final(written.tree, written.dialect, 1.0):
        if weight < 0:
            continue
        if not LEAST <= weight <= MOST and _text_inside(node):
            yield (
                node.span,
                f"{written.quote(node.span)} ends up with weight {weight:.4g}, outside "
                f"{LEAST} to {MOST}, where images tend to break; use a milder weight.",
            )


def _negative(written: Written) -> Iterator[Remark]:
    for node, weight in _final(written.tree, written.dialect, 1.0):
        if weight < 0 and _text_inside(node):
            yield (
                node.span,
                f"{written.quote(node.span)} ends up with weight {weight:.4g}; tools treat weights "
                "below 0 differently and badly, so put the words into the negative prompt.",
            )


def _final(tree: Tree, dialect: Dialect, scale: float) -> Iterator[tuple[Weighted, float]]:
    """Every group with the weight that its words end up with."""
    for node in tree:
        weight = scale
        if isinstance(node, Weighted):
            replaces = dialect == "comfyui" and node.mark == ":"
            weight = node.weight if replaces else scale * node.weight
            yield node, weight
        for inside in branches(node):
            yield from _final(inside, dialect, weight)


def _text_inside(node: Weighted) -> bool:
    return any(isinstance(child, Text) and child.text.strip() for child in node.children)


def _has_text(tree: Tree) -> bool:
    return any(not isinstance(node, Text | Weighted) or _text(node) for node in walk(tree))


def _text(node: Node) -> bool:
    return isinstance(node, Text) and bool(node.text.strip())


def _break_inside(written: Written) -> Iterator[Remark]:
    for node in walk(written.tree):
        for child in node.children if isinstance(node, Weighted) else ():
            if isinstance(child, ChunkBreak):
                yield (
                    child.span,
                    "BREAK inside brackets breaks nothing: it is encoded as the word BREAK with a "
                    "negative weight; close the brackets before it.",
                )


def _never(written: Written) -> Iterator[Remark]:
    for node in walk(written.tree):
        if not isinstance(node, Scheduled) or not node.fraction or node.when < 1:
            continue
        quoted = written.quote(node.span)
        if node.before:
            yield node.span, f"{quoted} never changes, since {node.when:g} of the steps is the end."
        else:
            yield (
                node.span,
                f"{quoted} is a schedule that never starts, so its words are never read; for a "
                f"weight write round brackets: (...:{node.when:g}).",
            )


def _whole_step(written: Written) -> Iterator[Remark]:
    for node in walk(written.tree):
        if isinstance(node, Scheduled) and not node.fraction and node.when >= 1:
            yield (
                node.span,
                f"{written.quote(node.span)} changes after step {node.when:g}, if there are as "
                "many; a fraction such as 0.5 holds for any number of steps.",
            )


def _replaced(written: Written) -> Iterator[Remark]:
    for node, outer in _nested(written.tree):
        if node.mark == ":":
            yield (
                node.span,
                f"the weight {node.weight:g} of {written.quote(node.span)} replaces the "
                f"{outer:g} around it and is not multiplied by it; write the product if you "
                "mean that.",
            )


def _nested(tree: Tree, outer: float | None = None) -> Iterator[tuple[Weighted, float]]:
    """Groups inside a group, with the weight of that one."""
    for node in tree:
        own = outer
        if isinstance(node, Weighted):
            if outer is not None:
                yield node, outer
            own = node.weight
        for inside in branches(node):
            yield from _nested(inside, own)


def _merged(written: Written) -> Iterator[Remark]:
    for tree in _trees(written.tree):
        for first, second in pairwise(tree):
            if isinstance(first, Weighted) and isinstance(second, Weighted):
                pair = (_edge(first, -1), _edge(second, 0))
                if first.weight == second.weight and all(map(str.isalpha, pair)):
                    span = (first.span[0], second.span[1])
                    yield (
                        span,
                        f"the groups of {written.quote(span)} have the same weight and no space "
                        "between them, so their words merge into one; put a space between them.",
                    )


def _trees(tree: Tree) -> Iterator[Tree]:
    yield tree
    for node in walk(tree):
        yield from branches(node)


def _edge(node: Weighted, index: int) -> str:
    child = node.children[index] if node.children else None
    return child.text[index] if isinstance(child, Text) and child.text else ""


def _dropped(written: Written) -> Iterator[Remark]:
    joined = written.tree[0] if written.tree else None
    end = len(written.text.rstrip())
    if isinstance(joined, Joined) and joined.kind == "and" and joined.span[1] < end:
        span = (joined.span[1], end)
        yield span, f"compel drops what follows .and(), here {written.quote(span)}; remove it."


def _exclamation(written: Written) -> Iterator[Remark]:
    place = written.text.find("!")
    if written.tokenizer.spec.pad == 0 and place >= 0:
        yield (
            (place, place + 1),
            'padding is id 0 here, the "!", as in SD 2 and the second encoder of SDXL, where '
            'diffusers reads every "!" of a prompt as padding and other tools read a word; leave '
            "it out to get the same image from all.",
        )


def _foreign(syntax: Foreign) -> Rule:
    def rule(written: Written) -> Iterator[Remark]:
        for match in syntax.pattern.finditer(written.text):
            yield match.span(), syntax.message.format(written.quote(match.span()))

    return rule


_SYNTAX: tuple[Dialect, ...] = ("a1111", "comfyui", "compel")
RULES: tuple[SyntaxRule, ...] = (
    SyntaxRule("unbalanced-bracket", "warning", _SYNTAX, _unbalanced),
    SyntaxRule("idle-weight", "hint", _SYNTAX, _idle),
    SyntaxRule("extreme-weight", "warning", _SYNTAX, _extreme),
    SyntaxRule("negative-weight", "warning", _SYNTAX, _negative),
    SyntaxRule("break-in-brackets", "warning", ("a1111",), _break_inside),
    SyntaxRule("schedule-never-changes", "warning", ("a1111",), _never),
    SyntaxRule("schedule-in-steps", "hint", ("a1111",), _whole_step),
    SyntaxRule("replaced-weight", "hint", ("comfyui",), _replaced),
    SyntaxRule("merged-words", "warning", ("a1111",), _merged),
    SyntaxRule("dropped-text", "error", ("compel",), _dropped),
    SyntaxRule("padding-character", "hint", _SYNTAX, _exclamation),
    *(SyntaxRule(one.code, "warning", one.dialects, _foreign(one)) for one in FOREIGN),
)
