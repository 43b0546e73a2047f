"""The results of the demo as plain data, which the page and the summary show."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ecliptic.inputs import TokenSpan
from ecliptic.report.bundled import Drawing


@dataclass(frozen=True)
class Guess:
    """The most likely labels for one drawing."""

    drawing: Drawing
    labels: tuple[tuple[str, float], ...]  # (label, probability), most likely first

    @property
    def right(self) -> bool:
        """Whether the first label is the drawing's own name."""
        return self.labels[0][0] == self.drawing.name


@dataclass(frozen=True)
class Hit:
    """One drawing that a search found."""

    drawing: Drawing
    cosine: float
    fits: bool | None = None  # whether it is a correct answer; None if unknown


@dataclass(frozen=True)
class Search:
    """The drawings nearest to a text or to another drawing, nearest first."""

    query: str | Drawing
    hits: tuple[Hit, ...]

    @property
    def right(self) -> bool:
        """Whether the first hit is a correct answer."""
        return bool(self.hits[0].fits)


@dataclass(frozen=True)
class TokenReading:
    """The tokens of a text."""

    text: str
    tokens: tuple[TokenSpan, ...]
    context: int  # largest number of tokens

    @property
    def dropped(self) -> int:
        """Tokens that do not fit into the context."""
        return sum(not token.kept for token in self.tokens)


@dataclass(frozen=True)
class Timing:
    """How long one step took."""

    step: str
    seconds: float
    items: int = 0  # drawings or texts; 0 if the step has no rate


@dataclass(frozen=True)
class DemoResult:
    """All results of the demo, and the path of its page."""

    path: Path
    embedded: bool  # whether it is the built-in model
    card: Mapping[str, Any]  # `Card.to_dict` of the model
    space: str  # fingerprints, hexadecimal
    exact: str
    guesses: tuple[Guess, ...]
    searches: tuple[Search, ...]  # with a text
    neighbours: tuple[Search, ...]  # with a drawing
    matrix: Image.Image
    readings: tuple[TokenReading, ...]
    timings: tuple[Timing, ...]
    machine: str

    @property
    def right(self) -> int:
        """The number of drawings whose first label is their own name."""
        return sum(guess.right for guess in self.guesses)

    @property
    def found(self) -> int:
        """The number of texts whose first hit is a correct answer."""
        return sum(search.right for search in self.searches)

    @property
    def seconds(self) -> float:
        """The time of all steps together."""
        return sum(timing.seconds for timing in self.timings)
