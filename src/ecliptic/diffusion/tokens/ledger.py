"""The token ledger: the characters, chunk, position and weight of every token.

It has one row for each token of each prompt and encoder, also for dropped ones, as a table and as
JSON; `ledger_page.py` writes it as a page.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from ecliptic.diffusion.tokens.chunks import TokenizedLine
from ecliptic.prompts import Span

_QUOTED = 80  # characters of dropped text in a message
_COLUMNS = ("encoder", "prompt", "chunk", "position", "id", "piece", "text", "weight", "kept")


@dataclass(frozen=True)
class LedgerRow:
    """One token of one prompt for one encoder."""

    encoder: str
    prompt: int  # place in the ledger's prompts
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

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"span": list(self.span)}


@dataclass(frozen=True)
class Ledger:
    """The tokens of prompts, in order."""

    rows: tuple[LedgerRow, ...] = ()
    prompts: tuple[str, ...] = ()  # as they were given

    def __add__(self, other: "Ledger") -> "Ledger":
        """Join two ledgers; a prompt in both is listed once."""
        prompts = list(self.prompts)
        prompts += [prompt for prompt in dict.fromkeys(other.prompts) if prompt not in prompts]
        number = {index: prompts.index(prompt) for index, prompt in enumerate(other.prompts)}
        moved = (replace(row, prompt=number[row.prompt]) for row in other.rows)
        return Ledger((*self.rows, *moved), tuple(prompts))

    @property
    def dropped(self) -> tuple[LedgerRow, ...]:
        """Rows of the tokens that no chunk holds."""
        return tuple(row for row in self.rows if not row.kept)

    def to_json(self) -> dict[str, object]:
        """Prompts and rows as JSON values."""
        return {"prompts": list(self.prompts), "tokens": [row.to_json() for row in self.rows]}

    def to_table(self) -> str:
        """The rows in columns of text, control characters escaped."""
        lines = [_COLUMNS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def ledger_of(prompt: str, line: TokenizedLine, *, encoder: str, chunk: int = 0) -> Ledger:
    """The ledger of one line of `prompt` for one encoder.

    Args:
        prompt: as given; the spans of the tokens refer to its characters.
        line: the tokens and their places.
        encoder: its name.
        chunk: number of the first chunk; above 0 if other lines of the prompt come first.
    """
    rows = []
    for token, place in zip(line.tokens, line.places, strict=True):
        found, position = (None, None) if place is None else (place[0] + chunk, place[1])
        row = LedgerRow(
            encoder=encoder,
            prompt=0,
            span=token.span,
            text=prompt[slice(*token.span)],
            piece=token.piece,
            id=token.id,
            word=token.word,
            segment=token.segment,
            weight=token.weight,
            chunk=found,
            position=position,
            kept=place is not None,
            inversion=token.vector is not None,
        )
        rows.append(row)
    return Ledger(tuple(rows), (prompt,))


def describe_losses(ledger: Ledger, *, only_pooled: bool = False) -> str:
    """Quote the dropped text of each prompt, for a TruncationWarning; "" if nothing is dropped.

    Encoders that lose the same characters are named together.

    Args:
        ledger: of one side.
        only_pooled: the family reads only the pooled vector, so that no layout can keep more.
    """
    dropped: dict[tuple[int, str], list[LedgerRow]] = {}  # by prompt and encoder
    for row in ledger.dropped:
        dropped.setdefault((row.prompt, row.encoder), []).append(row)
    losers: dict[tuple[int, str], dict[str, int]] = {}  # (prompt, text) -> encoder -> tokens
    for (prompt, encoder), rows in dropped.items():
        losers.setdefault((prompt, _quote(ledger.prompts[prompt], rows)), {})[encoder] = len(rows)
    if not losers:
        return ""
    parts = []
    for (prompt, quoted), counts in losers.items():
        which = f"prompt {prompt}" if len(ledger.prompts) > 1 else "the prompt"
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
        str(row.prompt),
        "-" if row.chunk is None else str(row.chunk),
        "-" if row.position is None else str(row.position),
        str(row.id),
        escape_controls(row.piece),
        escape_controls(row.text),
        f"{row.weight:g}",
        "kept" if row.kept else "dropped",
    )


def format_count(tokens: int) -> str:
    """Format a number of tokens, such as "2 tokens"."""
    return f"{tokens} token{'' if tokens == 1 else 's'}"


def escape_controls(text: str) -> str:
    """Escape all characters that cannot be printed, so that the text stays on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
