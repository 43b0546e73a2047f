"""Text that remembers where in the prompt each of its characters stood."""

from collections.abc import Iterable
from dataclasses import dataclass

from ecliptic.prompts.reading import Span


@dataclass(slots=True)  # frozen ones are slow to make, and there is one for each token
class Traced:
    """A piece of a prompt after escapes and branches were taken out."""

    text: str
    places: tuple[int, ...]  # place in the prompt of each character

    @classmethod
    def whole(cls, text: str) -> "Traced":
        """A prompt as it was given."""
        return cls(text, tuple(range(len(text))))

    def __getitem__(self, cut: slice) -> "Traced":
        return Traced(self.text[cut], self.places[cut])

    @property
    def span(self) -> Span:
        """From the first character to behind the last; (0, 0) of an empty text."""
        return (self.places[0], self.places[-1] + 1) if self.places else (0, 0)

    def place(self, index: int) -> int:
        """Where character `index` stood; the end stands behind the last character."""
        if index < len(self.places):
            return self.places[index]
        return self.span[1]


def joined(pieces: Iterable[Traced]) -> Traced:
    """One text out of several, in order."""
    pieces = list(pieces)
    places = tuple(place for piece in pieces for place in piece.places)
    return Traced("".join(piece.text for piece in pieces), places)
