"""What the demo found, as plain data: the page and the console both read only this."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ecliptic.inputs import TokenSpan
from ecliptic.report.bundled import Drawing


@dataclass(frozen=True)
class Guess:
    """The labels a model finds most likely for one drawing."""

    drawing: Drawing
    labels: tuple[tuple[str, float], ...]  # (label, probability), likeliest first

    @property
    def right(self) -> bool:
        """Whether the first label is the drawing's own name."""
        return self.labels[0][0] == self.drawing.name


@dataclass(frozen=True)
class Hit:
    """One drawing that a search found."""

    drawing: Drawing
    cosine: float
    fits: bool | None = None  # whether it answers the query; None where nobody says


@dataclass(frozen=True)
class Search:
    """The nearest drawings of a text or of another drawing, nearest first."""

    query: str | Drawing
    hits: tuple[Hit, ...]

    @property
    def right(self) -> bool:
        """Whether the first hit answers the query."""
        return bool(self.hits[0].fits)


@dataclass(frozen=True)
class TokenReading:
    """A text as the model reads it."""

    text: str
    tokens: tuple[TokenSpan, ...]
    context: int  # tokens the model takes

    @property
    def dropped(self) -> int:
        """Tokens that do not fit into the context."""
        return sum(not token.kept for token in self.tokens)


@dataclass(frozen=True)
class Timing:
    """How long one step took."""

    step: str
    seconds: float
    items: int = 0  # drawings or texts; 0 where a rate means nothing


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo found, and the page it wrote."""

    path: Path
    embedded: bool  # the built-in model, not one of the caller's
    card: Mapping[str, Any]  # `Card.to_dict` of the model
    space: str  # fingerprints, hexadecimal
    exact: str
    guesses: tuple[Guess, ...]
    searches: tuple[Search, ...]  # by words
    neighbours: tuple[Search, ...]  # by drawing
    matrix: Image.Image
    readings: tuple[TokenReading, ...]
    timings: tuple[Timing, ...]
    machine: str

    @property
    def right(self) -> int:
        """Drawings whose first label is their own name."""
        return sum(guess.right for guess in self.guesses)

    @property
    def found(self) -> int:
        """Texts whose first drawing answers them."""
        return sum(search.right for search in self.searches)

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(timing.seconds for timing in self.timings)
