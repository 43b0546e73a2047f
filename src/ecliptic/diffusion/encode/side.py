"""One side of a call, positive or negative: its prompts, and their encodings by every encoder.

P prompts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ecliptic.diffusion.encode.encoders import TextEncoder, describe_output
from ecliptic.diffusion.encode.lengths import EncodedPrompt, Encoding, level
from ecliptic.diffusion.encode.lines import LineEncoder, holds_of, lines_of, pooled_lines_of
from ecliptic.diffusion.encode.request import Loras
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
        loras: Sequence[Loras] = (),
        base_steps: int | None = None,
    ) -> None:
        """Parse the prompts; nothing is encoded.

        Args:
            texts: one list of P prompts per encoder.
            encoders: of the family.
            options: of the call.
            negative: which side it is.
            beside: the other side; equal lines of both are encoded once if the options allow.
            loras: those of each prompt; () is none for all.
            base_steps: of the first pass, if this is the second.
        """
        self.texts = texts
        self._name = "negative" if negative else "prompt"
        self.timeline = read_timeline(texts, options, negative=negative, base_steps=base_steps)
        self._in_groups = options.shares_means  # lines of one moment share their means
        shared = () if beside is None or self._in_groups else beside.encoders
        known = {(one.encoder, one.loras, one.layer): one for row in shared for one in row}
        rows: dict[Loras, list[LineEncoder]] = {}  # prompts with the same LoRAs share theirs
        for some in dict.fromkeys(loras or [()]):
            made = [LineEncoder(e, options, negative=negative, loras=some) for e in encoders]
            rows[some] = [known.get((one.encoder, some, one.layer), one) for one in made]
        each = loras or [()] * len(texts[0])
        self.encoders: list[list[LineEncoder]] = [rows[some] for some in each]  # per prompt

    def moments(self) -> list[Moment]:
        """The parts of the timeline in which nothing changes."""
        numbers = range(self.timeline.count)
        return [(number, end) for number in numbers for end in self.timeline.ends(number)]

    def lines(self) -> Iterator[tuple[LineEncoder, Moment | None, Line]]:
        """Yield (encoder, group, line) of all lines to encode, with repetitions."""
        for moment in self.moments():
            group = moment if self._in_groups else None
            for prompt, encoder, reading in self._read(moment):
                if self.timeline.has(prompt, moment[0]):  # else it is a line of another moment
                    yield from ((encoder, group, line) for line in lines_of(reading))

    def _read(self, moment: Moment) -> Iterator[tuple[int, LineEncoder, Reading]]:
        """Yield (prompt, encoder, reading) of all readings at `moment`, encoder by encoder."""
        for number, readings in enumerate(self.timeline.at(*moment)):
            for prompt, reading in enumerate(readings):
                yield prompt, self.encoders[prompt][number], reading

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
        found: list[list[Encoding]] = [[] for _ in self.encoders]
        for prompt, encoder, reading in self._read(moment):
            found[prompt].append(encoder.encoding(reading, self._find_group(moment, prompt)))
        if not levelled:
            return [tuple(one) for one in found]
        return [level(tuple(one), self.empties(prompt)) for prompt, one in enumerate(found)]

    def empties(self, prompt: int) -> list[Encoding | None]:
        """The encodings of the empty prompt by the encoders of a prompt."""
        return [encoder.empty for encoder in self.encoders[prompt]]

    def _find_group(self, moment: Moment, prompt: int) -> Moment | None:
        """The group in which the lines of a prompt at `moment` were encoded."""
        if not self._in_groups:
            return None
        number = moment[0] if self.timeline.has(prompt, moment[0]) else 0
        ends = self.timeline.ends(number)
        return number, next((end for end in ends if moment[1] <= end), ends[-1])

    @property
    def only_pooled(self) -> bool:
        """Whether the family reads only the pooled vectors of its encoders."""
        return all(one.encoder.only_pooled for one in self.encoders[0])

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
            for prompt, reading in enumerate(readings):
                if only is None or prompt == only:
                    encoder = self.encoders[prompt][number]
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
        for _, encoder, reading in self._read(moment):
            yield from _tokenize_reading(encoder, reading)


def _tokenize_reading(encoder: LineEncoder, reading: Reading) -> Iterator[TokenizedLine]:
    """Yield the tokens of the lines of a reading; those that the encoder does not read dropped."""
    lines = lines_of(reading)
    read = pooled_lines_of(reading) if encoder.encoder.only_pooled else lines
    for line in lines:
        tokenized = encoder.tokenize(line)
        yield tokenized if line in read else tokenized.unread()
