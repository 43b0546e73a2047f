"""The token ledger: the characters, chunk, position and weight of every token.

A `Ledger` is one side of a call at one moment: an `EncoderReading` for each encoder and prompt,
with a `LedgerRow` for each token, also for dropped ones.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby

from ecliptic.diffusion.tokens.chunks import ChunkPlace, TokenizedLine
from ecliptic.diffusion.tokens.tokens import Token
from ecliptic.prompts import Span

_QUOTED = 80  # characters of dropped text in a message
_COLUMNS = ("encoder", "prompt", "chunk", "position", "id", "piece", "text", "weight", "kept")


@dataclass(frozen=True)
class LedgerRow:
    """One token of one prompt for one encoder."""

    encoder: str
    wording: str  # "prompt", "prompt_2", "negative", ...: the argument that gave the prompt
    prompt: int  # its place in the batch
    span: Span  # characters of that prompt
    text: str  # those characters
    piece: str  # the token as the vocabulary spells it, or the name of an inversion
    id: int
    word: int
    segment: int
    weight: float
    chunk: int | None  # None if it is dropped
    position: int | None  # in the chunk, start of text at 0
    kept: bool
    inversion: bool  # the token is a vector of a textual inversion

    @property
    def state(self) -> str:
        """What became of the token, in a word: kept or dropped."""
        return "kept" if self.kept else "dropped"

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"span": list(self.span)}


@dataclass(frozen=True)
class EncoderReading:
    """What one encoder reads of one prompt at one moment."""

    encoder: str
    text: str  # of the prompt, as given
    rows: tuple[LedgerRow, ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()  # (tokens used, tokens available) of each
    wording: str = "prompt"  # the argument that gave the text
    prompt: int = 0  # its place in the batch
    batch: int = 1  # prompts in it
    holds: str = ""  # the words that are encoded, without the syntax of the dialect
    output: str = ""  # what the model reads of this encoder
    same_as: str | None = None  # an encoder before this one with equal tokens
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> int:
        """Tokens that the chunks hold."""
        return sum(used for used, _ in self.chunks)

    @property
    def available(self) -> int:
        """Tokens that the chunks can hold, without their start and end."""
        return sum(available for _, available in self.chunks)

    @property
    def dropped(self) -> tuple[LedgerRow, ...]:
        """Rows of the tokens that no chunk holds."""
        return tuple(row for row in self.rows if not row.kept)

    @property
    def title(self) -> str:
        """Which prompt it is, in words: "prompt 2", or "negative, text 3 of 4" in a batch."""
        name = self.wording.replace("_", " ")
        return name if self.batch == 1 else f"{name}, text {self.prompt + 1} of {self.batch}"

    def runs(self) -> Iterator[tuple[int | None, tuple[LedgerRow, ...]]]:
        """Yield (chunk, rows) of rows that follow each other in one chunk, or are dropped."""
        for chunk, rows in groupby(self.rows, key=lambda row: row.chunk):
            yield chunk, tuple(rows)

    def repeats(self, other: "EncoderReading") -> bool:
        """Whether the tokens of both are equal, each in the same place."""
        own = tuple(replace(row, encoder=other.encoder) for row in self.rows)
        return (self.wording, self.prompt, self.text, self.chunks, own) == (
            *(other.wording, other.prompt, other.text, other.chunks, other.rows),
        )

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values; tokens and chunks as rows."""
        shown = asdict(replace(self, rows=()))
        shown |= {"notes": list(self.notes), "dropped": len(self.dropped)}
        shown |= {"used": self.used, "available": self.available}
        shown["chunks"] = [{"used": used, "available": room} for used, room in self.chunks]
        del shown["rows"]
        return shown | {"tokens": [row.to_json() for row in self.rows]}


