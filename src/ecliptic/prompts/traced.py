"""Text with the place in the prompt of each of its characters."""

from collections.abc import Iterable
from dataclasses import dataclass

from ecliptic.prompts.reading import Span


@dataclass(slots=True)  # one per token, and frozen ones are slow to make
class Traced:
    """A piece of a prompt, without escapes and branches."""

    text: str
    places: tuple[int, ...]  # place in the prompt of each character

    @classmethod
    def whole(cls, text: str) -> "Traced":
        """The text of a whole prompt."""
        return cls(text, tuple(range(len(text))))

    def __getitem__(self, cut: slice) -> "Traced":
        return Traced(self.text[cut], self.places[cut])

    @property
    def span(self) -> Span:
        """From the first character to after the last; (0, 0) for an empty text."""
        return (self.places[0], self.places[-1] + 1) if self.places else (0, 0)

    def place(self, index: int) -> int:
        """The place of character `index`; the end is after the last character."""
        if index < len(self.places):
            return self.places[index]
        return self.span[1]


def join(pieces: Iterable[Traced]) -> Traced:
    """Join several texts in order."""
    pieces = list(pieces)
    places = tuple(place for piece in pieces for place in piece.places)
    return Traced("".join(piece.text for piece in pieces), places)
