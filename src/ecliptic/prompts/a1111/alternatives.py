"""A1111's first stage: splits a prompt at AND; each side can end with a weight.

Source: `get_multicond_prompt_list` of modules/prompt_parser.py in AUTOMATIC1111's web UI. This
stage ignores brackets, and a weight at the end counts even without AND.
"""

import re
from dataclasses import dataclass

from ecliptic.prompts.limits import read_number
from ecliptic.prompts.reading import Span
from ecliptic.prompts.traced import Traced

_AND = re.compile(r"\bAND\b")
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?|\d*\.\d+))")


@dataclass(frozen=True)
class AndPart:
    """One part of a prompt with AND, or the whole prompt."""

    text: Traced  # without white space at its end
    weight: float
    weight_span: Span | None  # of the colon and the number, if the prompt gives the weight


def split_at_and(prompt: Traced) -> list[AndPart]:
    """Split at AND into at least one part."""
    found: list[AndPart] = []
    start = 0
    for match in _AND.finditer(prompt.text):
        found.append(_weigh(prompt[start : match.start()]))
        start = match.end()
    return [*found, _weigh(prompt[start:])]


def _weigh(part: Traced) -> AndPart:
    text = part.text.rstrip()
    head, colon, tail = text.rpartition(":")
    number = _NUMBER.fullmatch(tail) if colon else None
    if number is None:
        return AndPart(part[: len(text)], 1.0, None)
    weight = read_number(number[1], part.place(len(head)))
    return AndPart(part[: len(head.rstrip())], weight, part[len(head) : len(text)].span)
