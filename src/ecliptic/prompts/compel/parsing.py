"""compel's grammar: parses text into the syntax tree; tries every rule once per place.

A rule takes a place and returns its nodes and the place after them, or None if it does not fit.
Text that fits no rule is a literal word, as in compel. Follows compel 2.5.1
(`compel/prompt_parser.py`), found by running it; its errors become TextError.
"""

import re
from collections.abc import Callable, Iterable
from itertools import chain, groupby
from typing import TypeAlias

from ecliptic.errors import TextError
from ecliptic.prompts.compel.characters import BLANK, NOT_BLANK, Characters, join_spaced
from ecliptic.prompts.limits import check_depth, read_number
from ecliptic.prompts.reading import Span
from ecliptic.prompts.tree import Joined, LoraUse, Mark, Node, Swap, Text, Tree, Weighted

BASES: dict[Mark, float] = {"+": 1.1, "-": 0.9}  # weight of one sign; n signs give the n-th power

WORD = re.compile(
    rf"""(?:\\[()",.+\-=]|[-+](?![{BLANK}()",.+\-=]|\Z)|[^{BLANK}()",.+\-=])+""", re.DOTALL
)
_BLANK = re.compile(rf"[{BLANK}]*")
_QUOTED = re.compile(r'"((?:\\"|[^"\n\r])*)"')
_NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+)|-?[0-9]+")
_KEYWORD = re.compile(r"[A-Za-z0-9_-]+")
_SIGNS = re.compile(r"\++|-+")
_NO_NORMALIZE = "no_normalize"

Parsed: TypeAlias = tuple[Tree, int]
Option: TypeAlias = tuple[str, str | None, Span]  # name or number, value, place
ParseRule: TypeAlias = Callable[[int], Parsed | None]


