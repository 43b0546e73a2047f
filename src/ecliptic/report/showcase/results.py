"""The results of the demo as plain data, which the page and the summary show."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecliptic.inputs import Reject, TokenSpan
from ecliptic.report.questions import Picture
from ecliptic.report.showcase.drawn import Drawn
from ecliptic.scoring import NONE_OF_THESE, Interval, PairedComparison, wilson


@dataclass(frozen=True)
class Guess:
    """The most likely labels for one picture."""

    picture: Picture
    labels: tuple[tuple[str, float], ...]  # (label, probability), most likely first

    @property
    def right(self) -> bool:
        """Whether the first label is the picture's own name."""
        return self.labels[0][0] == self.picture.name

    @property
    def open(self) -> bool:
        """Whether the model says that none of the labels fits."""
        return self.labels[0][0] == NONE_OF_THESE


@dataclass(frozen=True)
class Hit:
    """One picture that a search found."""

    picture: Picture
    cosine: float
    fits: bool | None = None  # whether it is a correct answer; None if unknown


@dataclass(frozen=True)
class Search:
    """The pictures nearest to a text or to another picture, nearest first."""

    query: str | Picture
    hits: tuple[Hit, ...]

    @property
    def right(self) -> bool:
        """Whether the first hit is a correct answer."""
        return bool(self.hits[0].fits)


@dataclass(frozen=True)
class Matrix:
    """The cosines of some texts with some pictures."""

    rows: tuple[str, ...]
    columns: tuple[Picture, ...]
    cosines: tuple[tuple[float, ...], ...]  # one tuple per row


@dataclass(frozen=True)
class Answers:
    """What a model says about the pictures, the strongest answers first."""

    guesses: tuple[Guess, ...]  # one per picture; none if there is only one label
    searches: tuple[Search, ...]  # with a text
    neighbours: tuple[Search, ...]  # with a picture
    less: tuple[Search, ...]  # a text alone, then with less of another; and the next
    matrix: Matrix

    @property
    def right(self) -> int:
        """The number of pictures whose first label is their own name."""
        return sum(guess.right for guess in self.guesses)

    @property
    def found(self) -> int:
        """The number of texts whose first hit is a correct answer."""
        return sum(search.right for search in self.searches)


@dataclass(frozen=True)
class Caution:
    """What a model answers if it abstains below a probability."""

    least: float  # probability of an answer; "none of these" is no answer
    pictures: int
    answered: int
    right: int | None  # of the answers; None if nobody knows

    @property
    def accuracy(self) -> Interval | None:
        """The share of answers that are right; None without any, or if nobody knows."""
        known = self.right is not None and self.answered > 0
        return wilson(self.right, self.answered) if known and self.right is not None else None


@dataclass(frozen=True)
class CaptionScores:
    """How well pictures fit their own names, and those of the others."""

    own: Interval  # mean cosine, CLIP-T
    others: float  # mean cosine with all other names
    comparison: PairedComparison


@dataclass(frozen=True)
class Taste:
    """What a few ratings taught about pictures that were not rated."""

    rated: int
    order: Interval  # Spearman's correlation of held-out scores with the ratings
    ranked: tuple[tuple[Picture, float, bool], ...]  # score, and whether it is liked; best first


@dataclass(frozen=True)
class Judgements:
    """How far the answers can be trusted; what needs right answers is None without them."""

    cautions: tuple[Caution, ...]  # none if there is only one label
    captions: CaptionScores | None = None
    taste: Taste | None = None


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
    items: int = 0  # images or texts; 0 if the step has no rate


@dataclass(frozen=True)
class Scope:
    """The images that the demo is about."""

    pictures: tuple[Picture, ...]  # encoded
    rejects: tuple[Reject, ...]  # drawn, but not usable
    offered: int  # from which both were drawn
    known: bool  # whether the right answers are known, as for the bundled drawings


@dataclass(frozen=True)
class DemoResult:
    """All results of the demo, and the path of its page."""

    path: Path
    embedded: bool  # whether it is the built-in model
    card: Mapping[str, Any]  # `Card.to_dict` of the model
    space: str  # fingerprints, hexadecimal
    exact: str
    scope: Scope
    answers: Answers
    judgements: Judgements
    drawn: tuple[Drawn, ...]  # none unless it is the built-in model and its drawings
    readings: tuple[TokenReading, ...]
    timings: tuple[Timing, ...]
    machine: str

    @property
    def seconds(self) -> float:
        """The time of all steps together."""
        return sum(timing.seconds for timing in self.timings)
