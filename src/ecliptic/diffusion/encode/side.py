"""One side of a call, positive or negative: its prompts, and their encodings by every encoder.

P prompts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ecliptic.diffusion.encode.encoders import TextEncoder, describe_output
from ecliptic.diffusion.encode.lengths import EncodedPrompt, level
from ecliptic.diffusion.encode.lines import LineEncoder, holds_of, lines_of, pooled_lines_of
from ecliptic.diffusion.encode.timeline import read_timeline
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.tokens.chunks import TokenizedLine
from ecliptic.diffusion.tokens.ledger import EncoderReading, Ledger, read_tokens
from ecliptic.prompts import Line, Reading

Moment = tuple[int, int]  # (alternative of AND, last step of a part of the schedule)


class Side:
    """The prompts of one side for all encoders."""

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        encoders: Sequence[TextEncoder],
        options: Options,
        *,
        negative: bool = False,
        beside: "Side | None" = None,
    ) -> None:
        """Parse the prompts; nothing is encoded.

        Args:
            texts: one list of P prompts per encoder.
            encoders: of the family.
            options: of the call.
            negative: which side it is.
            beside: the other side; equal lines of both are encoded once if the options allow.
        """
        self.texts = texts
        self._name = "negative" if negative else "prompt"
        self.timeline = read_timeline(texts, options, negative=negative)
        self.encoders = [LineEncoder(one, options, negative=negative) for one in encoders]
        self._in_groups = options.shares_means  # lines of one moment share their means
        if beside is not None and not self._in_groups:
            self.encoders = [
                theirs if theirs.layer == ours.layer else ours
                for theirs, ours in zip(beside.encoders, self.encoders, strict=True)
            ]

    def moments(self) -> list[Moment]:
        """The parts of the timeline in which nothing changes."""
        numbers = range(len(self.timeline.weights))
        return [(number, end) for number in numbers for end in self.timeline.ends(number)]

    def lines(self) -> Iterator[tuple[LineEncoder, Moment | None, Line]]:
        """Yield (encoder, group, line) of all lines to encode, with repetitions."""
        for moment in self.moments():
            group = moment if self._in_groups else None
            for encoder, readings in zip(self.encoders, self.timeline.at(*moment), strict=True):
                for reading in readings:
                    yield from ((encoder, group, line) for line in lines_of(reading))

    @property
    def mixes(self) -> bool:
        """Whether a prompt blends or joins several, which needs the empty prompt too."""
        return any(not isinstance(reading, Line) for reading in self.timeline.readings())

    def prompts(self, moment: Moment, *, levelled: bool = True) -> list[EncodedPrompt]:
        """The encodings of every prompt at `moment`.

        Args:
            moment: an alternative, and a step.
            levelled: make the encodings of one prompt equally long.
        """
        number, step = moment
        ends = self.timeline.ends(number)
        group = None
        if self._in_groups:
            group = number, next((end for end in ends if step <= end), ends[-1])
        parts = [
            [encoder.encoding(reading, group) for reading in readings]
            for encoder, readings in zip(self.encoders, self.timeline.at(*moment), strict=True)
        ]
        found = list(zip(*parts, strict=True))
        empties = [encoder.empty for encoder in self.encoders]
        return [level(prompt, empties) for prompt in found] if levelled else found

    @property
    def only_pooled(self) -> bool:
        """Whether the family reads only the pooled vectors of its encoders."""
        return all(one.encoder.only_pooled for one in self.encoders)

    def losses(self) -> list[Ledger]:
        """The ledgers of every moment at which a token is dropped."""
        return [
            self.ledger(moment)
            for moment in self.moments()
            if any(line.dropped for line in self._tokenize(moment))
        ]

    def ledger(
        self, moment: Moment, only: int | None = None, more: Sequence[EncoderReading] = ()
    ) -> Ledger:
        """The tokens of every prompt, or of one, as they are at `moment`.

        Args:
            moment: an alternative, and a step.
            only: number of one prompt.
            more: readings of encoders that are not a CLIP.
        """
        found = []
        for number, readings in enumerate(self.timeline.at(*moment)):
            encoder = self.encoders[number]
            for prompt, reading in enumerate(readings):
                if only is None or prompt == only:
                    read = read_tokens(
                        text := self.texts[number][prompt],
                        list(_tokenize_reading(encoder, reading)),
                        encoder=encoder.encoder.rule.part,
                        wording=self.name_wording(text, prompt),
                        prompt=prompt if only is None else 0,
                    )
                    batch = len(readings) if only is None else 1
                    holds, output = holds_of(reading), describe_output(encoder.encoder.rule)
                    found.append(replace(read, batch=batch, holds=holds, output=output))
        return Ledger((*found, *more))

    def name_wording(self, text: str, prompt: int) -> str:
        """The argument of the call that gave `text` for a prompt."""
        first, *others = dict.fromkeys(one[prompt] for one in self.texts)
        if text == first:
            return self._name
        number = others.index(text) + 2 if text in others else len(others) + 2
        return f"{self._name}_{number}"

    def _tokenize(self, moment: Moment) -> Iterator[TokenizedLine]:
        """Yield the tokens of all lines at `moment`."""
        for encoder, prompts in zip(self.encoders, self.timeline.at(*moment), strict=True):
            for reading in prompts:
                yield from _tokenize_reading(encoder, reading)


def _tokenize_reading(encoder: LineEncoder, reading: Reading) -> Iterator[TokenizedLine]:
    """Yield the tokens of the lines of a reading; those that the encoder does not read dropped."""
    lines = lines_of(reading)
    read = pooled_lines_of(reading) if encoder.encoder.only_pooled else lines
    for line in lines:
        tokenized = encoder.tokenize(line)
        yield tokenized if line in read else tokenized.unread()
