"""Reads filters as people write them, and prints them again.

    width >= 640 and (folder = "my cats" or not camera contains Canon)
    taken >= 2024-01-01 and format in (jpeg, png) and caption is not missing

Values without quotes end at a space, a comma, a bracket or an operator. A text is never handed to
an engine: it becomes a tree, and each engine gets what is compiled from the tree.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ecliptic.errors import FilterError
from ecliptic.index.columns import (
    ID,
    KEYWORDS,
    ColumnType,
    ColumnTypes,
    ColumnValue,
    fit,
    read_text,
)
from ecliptic.index.filters.tree import (
    DEEPEST,
    And,
    Compare,
    Filter,
    Not,
    Operator,
    Or,
    check_column,
    check_filter,
)

LONGEST = 1 << 16  # characters of a filter, 65,536
_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<mark>>=|<=|!=|==|[=<>(),])|(?P<word>[^\s()<>=!,"']+))""",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^\s()<>=!,\"'\\]+")  # a string that needs no quotes
_SYMBOLS: dict[str, Operator] = {
    "=": "=", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
}  # fmt: skip
_VALUES: dict[ColumnType, str] = {
    "string": "a string that a column can hold",
    "int": "a whole number of at most 64 bits",
    "float": "a finite number",
    "bool": "true or false",
    "timestamp": "a time, such as 2024-05-01 or 2024-05-01T12:30,",
}


@dataclass(frozen=True)
class _Word:
    """A token, and the place of its first character."""

    text: str
    place: int
    quoted: bool = False

    @property
    def key(self) -> str:
        """The word if it may be a keyword."""
        return "" if self.quoted else self.text.lower()


def parse_filter(text: str, columns: ColumnTypes) -> Filter:
    """The tree of a filter.

    Args:
        text: as in the head of this file.
        columns: of the store; `id` is always there.

    Raises:
        FilterError: it cannot be read; the message and `error.place` tell where.
    """
    if len(text) > LONGEST:
        raise FilterError(f"a filter has at most {LONGEST} characters, got {len(text)}.")
    parser = _Parser(_split(text), {ID: "string", **columns})
    return check_filter(parser.parse(), columns)


def _split(text: str) -> list[_Word]:
    words, place, end = list[_Word](), 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            rest = text[place:].lstrip()
            what = "a quote without its end" if rest[0] in "\"'" else f"{rest[0]!r}"
            start = len(text) - len(rest)
            raise FilterError(f"{what} at character {start + 1} of the filter.", place=start)
        kind = str(found.lastgroup)
        start = found.start(kind)
        value = found[kind]
        if kind == "quoted":
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        words.append(_Word(value, start, kind == "quoted"))
        place = found.end()
    return [*words, _Word("", len(text))]


class _Parser:
    """Reads words from left to right; each method takes what its name says."""

    def __init__(self, words: Sequence[_Word], types: ColumnTypes) -> None:
        self._words, self._at, self._types = words, 0, types

    @property
    def _next(self) -> _Word:
        return self._words[self._at]

    def _take(self) -> _Word:
        word = self._next
        self._at += 1
        return word

    def _accept(self, *keys: str) -> bool:
        """Take the next words if they are these."""
        ahead = self._words[self._at : self._at + len(keys)]
        found = tuple(word.key for word in ahead) == keys
        self._at += len(keys) * found
        return found

    def _fail(self, needed: str, word: _Word) -> FilterError:
        found = word.text or word.quoted
        got = f"has {word.text!r} there." if found else "ends there; put all of it in quotes."
        return FilterError(
            f"the filter needs {needed} at character {word.place + 1}, but {got}",
            place=word.place,
        )

    def parse(self) -> Filter:
        tree = self._either(1)
        if self._at < len(self._words) - 1:
            raise self._fail("`and`, `or` or the end", self._next)
        return tree

    def _either(self, depth: int) -> Filter:
        parts = [self._both(depth)]
        while self._accept("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self, depth: int) -> Filter:
        parts = [self._single(depth)]
        while self._accept("and"):
            parts.append(self._single(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _single(self, depth: int) -> Filter:
        if depth > DEEPEST:
            raise FilterError(f"the filter has more than {DEEPEST} levels; write it with fewer.")
        if self._accept("not"):
            return Not(self._single(depth + 1))
        if self._accept("("):
            tree = self._either(depth + 1)
            if not self._accept(")"):
                raise self._fail("`)`", self._next)
            return tree
        return self._comparison()

    def _comparison(self) -> Filter:
        name = self._take()
        if not name.text or name.key in KEYWORDS or name.text in "(),<>=!":
            raise self._fail("the name of a column", name)
        kind = check_column(name.text, self._types)
        if self._accept("is", "missing"):
            return Compare(name.text, "is missing")
        if self._accept("is", "not", "missing"):
            return Not(Compare(name.text, "is missing"))
        if self._accept("in"):
            return Compare(name.text, "in", self._values(kind))
        if self._accept("not", "in"):
            return Not(Compare(name.text, "in", self._values(kind)))
        return Compare(name.text, self._operator(), self._value(kind))

    def _operator(self) -> Operator:
        if self._accept("contains"):
            return "contains"
        if self._accept("starts", "with"):
            return "starts with"
        word = self._take()
        if word.quoted or word.text not in _SYMBOLS:
            needed = "=, !=, <, <=, >, >=, in, contains, starts with or is missing"
            raise self._fail(needed, word)
        return _SYMBOLS[word.text]

    def _values(self, kind: ColumnType) -> tuple[ColumnValue, ...]:
        if not self._accept("("):
            raise self._fail("`(`", self._next)
        values = [self._value(kind)]
        while self._accept(","):
            values.append(self._value(kind))
        if not self._accept(")"):
            raise self._fail("`,` or `)`", self._next)
        return tuple(values)

    def _value(self, kind: ColumnType) -> ColumnValue:
        word = self._take()
        if not word.quoted and (not word.text or word.text in "(),<>=" or word.text in _SYMBOLS):
            raise self._fail("a value", word)
        if word.key in KEYWORDS:
            raise self._fail("a value, with quotes around it if it is a word of filters,", word)
        try:
            value = fit(read_text(word.text, kind), kind)
        except ValueError:
            raise self._fail(_VALUES[kind], word) from None
        assert value is not None
        return value


def print_filter(tree: Filter) -> str:
    """The text of a tree, which `parse_filter` reads as the same tree."""
    if isinstance(tree, Compare):
        return _print_comparison(tree)
    if isinstance(tree, Not):
        return f"not {_print_part(tree.part)}"
    word = " and " if isinstance(tree, And) else " or "
    return word.join(_print_part(part) for part in tree.parts)


def _print_part(tree: Filter) -> str:
    text = print_filter(tree)
    return f"({text})" if isinstance(tree, And | Or) else text


def _print_comparison(part: Compare) -> str:
    if part.operator == "is missing":
        return f"{part.column} is missing"
    if isinstance(part.value, tuple):
        return f"{part.column} in ({', '.join(map(_print_value, part.value))})"
    return f"{part.column} {part.operator} {_print_value(part.value)}"


def _print_value(value: ColumnValue | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value.lower() not in KEYWORDS:
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
