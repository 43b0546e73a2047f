"""Prompts for the property tests, and the parts that must survive printing and reading."""

import re
from dataclasses import fields, is_dataclass
from typing import Any

from hypothesis import strategies as st

from ecliptic.prompts.prompt import Prompt
from ecliptic.prompts.reading import Break, Line

_PIECES = [
    *"()[]:|\\, ab1.+-\n",
    *("BREAK", "AND", " AND ", " BREAK ", ":1.2)", ":0.5", "[a:b:3]", "[a|b]", "(a:1.1)"),
    *("[b:.5]", "\\(", "\\:", "BR\\EAK", "A\\ND", "inf", ":-1)", "[a::2]", "é", "日"),
]
_PAIRS = ("()", "[]")
texts = st.one_of(
    st.text(max_size=40),
    st.text('()[]:|\\, ab1.+-"ANDBREAK', max_size=40),
    st.lists(st.sampled_from(_PIECES), max_size=14).map("".join),
)


_PLACES = ("span", "origin", "weight_span")


def strip_places(value: Any) -> Any:
    """Remove the places from a tree."""
    if isinstance(value, tuple):
        return tuple(strip_places(item) for item in value)
    if is_dataclass(value):
        names = [item.name for item in fields(value) if item.name not in _PLACES]
        return (type(value).__name__, *(strip_places(getattr(value, name)) for name in names))
    return value


def list_readings(prompt: Prompt, steps: int, *, negative: bool = False) -> list[Any]:
    """The readings, character by character: only joins and spaces can differ.

    Spaces at the end of a side or around a BREAK can change; trees keep the other spaces.
    """
    found: list[Any] = []
    for side in prompt.readings(steps, negative=negative):
        for end, reading in side.schedule:
            assert isinstance(reading, Line)
            characters: list[Any] = []
            for part in reading.parts:
                if isinstance(part, Break):
                    characters.append("break")
                else:
                    weight = round(part.weight, 9)
                    characters += [(one, weight) for one in part.text if not one.isspace()]
            found.append((side.weight, end, characters))
    return found


def is_balanced(text: str) -> bool:
    """Whether every bracket closes one of its kind, so that A1111's stages do not interfere."""
    open_brackets: list[str] = []
    for bracket in re.sub(r"\\.", "", text, flags=re.DOTALL):
        if bracket in "([":
            open_brackets.append(bracket)
        elif bracket in ")]" and (not open_brackets or open_brackets.pop() + bracket not in _PAIRS):
            return False
    return not open_brackets