@dataclass(frozen=True)
class Ledger:
    """The readings of one side of a call, by encoder and prompt."""

    readings: tuple[EncoderReading, ...] = ()

    def __add__(self, other: "Ledger") -> "Ledger":
        """Join two ledgers."""
        return Ledger((*self.readings, *other.readings))

    @cached_property
    def rows(self) -> tuple[LedgerRow, ...]:
        """Rows of all tokens, in order."""
        return tuple(row for reading in self.readings for row in reading.rows)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts as they were given, each once."""
        return tuple(dict.fromkeys(reading.text for reading in self.readings))

    @property
    def dropped(self) -> tuple[LedgerRow, ...]:
        """Rows of the tokens that no chunk holds."""
        return tuple(row for row in self.rows if not row.kept)

    def to_json(self) -> dict[str, object]:
        """Prompts and rows as JSON values."""
        return {"prompts": list(self.prompts), "tokens": [row.to_json() for row in self.rows]}

    def to_table(self) -> str:
        """The rows in columns of text, control characters escaped."""
        return write_columns([_COLUMNS, *(_cells(row) for row in self.rows)])


def read_tokens(
    text: str,
    lines: Sequence[TokenizedLine],
    *,
    encoder: str,
    wording: str = "prompt",
    prompt: int = 0,
) -> EncoderReading:
    """What `encoder` reads of a prompt.

    Args:
        text: of the prompt as given; the spans of the tokens refer to its characters.
        lines: the tokens and their places; several if the prompt blends or joins prompts.
        encoder: its name.
        wording: the argument that gave the prompt.
        prompt: its place in the batch.
    """
    rows: list[LedgerRow] = []
    chunks: list[tuple[int, int]] = []
    found = EncoderReading(encoder, text, wording=wording, prompt=prompt)
    for line in lines:
        pairs = zip(line.tokens, line.places, strict=True)
        rows += [_make_row(found, token, place, len(chunks)) for token, place in pairs]
        used = Counter(place[0] for place in line.places if place is not None)
        room = line.chunks.ids.shape[1] - 2  # without start and end
        chunks += [(used[number], room) for number in range(len(line.chunks))]
    return replace(found, rows=tuple(rows), chunks=tuple(chunks))


def _make_row(
    reading: EncoderReading, token: Token, place: ChunkPlace | None, before: int
) -> LedgerRow:
    """The row of one token of a line that has `before` chunks before it."""
    chunk, position = (None, None) if place is None else (place[0] + before, place[1])
    return LedgerRow(
        encoder=reading.encoder,
        wording=reading.wording,
        prompt=reading.prompt,
        span=token.span,
        text=reading.text[slice(*token.span)],
        piece=token.piece,
        id=token.id,
        word=token.word,
        segment=token.segment,
        weight=token.weight,
        chunk=chunk,
        position=position,
        kept=place is not None,
        inversion=token.vector is not None,
    )


def describe_losses(ledger: Ledger, *, only_pooled: bool = False) -> str:
    """Quote the dropped text of each prompt, for a TruncationWarning; "" if nothing is dropped.

    Encoders that lose the same characters are named together.

    Args:
        ledger: of one side.
        only_pooled: the family reads only the pooled vector, so that no layout can keep more.
    """
    losers: dict[tuple[str, str], dict[str, int]] = {}  # (title, text) -> encoder -> tokens
    for reading in ledger.readings:
        if rows := reading.dropped:
            key = reading.title, _quote(reading.text, rows)
            losers.setdefault(key, {})[reading.encoder] = len(rows)
    if not losers:
        return ""
    parts = []
    for (title, quoted), counts in losers.items():
        which = f"the {title}" if title in ("prompt", "negative") else title
        tokens = " and ".join(f"{format_count(count)} for {name}" for name, count in counts.items())
        parts.append(f"{which} loses {quoted} ({tokens})")
    lost = "; ".join(parts)
    if only_pooled:
        return (
            f"{lost}: only the pooled vector is read, which is that of the first chunk, whatever "
            "layout `long` names. Shorten it; a T5 beside it reads its own tokens."
        )
    return (
        f"{lost}: more than the context holds. Shorten it, or pass a `long` layout "
        'with more chunks, such as long="chunk".'
    )


def _quote(prompt: str, rows: Sequence[LedgerRow]) -> str:
    first, after = min(row.span[0] for row in rows), max(row.span[1] for row in rows)
    words = prompt[first:after]
    return repr(words if len(words) <= _QUOTED else f"{words[:_QUOTED]}...")


def _cells(row: LedgerRow) -> tuple[str, ...]:
    """The columns of a row, as text."""
    return (
        escape_controls(row.encoder),
        row.wording if not row.prompt else f"{row.wording}[{row.prompt}]",
        "-" if row.chunk is None else str(row.chunk),
        "-" if row.position is None else str(row.position),
        str(row.id),
        escape_controls(row.piece),
        escape_controls(row.text),
        f"{row.weight:g}",
        row.state,
    )


def write_columns(lines: Sequence[Sequence[str]]) -> str:
    """Lay out lines of cells in columns that are as wide as their widest cell."""
    widths = [max(map(_count_columns, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _count_columns(cell))
            for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _count_columns(text: str) -> int:
    """The columns of a terminal that a text takes (Unicode annex 11)."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def format_count(tokens: int) -> str:
    """Format a number of tokens, such as "2 tokens"."""
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"


def escape_controls(text: str) -> str:
    """Escape all characters that cannot be printed, so that the text stays on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
