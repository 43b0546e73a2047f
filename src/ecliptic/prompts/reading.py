"""Readings: what the encoders encode for a prompt of any dialect.

A dialect turns text into a `Reading` per step; layouts, emphasis and conditioner use only these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Span: TypeAlias = tuple[int, int]  # [start, end) in characters of the prompt as given


@dataclass(frozen=True)
class Segment:
    """A text under one weight; it is tokenized alone."""

    text: str
    weight: float = 1.0  # finite
    origin: tuple[int, ...] = ()  # place in the prompt of each character of `text`


@dataclass(frozen=True)
class Break:
    """A1111's BREAK: the next text starts a new chunk."""

    span: Span = (0, 0)


@dataclass(frozen=True)
class Line:
    """Segments that are encoded one after the other, as one prompt."""

    parts: tuple[Segment | Break, ...]


@dataclass(frozen=True)
class Mix:
    """Readings that are encoded separately and then joined: compel's `.blend` and `.and`."""

    kind: Literal["blend", "and"]  # weighted mean, or joined on the token axis
    parts: tuple[tuple["Reading", float], ...]
    normalize: bool = True  # of a blend: divide by the sum of the weights


Reading: TypeAlias = Line | Mix


def segments_of(reading: Reading) -> Iterator[Segment]:
    """Yield every segment, also of blended and joined prompts, in order."""
    if isinstance(reading, Mix):
        for part, _ in reading.parts:
            yield from segments_of(part)
        return
    yield from (part for part in reading.parts if isinstance(part, Segment))


@dataclass(frozen=True)
class Alternative:
    """One side of A1111's AND, and how it changes over the steps."""

    weight: float
    schedule: tuple[tuple[int, Reading], ...]  # (last step, counted from 1, ..., reading)
    weight_span: Span | None = None  # of the colon and the number that gave `weight`
