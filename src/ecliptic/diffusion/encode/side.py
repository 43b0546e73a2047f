"""One side of a call, positive or negative: its prompts, and their encodings by every encoder.

P prompts.
"""

from collections.abc import Iterator, Sequence

from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.lengths import EncodedPrompt, Encoding, level
from ecliptic.diffusion.encode.lines import LineEncoder, lines_of
from ecliptic.diffusion.encode.request import Loras
from ecliptic.diffusion.encode.timeline import read_timeline
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.tokens.chunks import TokenizedLine
from ecliptic.diffusion.tokens.ledger import Ledger, ledger_of
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

    def losses(self) -> list[Ledger]:
        """The ledgers of every moment at which a token is dropped."""
        return [
            self.ledger(moment)
            for moment in self.moments()
            if any(line.dropped for *_, line in self._tokenize(moment))
        ]

    def ledger(self, moment: Moment, only: int | None = None) -> Ledger:
        """The tokens of every prompt, or of one, as they are at `moment`."""
        found = Ledger()
        chunks: dict[tuple[int, int], int] = {}  # of lines before, by encoder and prompt
        for number, prompt, line in self._tokenize(moment):
            if only is not None and prompt != only:
                continue
            before = chunks.get((number, prompt), 0)
            chunks[number, prompt] = before + len(line.chunks)
            part = self.encoders[prompt][number].encoder.rule.part
            found += ledger_of(self.texts[number][prompt], line, encoder=part, chunk=before)
        return found

    def _tokenize(self, moment: Moment) -> Iterator[tuple[int, int, TokenizedLine]]:
        """Yield (encoder, prompt, tokens of a line) of all lines at `moment`."""
        for number, readings in enumerate(self.timeline.at(*moment)):
            for prompt, reading in enumerate(readings):
                for line in lines_of(reading):
                    yield number, prompt, self.encoders[prompt][number].tokenize(line)
