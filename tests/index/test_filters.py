"""Filters: texts become trees and texts again, and every way to apply one gives the same rows."""

import time
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, strategies as st

from ecliptic.errors import FilterError
from ecliptic.index import And, Compare, Not, Or, parse_filter, print_filter
from ecliptic.index.columns import arrow_type, fit
from ecliptic.index.filters.arrow import passing
from ecliptic.index.filters.matching import matches
from ecliptic.index.filters.tree import check_filter
from tests.index.filter_trees import KINDS, ROWS, TREES, TYPES


@given(TREES, ROWS)
def test_d17_columns_of_arrow_give_the_rows_of_the_definition(tree: Any, rows: Any) -> None:
    tree = check_filter(tree, TYPES)
    rows = [{name: fit(value, KINDS[name]) for name, value in row.items()} for row in rows]
    arrays = {
        name: pa.chunked_array([pa.array([row[name] for row in rows], arrow_type(kind))])
        for name, kind in KINDS.items()
    }
    assert passing(tree, arrays, TYPES).tolist() == [matches(tree, row) for row in rows]


@given(TREES)
def test_d17_a_printed_filter_is_read_as_the_same_tree(tree: Any) -> None:
    tree = check_filter(tree, TYPES)
    assert parse_filter(print_filter(tree), TYPES) == tree


@given(st.text(max_size=60) | st.text("nameiz()=<>!,\"'\\ 1-orandt", max_size=60))
@example("name = \x85")
@example("rate = nan")
@example("size = 1" + "0" * 5000)
@example("taken = 0001-01-01T00:00+14:00")
def test_d17_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    try:
        tree = parse_filter(text, TYPES)
    except FilterError as error:
        place = error.place or 0
    else:
        assert parse_filter(print_filter(tree), TYPES) == tree
        return
    assert 0 <= place <= len(text)


SIZE = Compare("size", ">", 1)
READ = {
    "size > 1": SIZE,
    "not size > 1": Not(SIZE),
    "NOT(size>1)": Not(SIZE),
    "size > 1 or size > 1 and size > 1": Or((SIZE, And((SIZE, SIZE)))),
    "(size > 1 or size > 1) and size > 1": And((Or((SIZE, SIZE)), SIZE)),
    "name is not missing": Not(Compare("name", "is missing")),
    "name not in (a, 'b c')": Not(Compare("name", "in", ("a", "b c"))),
    'name = "; drop table x"': Compare("name", "=", "; drop table x"),
    "name = '1\\' or 1'": Compare("name", "=", "1' or 1"),
    "name starts with 日本": Compare("name", "starts with", "日本"),
    "name contains ''": Compare("name", "contains", ""),
    "name = 'and'": Compare("name", "=", "and"),
    "name in ('in', \"not\")": Compare("name", "in", ("in", "not")),
    "kept = YES": Compare("kept", "=", True),
    "rate == 1e3": Compare("rate", "=", 1000.0),
    "size = 9223372036854775807": Compare("size", "=", (1 << 63) - 1),
}


@pytest.mark.parametrize("text", READ)
def test_d17_a_text_has_this_tree(text: str) -> None:
    assert parse_filter(text, TYPES) == READ[text]


REFUSED = {
    "": ("name of a column at character 1, but ends there; put all of it in quotes", 0),
    "size": ("needs =, !=", 4),
    "size >": ("needs a value at character 7, but ends there", 6),
    "size > 1 size": ("`and`, `or` or the end at character 10", 9),
    "(size > 1": (r"`\)` at character 10", 9),
    "size > 1; drop table x": ("a whole number of at most 64 bits at character 8, but has '1;'", 7),
    "name = 'a": ("a quote without its end at character 8", 7),
    "name ! a": ("'!' at character 6", 5),
    "name = missing": ("quotes around it if it is a word of filters", 7),
    "and = 1": ("the name of a column at character 1, but has 'and'", 0),
    "widht = 1": ("there is no column 'widht'", None),
    "size = 1.5": ("a whole number of at most 64 bits", 7),
    "size = 9223372036854775808": ("at most 64 bits", 7),
    "rate < inf": ("a finite number", 7),
    "kept = maybe": ("true or false", 7),
    "taken > yesterday": ("a time, such as 2024-05-01", 8),
    "taken > 9999-12-31T23:59-05:00": ("a time, such as 2024-05-01", 8),
    "size contains 1": ("`contains` is for strings", None),
    "name in ()": ("needs a value at character 10", 9),
    "name in (a b)": (r"`,` or `\)` at character 12", 11),
    "name = 'a\0b'": ("a string that a column can hold", 7),
}


@pytest.mark.parametrize("text", REFUSED)
def test_d17_a_refusal_tells_the_place(text: str) -> None:
    message, place = REFUSED[text]
    with pytest.raises(FilterError, match=message) as found:
        parse_filter(text, TYPES)
    assert found.value.place == place


HOSTILE = {
    "depth of not": "not " * 10_000 + "size > 1",
    "depth of brackets": "(" * 10_000 + "size > 1" + ")" * 10_000,
    "65,537 characters": "name = " + "a" * 65_530,
    "a quote and backslashes": "name = '" + "\\'" * 30_000,
    "operators": "=" * 65_000,
    "spaces": "size" + " " * 65_000 + "|",
    "comparisons": " or ".join(["size = 1"] * 1001),
    "values": f"size in ({', '.join(['1'] * 10_001)})",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_d17_a_hostile_text_is_refused_soon(text: str) -> None:
    start = time.process_time()
    with pytest.raises(FilterError):
        parse_filter(text, TYPES)
    assert time.process_time() - start < 2


def test_d17_the_largest_text_is_read_soon() -> None:
    text = "name in (" + ", ".join(["a"] * 9_999) + ")" + " " * 30_000
    start = time.process_time()
    assert parse_filter(text, TYPES) == Compare("name", "in", ("a",) * 9_999)
    assert time.process_time() - start < 2


def _doubled(levels: int) -> Any:
    """A small object that holds two to the power of `levels` comparisons."""
    tree: Any = SIZE
    for _ in range(levels):
        tree = tree & tree
    return tree


def _deep(levels: int) -> Any:
    tree: Any = SIZE
    for _ in range(levels):
        tree = ~tree
    return tree


BAD_TREES = {
    "no filter": (3, "is no filter"),
    "nothing to join": (And(()), "of nothing"),
    "a string of parts": (Or("ab"), "of nothing"),
    "a column that is no text": (Compare(["size"], "=", 1), "no column"),
    "an operator of SQL": (Compare("name", "like", "%"), "is no operator"),
    "none": (Compare("size", "=", None), "use `size is missing`"),
    "a value beside missing": (Compare("size", "is missing", 1), "takes no value"),
    "one value for in": (Compare("name", "in", "abc"), "needs a list"),
    "a truth value for a number": (Compare("size", "=", True), "does not fit"),
    "half a character": (Compare("name", "=", "\ud800"), "lone surrogate"),
    "2 ** 31 comparisons": (_doubled(31), "more than 1000 comparisons"),
    "depth": (_deep(10_000), "more than 32 levels"),
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_a_tree_that_is_no_filter_is_refused(name: str) -> None:
    tree, message = BAD_TREES[name]
    with pytest.raises(FilterError, match=message):
        check_filter(tree, TYPES)
