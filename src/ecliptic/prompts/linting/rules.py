"""The linter's rules for the syntax of prompts, one row of `RULES` per rule.

Each rule is a small function that takes a `LintedPrompt` and yields places and messages; a new rule
is a new row. Patterns for the syntax of other tools are in `foreign_syntax.py`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ecliptic.inputs import Finding, Severity, Tokenizer
from ecliptic.prompts.a1111.alternatives import split_at_and
from ecliptic.prompts.a1111.networks import take_networks
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.linting.foreign_syntax import FOREIGN, Foreign
from ecliptic.prompts.reading import Span
from ecliptic.prompts.traced import Traced
from ecliptic.prompts.tree import (
    ChunkBreak,
    Joined,
    LoraUse,
    Network,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    branches,
    networks,
    walk,
)

# A rule of thumb: 1.8 is six pairs of A1111's brackets. Far outside, words hide all others or have
# no effect, and vectors get lengths that diffusion models have not seen in training.
LEAST, MOST = 0.2, 1.8

_BRACKETS = {"a1111": "()[]", "comfyui": "()", "compel": "()"}
_UNBALANCED = {
    "a1111": "an opening bracket gives a weight to all words up to the end, a closing one is text",
    "comfyui": "it and the rest of the prompt are read as text",
    "compel": "the words around it and their weights are read as text",
}


@dataclass(frozen=True)
class LintedPrompt:
    """A prompt with its tree and the tokenizer that reads it."""

    text: str
    dialect: Dialect
    tree: Tree
    tokenizer: Tokenizer

    def quote(self, span: Span) -> str:
        """Quote the characters of `span` for a message, shortened."""
        text = self.text[slice(*span)]
        return repr(text if len(text) <= 60 else f"{text[:60]}...")


Remark = tuple[Span, str]
RuleCheck = Callable[[LintedPrompt], Iterator[Remark]]


@dataclass(frozen=True)
class SyntaxRule:
    """One rule and its dialects."""

    code: str
    severity: Severity
    dialects: tuple[Dialect, ...]
    rule: RuleCheck


def lint_syntax(prompt: LintedPrompt) -> list[Finding]:
    """The findings of every rule of the dialect."""
    return [
        Finding(rule.code, message, span, rule.severity)
        for rule in RULES
        if prompt.dialect in rule.dialects
        for span, message in rule.rule(prompt)
    ]


def _find_unbalanced(prompt: LintedPrompt) -> Iterator[Remark]:
    for place in _find_unpaired(prompt.text, _BRACKETS[prompt.dialect]):
        what = _UNBALANCED[prompt.dialect]
        message = (
            f"the bracket {prompt.text[place]!r} has no pair: {what}; close or remove it, or "
            "write a backslash before it."
        )
        yield (place, place + 1), message


def _find_unpaired(text: str, brackets: str) -> list[int]:
    """Places of brackets without a partner of the same kind; escaped ones are text."""
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


def _find_idle(prompt: LintedPrompt) -> Iterator[Remark]:
    resets = _find_resets(prompt)
    for node in walk(prompt.tree):
        if not isinstance(node, Weighted):
            continue
        if not _has_text(node.children):
            yield node.span, f"{prompt.quote(node.span)} contains no words; remove it."
        elif node.weight == 1 and id(node) not in resets:
            yield (
                node.span,
                f"{prompt.quote(node.span)} has weight 1, which changes nothing; remove the "
                "brackets.",
            )


def _find_resets(prompt: LintedPrompt) -> set[int]:
    """The `id` of groups whose weight undoes the one around it, as a nested 1 in ComfyUI does."""
    if prompt.dialect != "comfyui":
        return set()
    return {id(inner) for inner, _ in _nested_groups(prompt.tree) if inner.mark == ":"}


def _find_extreme(prompt: LintedPrompt) -> Iterator[Remark]:
    for node, weight in _final_weights(prompt.tree, prompt.dialect):
        if weight >= 0 and not LEAST <= weight <= MOST:
            yield (
                node.span,
                f"{prompt.quote(node.span)} has the final weight {weight:.4g}, outside "
                f"{LEAST} to {MOST}, where images tend to break; use a weight closer to 1.",
            )


def _find_negative(prompt: LintedPrompt) -> Iterator[Remark]:
    for node, weight in _final_weights(prompt.tree, prompt.dialect):
        if weight < 0:
            yield (
                node.span,
                f"{prompt.quote(node.span)} has the final weight {weight:.4g}; tools handle "
                "weights below 0 differently and badly, so put the words into the negative prompt.",
            )


def _final_weights(
    tree: Tree, dialect: Dialect, scale: float = 1.0
) -> Iterator[tuple[Weighted, float]]:
    """Yield every group that has words, with their final weight."""
    for node in tree:
        weight = scale
        if isinstance(node, Weighted):
            replaces = dialect == "comfyui" and node.mark == ":"
            weight = node.weight if replaces else scale * node.weight
            if any(map(_is_text, node.children)):
                yield node, weight
        for inside in branches(node):
            yield from _final_weights(inside, dialect, weight)


def _has_text(tree: Tree) -> bool:
    return any(not isinstance(node, Text | Weighted) or _is_text(node) for node in walk(tree))


def _is_text(node: Node) -> bool:
    """Whether the node is a text with more than white space."""
    return isinstance(node, Text) and bool(node.text.strip())


def _find_breaks(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in walk(prompt.tree):
        for child in node.children if isinstance(node, Weighted) else ():
            if isinstance(child, ChunkBreak):
                yield (
                    child.span,
                    "BREAK inside brackets starts no chunk: it is encoded as the word BREAK with a "
                    "negative weight; close the brackets before it.",
                )


def _find_unchanging(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in walk(prompt.tree):
        if not isinstance(node, Scheduled) or not node.fraction or node.when < 1:
            continue
        quoted = prompt.quote(node.span)
        if node.before:
            yield node.span, f"{quoted} never changes, since {node.when:g} of the steps is the end."
        else:
            yield (
                node.span,
                f"{quoted} is a schedule that never starts, so its words are never read; "
                f"if you mean a weight, write round brackets: (...:{node.when:g}).",
            )


def _find_whole_steps(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in walk(prompt.tree):
        if isinstance(node, Scheduled) and not node.fraction and node.when >= 1:
            yield (
                node.span,
                f"{prompt.quote(node.span)} changes after step {node.when:g}, if there are so "
                "many; a fraction such as 0.5 works with any number of steps.",
            )


def _find_replaced(prompt: LintedPrompt) -> Iterator[Remark]:
    for node, outer in _nested_groups(prompt.tree):
        if node.mark == ":":
            yield (
                node.span,
                f"the weight {node.weight:g} of {prompt.quote(node.span)} replaces the "
                f"{outer:g} around it instead of multiplying it; write the product to get both.",
            )


def _nested_groups(tree: Tree, outer: float | None = None) -> Iterator[tuple[Weighted, float]]:
    """Yield each group inside a group, with the weight of the outer one."""
    for node in tree:
        own = outer
        if isinstance(node, Weighted):
            if outer is not None:
                yield node, outer
            own = node.weight
        for inside in branches(node):
            yield from _nested_groups(inside, own)


def _find_merged(prompt: LintedPrompt) -> Iterator[Remark]:
    for tree in _all_trees(prompt.tree):
        for first, second in pairwise(tree):
            if isinstance(first, Weighted) and isinstance(second, Weighted):
                pair = (_edge_character(first, -1), _edge_character(second, 0))
                if first.weight == second.weight and all(map(str.isalpha, pair)):
                    span = (first.span[0], second.span[1])
                    yield (
                        span,
                        f"the groups of {prompt.quote(span)} have the same weight and no space "
                        "between them, so their words merge into one; put a space between them.",
                    )


def _all_trees(tree: Tree) -> Iterator[Tree]:
    yield tree
    for node in walk(tree):
        yield from branches(node)


def _edge_character(node: Weighted, index: int) -> str:
    child = node.children[index] if node.children else None
    return child.text[index] if isinstance(child, Text) and child.text else ""


def _find_dropped(prompt: LintedPrompt) -> Iterator[Remark]:
    joined = prompt.tree[0] if prompt.tree else None
    end = len(prompt.text.rstrip())
    if isinstance(joined, Joined) and joined.kind == "and" and joined.span[1] < end:
        span = (joined.span[1], end)
        yield span, f"compel drops the text after .and(), here {prompt.quote(span)}; remove it."


def _find_trailing_weight(prompt: LintedPrompt) -> Iterator[Remark]:
    parts = split_at_and(take_networks(Traced.whole(prompt.text))[0])
    span = parts[0].weight_span
    if len(parts) == 1 and span is not None:
        number = prompt.text[span[0] + 1 : span[1]].strip()
        yield (
            span,
            f"{prompt.quote(span)} at the end is not encoded: A1111 reads it as the weight of the "
            f"whole prompt, even without AND; for words, write ':\\{number}' or add a comma.",
        )


def _find_unknown_networks(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in networks(prompt.tree):
        if not node.is_lora and node.kind != "hypernet":
            yield (
                node.span,
                f"A1111 takes {prompt.quote(node.span)} out of the text, but has no networks of "
                f"the kind {node.kind!r}; write lora or hypernet, or for words '<\\{node.kind}:'.",
            )


def _find_networks(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in networks(prompt.tree):
        quoted = prompt.quote(node.span)
        if node.is_lora:
            yield node.span, f"{quoted} is taken out of the text; {_foretell(node)}"
        elif node.kind == "hypernet":
            yield (
                node.span,
                f"{quoted} is taken out of the text and not applied: hypernetworks are not "
                "supported.",
            )


def _foretell(node: Network) -> str:
    """What becomes of the tag of a LoRA when its prompt is encoded."""
    if node.rank is not None:
        return "it is not applied, since dyn= is not supported; leave that out."
    if node.weight == 0:
        return "at scale 0 it changes no text encoder."
    return (
        f"the LoRA {node.name!r} is merged into the text encoders at {node.weight:g}, if loras=... "
        "has its file."
    )


def _find_compel_loras(prompt: LintedPrompt) -> Iterator[Remark]:
    for node in walk(prompt.tree):
        if isinstance(node, LoraUse):
            yield (
                node.span,
                f"{prompt.quote(node.span)} is taken out of the text and not applied; merge the "
                "file with add_lora.",
            )


def _find_padding(prompt: LintedPrompt) -> Iterator[Remark]:
    place = prompt.text.find("!")
    if prompt.tokenizer.spec.pad == 0 and place >= 0:
        yield (
            (place, place + 1),
            'the padding here is id 0, the "!", as in SD 2 and the second encoder of SDXL, where '
            'diffusers reads every "!" of a prompt as padding and other tools read a word; remove '
            "it to get the same image from all tools.",
        )


def _make_rule(syntax: Foreign) -> RuleCheck:
    def rule(prompt: LintedPrompt) -> Iterator[Remark]:
        for match in syntax.pattern.finditer(prompt.text):
            yield match.span(), syntax.message.format(prompt.quote(match.span()))

    return rule


_SYNTAX: tuple[Dialect, ...] = ("a1111", "comfyui", "compel")
RULES: tuple[SyntaxRule, ...] = (
    SyntaxRule("unbalanced-bracket", "warning", _SYNTAX, _find_unbalanced),
    SyntaxRule("idle-weight", "hint", _SYNTAX, _find_idle),
    SyntaxRule("extreme-weight", "warning", _SYNTAX, _find_extreme),
    SyntaxRule("negative-weight", "warning", _SYNTAX, _find_negative),
    SyntaxRule("break-in-brackets", "warning", ("a1111",), _find_breaks),
    SyntaxRule("schedule-never-changes", "warning", ("a1111",), _find_unchanging),
    SyntaxRule("schedule-in-steps", "hint", ("a1111",), _find_whole_steps),
    SyntaxRule("trailing-weight", "warning", ("a1111",), _find_trailing_weight),
    SyntaxRule("unknown-network", "warning", ("a1111",), _find_unknown_networks),
    SyntaxRule("network", "hint", ("a1111",), _find_networks),
    SyntaxRule("network", "hint", ("compel",), _find_compel_loras),
    SyntaxRule("replaced-weight", "hint", ("comfyui",), _find_replaced),
    SyntaxRule("merged-words", "warning", ("a1111",), _find_merged),
    SyntaxRule("dropped-text", "error", ("compel",), _find_dropped),
    SyntaxRule("padding-character", "hint", _SYNTAX, _find_padding),
    *(SyntaxRule(one.code, "warning", one.dialects, _make_rule(one)) for one in FOREIGN),
)
