"""The text side of one call: both sides' prompts parsed, encoded together, made equally long.

B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Iterator, Sequence

from ecliptic.diffusion.behaviours import Unequal
from ecliptic.diffusion.encoders import TextEncoder
from ecliptic.diffusion.joining import Row, level
from ecliptic.diffusion.ledger import Ledger, written_down
from ecliptic.diffusion.lines import LineEncoder, Prepared, lines_of
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.pieces import OF_LAYOUT, Piece
from ecliptic.diffusion.timeline import Timeline, timeline
from ecliptic.prompts import Line


class TextSide:
    """The prompts of one side (positive or negative) on their way through all encoders."""

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        encoders: Sequence[TextEncoder],
        options: Options,
        *,
        negative: bool = False,
        beside: "TextSide | None" = None,
    ) -> None:
        """Parse the prompts; nothing is encoded.

        Args:
            texts: one list of B prompts per encoder.
            encoders: the family's.
            options: of the call.
            negative: which side it is.
            beside: the other side, whose work on equal lines is shared where the rules allow.
        """
        self.texts = texts
        self.timeline: Timeline = timeline(texts, options, negative=negative)
        self.encoders = [LineEncoder(one, options, negative=negative) for one in encoders]
        self.batched = options.shares_means  # means are taken over what is encoded together
        if beside is not None and not self.batched:
            self.encoders = [
                theirs if theirs.layer == ours.layer else ours
                for theirs, ours in zip(beside.encoders, self.encoders, strict=True)
            ]

    def rows(self, alternative: int, step: int) -> list[Row]:
        """The levelled pieces of every prompt in force at `step`."""
        found = self.timeline.at(alternative, step)
        if self.batched:
            for encoder, readings in zip(self.encoders, found, strict=True):
                encoder.encode(readings)
        pieces = [
            [encoder.piece(reading) for reading in readings]
            for encoder, readings in zip(self.encoders, found, strict=True)
        ]
        return [level(row, self.empties) for row in zip(*pieces, strict=True)]

    @property
    def empties(self) -> list[Callable[[], Piece]]:
        """What encodes the empty prompt, per encoder."""
        return [encoder.empty for encoder in self.encoders]

    def losses(self) -> list[Ledger]:
        """The ledgers of whatever has a token without a place."""
        return [
            self.ledger(alternative, end)
            for alternative in range(len(self.timeline.weights))
            for end in self.timeline.ends(alternative)
            if any(found.laid.dropped for *_, found in self._prepared(alternative, end))
        ]

    def ledger(self, alternative: int, step: int, only: int | None = None) -> Ledger:
        """The tokens of every prompt, or of one, as they are at `step`."""
        found = Ledger()
        chunks: dict[tuple[int, int], int] = {}  # of lines before, per encoder and prompt
        for number, prompt, prepared in self._prepared(alternative, step):
            if only is not None and prompt != only:
                continue
            before = chunks.get((number, prompt), 0)
            chunks[number, prompt] = before + len(prepared.laid.rows.ids)
            found += written_down(
                self.texts[number][prompt],
                prepared.stream,
                prepared.laid,
                encoder=self.encoders[number].encoder.rule.part,
                chunk=before,
            )
        return found

    def _prepared(self, alternative: int, step: int) -> Iterator[tuple[int, int, Prepared]]:
        """(encoder, prompt, tokens of a line) of all that holds at `step`."""
        found = zip(self.encoders, self.timeline.at(alternative, step), strict=True)
        for number, (encoder, readings) in enumerate(found):
            for prompt, reading in enumerate(readings):
                for line in lines_of(reading):
                    yield number, prompt, encoder.prepare(line)


def encode_together(*sides: TextSide) -> None:
    """Encode every line of all sides, each encoder in one batch."""
    work: dict[int, tuple[LineEncoder, list[Line]]] = {}
    for side in sides:
        if side.batched:
            continue  # in `rows`, as its tool would
        for number, reading in side.timeline.everything():
            encoder = side.encoders[number]
            work.setdefault(id(encoder), (encoder, []))[1].extend(lines_of(reading))
    for encoder, lines in work.values():
        encoder.encode(lines)


def unequal_rule(options: Options) -> Unequal:
    """What makes prompts of different length equal under these options."""
    rule = options.behaviour.unequal
    return OF_LAYOUT.get(options.layout, "empty chunk") if rule == "layout" else rule
