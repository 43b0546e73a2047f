"""One linter for captions and for prompts of every dialect.

The rules for text are those of `inputs.lint`, run on the text without its syntax; the rules for
syntax are in `rules.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ecliptic.errors import TextError
from ecliptic.inputs import Finding, Tokenizer, check_text, lint, unreadable
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.linting.rules import LintedPrompt, lint_syntax
from ecliptic.prompts.prompt import parse
from ecliptic.prompts.tree import Alternating, Joined, Scheduled, Swap, Text, Tree, branches

_OFF = ("weight-syntax",)  # without its syntax, the rest is meant as text
_OF_WHOLE = ("empty", "vague")  # not for one branch of a schedule


def lint_prompt(text: str, tokenizer: Tokenizer, dialect: Dialect = "plain") -> list[Finding]:
    """Findings in a prompt, in the order of its characters.

    For "plain" they are those of `inputs.lint`, and tags such as `<lora:name:0.8>`.

    Args:
        text: the prompt as given; spans of findings count its characters.
        tokenizer: of the encoder, for its words, context and padding.
        dialect: of the prompt.

    Raises:
        ConfigError: there is no such dialect.
        TextError: `text` is not a `str` of whole characters.
    """
    if dialect == "plain":
        found = lint(text, tokenizer)
        if not any(one.severity == "error" for one in found):
            found += lint_syntax(LintedPrompt(text, dialect, (), tokenizer))
        return sorted(found, key=lambda finding: finding.span)
    check_text(text)
    try:
        tree = parse(text, dialect).tree
    except TextError as error:
        return [unreadable(text, error)]
    found = lint_syntax(LintedPrompt(text, dialect, tree, tokenizer))
    passages = list(_split_passages(tree))
    if all(not passage.text.strip() for passage in passages):
        found += [replace(one, span=(0, len(text))) for one in lint("", tokenizer)]
    for passage in passages:
        found += passage.findings(tokenizer)
    return sorted(found, key=lambda finding: finding.span)


@dataclass
class _Passage:
    """Text without its syntax, for one encoder call."""

    whole: bool  # False for one branch of several
    text: str = ""
    origin: list[int] = field(default_factory=list)

    def add(self, node: Text) -> None:
        """Append the text of `node`, after a space if it did not follow directly."""
        if not node.text or not node.origin:
            return
        if self.text and node.origin[0] != self.origin[-1] + 1:
            self.text += " "
            self.origin.append(self.origin[-1])
        self.text += node.text
        self.origin += node.origin

    def findings(self, tokenizer: Tokenizer) -> Iterator[Finding]:
        """Findings in the text, with their places in the prompt."""
        if not self.text.strip():
            return
        for one in lint(self.text, tokenizer):
            if one.code in _OFF or (not self.whole and one.code in _OF_WHOLE):
                continue
            start, end = one.span
            span = (self.origin[start], self.origin[end - 1] + 1)
            if one.code == "too-long":
                yield self._report_chunks(tokenizer, span)
            else:
                yield replace(one, span=span)

    def _report_chunks(self, tokenizer: Tokenizer, span: tuple[int, int]) -> Finding:
        count, room = len(tokenizer.encode(self.text)), tokenizer.spec.context - 2
        message = (
            f"{count} tokens need {-(-count // room)} chunks of {room}; pass long=... to choose "
            'their layout, since the default, "truncate", keeps only the first.'
        )
        return Finding("too-long", message, span, "hint")


def _split_passages(tree: Tree) -> Iterator[_Passage]:
    """Yield the text of every side, and of every branch that is not part of every step."""
    waiting = [(tree, True)]
    while waiting:
        nodes, whole = waiting.pop()
        passage = _Passage(whole)
        _collect(nodes, passage, waiting)
        yield passage


def _collect(tree: Tree, passage: _Passage, waiting: list[tuple[Tree, bool]]) -> None:
    for node in tree:
        inside = branches(node)
        if isinstance(node, Text):
            passage.add(node)
        elif isinstance(node, Joined | Scheduled | Alternating | Swap):
            waiting.extend((part, isinstance(node, Joined)) for part in inside)
        else:
            for part in inside:
                _collect(part, passage, waiting)
