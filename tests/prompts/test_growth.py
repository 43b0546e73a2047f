"""The time for a prompt grows with its length, whatever is repeated in it."""

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import TypeAlias

import pytest

from ecliptic.errors import EclipticError
from ecliptic.inputs import Tokenizer
from ecliptic.prompts import Dialect, convert, lint_prompt, parse
from ecliptic.prompts.dialects import DIALECTS

Work: TypeAlias = Callable[[str, Dialect], None]
TOKENIZER = Tokenizer()
SINGLE = [*"\\()[]{}:|,+-\"'._<>=!a1 \n", "é", "BREAK ", "BREAK", "AND ", "AND"]
PAIRS = ["".join(pair) for pair in product("\\()[]:|,+-\".<' a1", repeat=2)]
GROUPS = [
    *("(a:1)", "(a:1.1)", "(a:", "(a)", ":1)", "[a:b:1]", "[a|b]", "[a:1]", "[a:", "[a|"),
    *("(a)+", '"a"+ ', '("a', "a+ (", "(a)1.1 ", "a.swap(b) ", '("a", ', "withLora(a,1) "),
    *(
        "a AND b :1 ",
        "a:1 AND ",
        "<lora:a:1>",
        "<lora:a:",
        "<a:",
        "<a:b",
        '("a","b").and() ',
        '("a","b").blend(1,1) ',
    ),
]
AROUND = ["{}", '("{}", "b").and()', '("a", "{}").blend()', "[a:{}:3]", "[{}|b]"]


def read(text: str, dialect: Dialect) -> None:
    prompt = parse(text, dialect)
    _ = prompt.spans, prompt.notes, prompt.alternatives
    prompt.schedule(8)
    prompt.readings(8)
    prompt.print()


def lint(text: str, dialect: Dialect) -> None:
    lint_prompt(text, TOKENIZER, dialect)


def convert_to_all(text: str, dialect: Dialect) -> None:
    for other in DIALECTS:
        convert(parse(text, dialect), other)


def seconds(work: Work, text: str, dialect: Dialect) -> float:
    began = time.process_time()
    with suppress(EclipticError):
        work(text, dialect)
    return time.process_time() - began


def check_growth(work: Work, dialect: Dialect, unit: str, around: str = "{}") -> None:
    """Four times the length may take nine times as long; quadratic work takes sixteen."""
    few, many = (around.replace("{}", unit * (size // len(unit))) for size in (1000, 4000))
    for _ in range(4):
        short, long = seconds(work, few, dialect), seconds(work, many, dialect)
        if long < 9 * short + 0.02:
            return
    pytest.fail(f"{few[:20]!r}: {short:.3f} s for 1000 characters, {long:.3f} s for 4000")


@pytest.mark.parametrize("dialect", tuple(DIALECTS))
def test_b11_reading_a_repeated_character_is_not_quadratic(dialect: Dialect) -> None:
    for unit in SINGLE:
        check_growth(read, dialect, unit)


@pytest.mark.slow
@pytest.mark.parametrize("work", [read, lint, convert_to_all])
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("dialect", tuple(DIALECTS))
def test_b11_no_repeated_piece_is_quadratic(dialect: Dialect, around: str, work: Work) -> None:
    for unit in SINGLE + GROUPS + (PAIRS if around == "{}" else []):
        check_growth(work, dialect, unit, around)


def test_b11_a_hundred_thousand_backslashes_are_read_in_time() -> None:
    assert seconds(read, "\\" * 100_000, "compel") < 10