class CompelGrammar:
    """Parses one source by the rules; each quoted part is its own source."""

    def __init__(self, source: Characters) -> None:
        self.source = source
        self.text = source.text
        self._depth = source.depth
        self._tried: dict[tuple[str, int], Parsed | None] = {}

    def read(self) -> Tree:
        """The tree of the whole prompt; TextError if compel refuses it."""
        explicit = self._joined(0, (".and", ".add"))
        if explicit:
            return explicit[0]
        before, at = self._loras(0)
        blend = self._joined(at, (".blend",))
        if blend is None:
            return _join_texts((*before, *self.read_prompt(at)[0]))
        after, end = self._loras(blend[1])
        if (rest := self._skip(end)) < len(self.text):
            place = self.source.span(rest, rest + 1)[0]
            raise TextError(
                f"text follows a .blend() at position {place} of the prompt, but a blend must be "
                "the whole prompt; put the text into the parts of the blend.",
                place=place,
            )
        return (*before, *blend[0], *after)

    def read_prompt(self, at: int) -> Parsed:
        """Read up to the end; text that fits no rule is a word."""
        rules = (self._swap, self._lora, self._attention, self._quoted, self._group)
        nodes: list[Node] = []
        while (at := self._skip(at)) < len(self.text):
            found = self._first(rules, at)
            read, at = found or self._take(at, _match_end(NOT_BLANK, self.text, at))
            nodes += read
        return _join_texts(nodes), at

    def read_fragments(self, at: int, stops: bool) -> Parsed:
        """Read the inside of brackets or quotes; `stops` allows commas and periods."""
        rules = (self._lora, self._attention, self._swap, self._group, self._quoted, self._word)
        nodes: list[Node] = []
        while True:
            found = self._first(rules, at)
            start = self._skip(at)
            if found is None and stops and self.text[start : start + 1] in (",", "."):
                found = self._take(start, start + 1)
            if found is None:
                return _join_texts(nodes), at
            nodes += found[0]
            at = found[1]

    # rules, each tried once at a place

    def _first(self, rules: tuple[ParseRule, ...], at: int) -> Parsed | None:
        for rule in rules:
            key = (rule.__name__, at)
            if key not in self._tried:
                self._tried[key] = rule(at)
            if found := self._tried[key]:
                return found
        return None

    def _target(self, at: int) -> Parsed | None:
        return self._first((self._quoted, self._group, self._word), at)

    def _word(self, at: int) -> Parsed | None:
        start = self._skip(at)
        end = _match_end(WORD, self.text, start)
        return self._take(start, end) if end > start else None

    def _group(self, at: int) -> Parsed | None:
        start = self._literal("(", at)
        if start is None:
            return None
        self._deeper(start - 1)
        nodes, end = self.read_fragments(start, stops=True)
        self._depth -= 1
        closed = self._literal(")", end)
        return None if closed is None else (nodes, closed)

    def _quoted(self, at: int) -> Parsed | None:
        return self._inside_quotes(at, lambda inner: inner.read_fragments(0, stops=True))

    def _quoted_prompt(self, at: int) -> Parsed | None:
        return self._inside_quotes(at, lambda inner: inner.read_prompt(0))

    def _inside_quotes(self, at: int, rule: "Callable[[CompelGrammar], Parsed]") -> Parsed | None:
        found = _QUOTED.match(self.text, self._skip(at))
        if found is None:
            return None
        self._deeper(found.start())
        inner = CompelGrammar(self.source.unquote(*found.span(1)))
        inner._depth = self._depth
        self._depth -= 1
        if not inner.text.strip(BLANK):
            return (Text("", ()),), found.end()
        nodes, end = rule(inner)
        return (nodes, found.end()) if inner._skip(end) == len(inner.text) else None

    def _attention(self, at: int) -> Parsed | None:
        target = self._target(at)
        if target is None:
            return None
        children, end = target
        operator = self._attend(end) or self._suffix(at, end)
        if operator is None:
            return None
        weight, mark, after = operator
        return (Weighted(children, weight, mark, self._span(at, after)),), after

    def _attend(self, at: int) -> tuple[float, Mark, int] | None:
        start = self._call(".attend", at)
        operator = None if start is None else self._weight(self._skip(start))
        closed = None if operator is None else self._literal(")", operator[2])
        return None if operator is None or closed is None else (*operator[:2], closed)

    def _suffix(self, start: int, at: int) -> tuple[float, Mark, int] | None:
        """The operator right after a target; a bare word takes only signs."""
        bare = self.text[self._skip(start)] not in '("'
        return None if bare and not _SIGNS.match(self.text, at) else self._weight(at)

    def _weight(self, at: int) -> tuple[float, Mark, int] | None:
        if signs := _SIGNS.match(self.text, at):
            sign: Mark = "+" if signs.group()[0] == "+" else "-"
            return self._multiply_signs(sign, signs), sign, signs.end()
        if number := _NUMBER.match(self.text, at):
            return self._read_number(number.group(), number.span()), "number", number.end()
        return None

    def _swap(self, at: int) -> Parsed | None:
        target = self._target(at)
        start = None if target is None else self._call(".swap", target[1])
        if target is None or start is None:
            return None
        self._deeper(start - 1)
        after, end = self.read_fragments(start, stops=False)
        self._depth -= 1
        comma = self._literal(",", end)
        options, end = ((), end) if comma is None else self._options(comma)
        closed = self._literal(")", end)
        if closed is None:
            return None
        known = tuple(
            (name, self._read_number(value, span))
            for name, value, span in options
            if value is not None and _NUMBER.fullmatch(value)
        )
        return (Swap(target[0], after, known, self._span(at, closed)),), closed

    def _lora(self, at: int) -> Parsed | None:
        start = self._call("useLora", at) or self._call("withLora", at)
        name = None if start is None else _KEYWORD.match(self.text, self._skip(start))
        if name is None:
            return None
        end, weight = name.end(), 1.0
        comma = self._literal(",", end)
        if comma and (number := _NUMBER.match(self.text, self._skip(comma))):
            end, weight = number.end(), self._read_number(number.group(), number.span())
        closed = self._literal(")", end)
        if closed is None:
            return None
        return (LoraUse(name.group(), weight, self._span(at, closed)),), closed

    def _loras(self, at: int) -> Parsed:
        nodes: list[Node] = []
        while found := self._lora(at):
            nodes += found[0]
            at = found[1]
        return tuple(nodes), at

    # prompts side by side

    def _joined(self, at: int, names: tuple[str, ...]) -> Parsed | None:
        items = self._items(at)
        if items is None:
            return None
        parts, closed = items
        start = next((found for name in names if (found := self._call(name, closed))), None)
        options, end = ((), 0) if start is None else self._options(start)
        after = None if start is None else self._literal(")", end)
        if after is None:
            return None
        blend = ".blend" in names
        normalize = not (blend and options and options[-1][0] == _NO_NORMALIZE)
        span = self._span(at, after)
        weights = self._weights(options if normalize else options[:-1], len(parts))
        if blend:
            _refuse_swaps(parts)
        pairs = tuple(zip(parts, weights, strict=True))
        return (Joined("blend" if blend else "and", pairs, normalize, span),), after

    def _items(self, at: int) -> tuple[list[Tree], int] | None:
        place = self._literal("(", at)
        parts: list[Tree] = []
        while place is not None:
            found = self._target(place) or self._quoted_prompt(place)
            if found is None:
                break
            parts.append(found[0])
            after = self._literal(",", found[1])
            if after is None:
                closed = self._literal(")", found[1])
                return None if closed is None else (parts, closed)
            place = after
        return None

    def _weights(self, options: tuple[Option, ...], count: int) -> tuple[float, ...]:
        if not options:
            return (1.0,) * count
        if len(options) != count:
            place = options[0][2][0]
            raise TextError(
                f"{len(options)} weight(s) at position {place} of the prompt, but "
                f"{count} part(s); write one weight for each part, or no weights.",
                place=place,
            )
        return tuple(
            read_number(name if value is None else f"{name}={value}", span[0])
            for name, value, span in options
        )

    def _options(self, at: int) -> tuple[tuple[Option, ...], int]:
        options: list[Option] = []
        place: int | None = at
        while place is not None and (found := self._option(self._skip(place))):
            option, at = found
            options.append(option)
            place = self._literal(",", at)
        return tuple(options), at

    def _option(self, at: int) -> tuple[Option, int] | None:
        name, number = _KEYWORD.match(self.text, at), _NUMBER.match(self.text, at)
        equals = None if name is None else self._literal("=", name.end())
        if name and equals is not None:
            start = self._skip(equals)
            value = _NUMBER.match(self.text, start) or _KEYWORD.match(self.text, start)
            if value:
                place = self.source.span(at, value.end())
                return (name.group(), value.group(), place), value.end()
        found = number or name
        if found is None:
            return None
        return (found.group(), None, self.source.span(*found.span())), found.end()

    # characters

    def _take(self, start: int, end: int) -> Parsed:
        return (self.source.make_text(start, end),), end

    def _skip(self, at: int) -> int:
        return _match_end(_BLANK, self.text, at)

    def _literal(self, expected: str, at: int) -> int | None:
        start = self._skip(at)
        return start + len(expected) if self.text.startswith(expected, start) else None

    def _call(self, name: str, at: int) -> int | None:
        """The place after `name(`."""
        end = self._literal(name, at)
        return None if end is None else self._literal("(", end)

    def _span(self, start: int, end: int) -> Span:
        return self.source.span(self._skip(start), end)

    def _deeper(self, at: int) -> None:
        self._depth += 1
        check_depth(self._depth, self.source.span(at, at + 1)[0])

    def _multiply_signs(self, sign: Mark, signs: "re.Match[str]") -> float:
        place = self.source.span(*signs.span())[0]
        try:
            return float(BASES[sign] ** len(signs.group()))
        except OverflowError:
            raise TextError(
                f"the {len(signs.group())} signs at position {place} of the prompt make a weight "
                "that is not a finite number; write fewer signs, or a number.",
                place=place,
            ) from None

    def _read_number(self, written: str, span: Span) -> float:
        return read_number(written, self.source.span(*span)[0])


def _join_texts(nodes: Iterable[Node]) -> Tree:
    """Join neighbouring texts by a space."""
    joined: list[Node] = []
    for kind, group in groupby(nodes, key=type):
        if kind is Text:
            texts = [node for node in group if isinstance(node, Text)]
            joined.append(Text(*join_spaced(texts)))
        else:
            joined += group
    return tuple(joined)


def _refuse_swaps(parts: list[Tree]) -> None:
    for node in chain(*parts):
        if isinstance(node, Swap):
            raise TextError(
                f"the .swap() at position {node.span[0]} of the prompt is inside a .blend(), which "
                "makes one tensor and cannot swap; blend the two sides instead.",
                place=node.span[0],
            )


def _match_end(pattern: "re.Pattern[str]", text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
