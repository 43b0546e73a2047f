"""The token ledger as one HTML page without scripts, also readable without colours.

It shows the prompt as each encoder reads it: chunks as boxes, tokens shaded by weight, dropped
tokens struck through. A table of the rows follows. All text is escaped.
"""

import html
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from ecliptic.diffusion.tokens.ledger import Ledger, LedgerRow, escape_controls, format_count
from ecliptic.prompts import Span

_STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #111; background: #fff }
.chunk { border: 2px solid #555; border-radius: 6px; margin: .5rem 0; padding: .5rem }
.chunk h3 { font-size: .8rem; margin: 0; color: #444 }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }
.token { border-bottom: 2px solid #555; margin: 0 1px }
.between { color: #595959 }
sup { font-size: .65rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: bold }
th, td { border: 1px solid #bbb; padding: .1rem .5rem; text-align: left; white-space: pre-wrap }
.dropped td, .dropped { background: #eee }
"""
_HEADS = ("Chunk", "Position", "Text", "Token", "Id", "Word", "Weight", "Kept")
_STRONGEST = 2.0  # weights this high, or as far below 1, have the deepest shade
_PALEST = 100  # percent of lightness, at weight 1
_DEEPEST = 72  # dark text stays readable on it


def ledger_html(ledger: Ledger, title: str = "Token ledger") -> str:
    """One self-contained page about `ledger`."""
    sections = "".join(_write_section(ledger, *key) for key in _readers(ledger))
    written = _escape_line(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{written}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{written}</h1>\n<p>Orange is a weight above 1, blue one below; the "
        "number after a token is its weight. Text that is struck through does not reach the "
        f"encoder.</p>\n{sections}</main></body></html>\n"
    )


def _readers(ledger: Ledger) -> Iterator[tuple[int, str]]:
    """Yield (prompt, encoder) in order; then prompts without tokens, with "" as encoder."""
    yield from dict.fromkeys((row.prompt, row.encoder) for row in ledger.rows)
    read = {row.prompt for row in ledger.rows}
    yield from ((number, "") for number in range(len(ledger.prompts)) if number not in read)


def _write_section(ledger: Ledger, prompt: int, encoder: str) -> str:
    rows = [row for row in ledger.rows if (row.prompt, row.encoder) == (prompt, encoder)]
    name = _escape_line(f"Prompt {prompt}" + (f", {encoder}" if encoder else ""))
    if not rows:
        return f"<section><h2>{name}</h2><p>No tokens: the empty prompt.</p></section>\n"
    boxes = [list(tokens) for _, tokens in groupby(rows, key=lambda row: row.chunk)]
    text = ledger.prompts[prompt]
    edges = [0, *(box[0].span[0] for box in boxes[1:]), len(text)]
    shown = "".join(_write_box(*part, text) for part in zip(boxes, pairwise(edges), strict=True))
    return f"<section><h2>{name}</h2>\n{shown}{_write_table(rows, name)}</section>\n"


def _write_box(rows: list[LedgerRow], within: Span, prompt: str) -> str:
    """Write the part of the prompt in one chunk, or the dropped part."""
    chunk = rows[0].chunk
    head = f"{'Dropped' if chunk is None else f'Chunk {chunk}'}, {format_count(len(rows))}"
    written = "".join(_write_tokens(rows, within, prompt))
    body, kind = (f"<del>{written}</del>", "chunk dropped") if chunk is None else (written, "chunk")
    return f'<div class="{kind}"><h3>{head}</h3><p class="prompt">{body}</p></div>\n'


def _write_tokens(rows: list[LedgerRow], within: Span, prompt: str) -> Iterator[str]:
    """Write the tokens, and the text before, between and after them."""
    after = within[0]
    for span, tokens in groupby(rows, key=lambda row: row.span):
        yield _write_between(prompt[after : span[0]])
        yield _write_token(list(tokens))
        after = span[1]
    yield _write_between(prompt[after : within[1]])


def _write_between(text: str) -> str:
    return f'<span class="between">{_escape(text)}</span>' if text else ""


def _escape(text: str) -> str:
    """Escape text of the prompt, but keep its line breaks."""
    return "\n".join(map(_escape_line, text.split("\n")))


def _escape_line(text: str) -> str:
    return html.escape(escape_controls(text))


def _write_token(rows: list[LedgerRow]) -> str:
    """Write the characters once, even if they became several tokens."""
    first = rows[0]
    tokens = ", ".join(f"{row.piece} ({row.id})" for row in rows)
    title = _escape_line(f"{tokens}; weight {first.weight:g}")
    number = "" if first.weight == 1 else f"<sup>{first.weight:g}</sup>"
    return (
        f'<span class="token" style="background:{_shade(first.weight)}" title="{title}">'
        f"{_escape(first.text)}{number}</span>"
    )


def _shade(weight: float) -> str:
    strength = min(abs(weight - 1) / (_STRONGEST - 1), 1.0)
    lightness = _PALEST - (_PALEST - _DEEPEST) * strength
    return f"hsl({28 if weight > 1 else 210} 90% {lightness:.0f}%)"


def _write_table(rows: Iterable[LedgerRow], name: str) -> str:
    heads = "".join(f'<th scope="col">{head}</th>' for head in _HEADS)
    body = "".join(_write_row(row) for row in rows)
    return (
        f"<table><caption>Tokens of {name}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _write_row(row: LedgerRow) -> str:
    cells = (
        "–" if row.chunk is None else str(row.chunk),
        "–" if row.position is None else str(row.position),
        row.text,
        row.piece,
        "vector" if row.inversion else str(row.id),
        str(row.word),
        f"{row.weight:g}",
        "kept" if row.kept else "dropped",
    )
    written = "".join(f"<td>{_escape_line(cell)}</td>" for cell in cells)
    return f'<tr class="dropped">{written}</tr>' if not row.kept else f"<tr>{written}</tr>"
