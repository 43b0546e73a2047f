"""One linter for captions and for prompts of every dialect.

The rules for text are those of `inputs.lint`, run on what the encoder will read; the rules for
syntax are in `lint_rules.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ecliptic.errors import TextError
from ecliptic.inputs import Finding, Tokenizer, lint
from ecliptic.prompts.dialects import Dialect
from ecliptic.prompts.linting.rules import Written, remarks
from ecliptic.prompts.prompt import parse
from ecliptic.prompts.tree import (
    Alternating,
    Joined,
    Scheduled,
    Swap,
    Text,
    Tree,
    branches,
)

_OFF = ("weight-syntax",)  # the syntax was taken out, and what is left is meant
_OF_WHOLE = ("empty", "vague")  # say nothing about one branch of a schedule


def lint_prompt(text: str, tokenizer: Tokenizer, dialect: Dialect = "plain") -> list[Finding]:
    """Findings about a prompt in the order of its characters; for "plain" those of `inputs.lint`.

    Args:
        text: the prompt as given; spans of findings count its characters.
        tokenizer: of the encoder, for its words, context and padding.
        dialect: whose syntax the prompt is written in.

    Raises:
        ConfigError: there is no such dialect.
        TextError: not text the tokenizer can take.
    """
    if dialect == "plain":
        return lint(text, tokenizer)
    tokenizer.encode(text)  # refuses what is no text, before places are counted anew
    try:
        tree = parse(text, dialect).tree
    except TextError as error:
        return [_unreadable(text, error)]
    found = remarks(Written(text, dialect, tree, tokenizer))
    passages = list(_passages(tree))
    if all(not passage.text.strip() for passage in passages):
        found += [
            Finding(one.code, one.message, (0, len(text)), one.severity)
            for one in lint("", tokenizer)
        ]
    for passage in passages:
        found += passage.findings(tokenizer)
    return sorted(found, key=lambda finding: finding.span)


def _unreadable(text: str, error: TextError) -> Finding:
    place = error.place
    span = (0, len(text)) if place is None else _character(text, place)
    return Finding("unreadable", str(error), span, "error")


def _character(text: str, place: int) -> tuple[int, int]:
    """The character at `place`, or the last one where the place is the end."""
    start = min(place, max(len(text) - 1, 0))
    return start, start + 1


@dataclass
class _Passage:
    """Text without its syntax, as one encoder call reads it."""

    whole: bool  # and not one branch among several
    text: str = ""
    origin: list[int] = field(default_factory=list)

    def add(self, node: Text) -> None:
        """Put the text of `node` behind, apart from what is before it."""
        if not node.text or not node.origin:
            return
        if self.text and node.origin[0] != self.origin[-1] + 1:
            self.text += " "
            self.origin.append(self.origin[-1])
        self.text += node.text
        self.origin += node.origin

    def findings(self, tokenizer: Tokenizer) -> Iterator[Finding]:
        """Those of the text, at their places in the prompt."""
        if not self.text.strip():
            return
        for one in lint(self.text, tokenizer):
            if one.code in _OFF or (not self.whole and one.code in _OF_WHOLE):
                continue
            start, end = one.span
            span = (self.origin[start], self.origin[end - 1] + 1)
            if one.code == "too-long":
                yield self._chunks(tokenizer, span)
            else:
                yield Finding(one.code, one.message, span, one.severity)

    def _chunks(self, tokenizer: Tokenizer, span: tuple[int, int]) -> Finding:
        count, room = len(tokenizer.encode(self.text)), tokenizer.spec.context - 2
        message = (
            f"{count} tokens need {-(-count // room)} chunks of {room}; pass long=... to say "
            'how they are laid out, since the default, "truncate", keeps only the first.'
        )
        return Finding("too-long", message, span, "hint")


def _passages(tree: Tree) -> Iterator[_Passage]:
    """The text of every side, and of every branch that is not there all the time."""
    waiting = [(tree, True)]
    while waiting:
        nodes, whole = waiting.pop()
        passage = _Passage(whole)
        _read(nodes, passage, waiting)
        yield passage


def _read(tree: Tree, passage: _Passage, waiting: list[tuple[Tree, bool]]) -> None:
    for node in tree:
        inside = branches(node)
        if isinstance(node, Text):
            passage.add(node)
        elif isinstance(node, Joined):
            waiting.extend((part, True) for part in inside)
        elif isinstance(node, Scheduled | Alternating | Swap):
            waiting.extend((part, False) for part in inside)
        else:
            for part in inside:
                _read(part, passage, waiting)
