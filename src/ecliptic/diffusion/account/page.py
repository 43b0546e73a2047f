"""A `ConditioningReport` as one HTML page without scripts, also readable without colours.

Chunks are lines; words are shaded and underlined by weight; dropped words are struck through. A
pointer or a tap on a word shows its tokens and ids. All text is escaped.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path

from ecliptic.diffusion.account.report import ConditioningReport, PromptReport
from ecliptic.diffusion.account.wording import (
    name_budget,
    name_encoders,
    name_options,
    name_prompt,
    name_reading,
)
from ecliptic.diffusion.tokens.ledger import EncoderReading, LedgerRow, format_count
from ecliptic.markup import Child, Html, document, tag
from ecliptic.prompts import Span

_STYLE = Path(__file__).with_name("page.css")
_HEADS = ("Chunk", "Place", "Text", "Id", "Weight", "")
_KINDS = {"Text": "text", "": "state"}  # of the columns that are no numbers
_LEVELS = (0.15, 0.35, 0.65)  # distances from weight 1 at which the shade becomes deeper
_SHOWN_WEIGHTS = (0.3, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 2.0)  # in the legend


def report_html(report: ConditioningReport, title: str = "") -> str:
    """One self-contained page about a call; `title` is that of the window."""
    style = _STYLE.read_text(encoding="utf-8")
    header = tag("header", tag("h1", report.title), tag("p", name_options(report), class_="soft"))
    notes = [tag("li", tag("b", note.kind), ": ", note.text) for note in report.notes]
    main = tag(
        "main",
        tag("ul", notes, class_="notes") if notes else "",
        _write_overview(report),
        _write_legend() if any(prompt.readings for prompt in report.prompts) else "",
        [_write_prompt(report, prompt) for prompt in report.prompts if prompt.readings],
    )
    return document(title or report.title, style, header, main)


def _write_overview(report: ConditioningReport) -> Html:
    """Write what stands on each side at which steps, and the shapes of the result."""
    facts = [
        (tag("dt", name_prompt(report, one)), tag("dd", tag("span", one.summary, class_="clip")))
        for one in report.prompts
    ]
    shapes = [
        (tag("dt", one.name), tag("dd", f"{one.shape} {one.dtype}")) for one in report.tensors
    ]
    return tag(
        "section",
        tag("dl", facts, class_="facts sides"),
        tag("details", tag("summary", "Shapes"), tag("dl", shapes, class_="facts")),
        class_="card",
    )


def _write_legend() -> Html:
    weights = [tag("span", f"{weight:g}", class_=_name_class(weight)) for weight in _SHOWN_WEIGHTS]
    return tag(
        "p",
        tag("span", "Weight: ", [(one, " ") for one in weights]),
        tag("span", "solid line: above 1"),
        tag("span", "dashed line: below 1"),
        tag("span", tag("del", "struck through"), ": dropped"),
        tag("span", tag("span", "grey", class_="between"), ": not encoded"),
        tag("span", "hover or tap a word: its tokens"),
        class_="legend",
    )


def _write_prompt(report: ConditioningReport, prompt: PromptReport) -> Html:
    """Write one side as its encoders read it."""
    cards = [
        tag("h2", name_reading(report, prompt, group[0])) + _write_group(group)
        for group in prompt.groups
    ]
    return tag("section", map(Html, cards))


def _write_group(group: Sequence[EncoderReading]) -> Html:
    """Write what some encoders read alike."""
    reading = group[0]
    notes = [tag("p", note, class_="soft") for one in group for note in one.notes]
    return tag(
        "article",
        tag("h3", name_encoders(group)),
        tag("p", name_budget(reading), class_="soft"),
        notes,
        _write_chunks(reading) if reading.chunks else tag("p", reading.text, class_="prompt"),
        _write_table(reading) if reading.rows else "",
        class_="card",
    )


def _write_chunks(reading: EncoderReading) -> Iterator[Html]:
    """Write every chunk with its part of the prompt, then the dropped parts."""
    runs = list(reading.runs())
    edges = pairwise([0, *(rows[0].span[0] for _, rows in runs[1:]), len(reading.text)])
    written: dict[int | None, list[Child]] = {}
    for (chunk, rows), within in zip(runs, edges, strict=False):  # without a run, one edge is left
        written.setdefault(chunk, []).append(_write_words(rows, within, reading.text))
    for number, (used, available) in enumerate(reading.chunks):
        bar = tag("i", tag("b", style=f"width:{100 * used / available:.0f}%"))
        room = tag("p", f"Chunk {number}", bar, f"{used} of {available}", class_="room")
        words = written.get(number, [tag("span", "no words", class_="between")])
        yield tag("div", room, tag("p", words, class_="prompt"), class_="chunk")
    if lost := written.get(None):
        room = tag("p", f"Dropped: {format_count(len(reading.dropped))}", class_="room")
        words = [tag("del", part) for part in lost]
        yield tag("div", room, tag("p", words, class_="prompt"), class_="chunk dropped")


def _write_words(rows: Sequence[LedgerRow], within: Span, prompt: str) -> Iterator[Html]:
    """Write the tokens, and the text before, between and after them."""
    after = within[0]
    words = [list(tokens) for _, tokens in groupby(rows, key=lambda row: row.span)]
    for tokens, later in zip(words, [*words[1:], None], strict=True):
        first = tokens[0]
        yield from _write_between(prompt[after : first.span[0]])
        goes_on = later is not None and later[0].segment == first.segment
        yield _write_word(tokens, show_weight=first.weight != 1 and not goes_on)
        after = max(after, first.span[1])
    yield from _write_between(prompt[after : within[1]])


def _write_between(text: str) -> Iterator[Html]:
    if text.strip():
        yield tag("span", text, class_="between")
    elif text:
        yield tag("span", text)


def _write_word(rows: Sequence[LedgerRow], *, show_weight: bool) -> Html:
    """Write the characters once, even if they became several tokens."""
    first = rows[0]
    tokens = ", ".join(f"{row.piece} {'vector' if row.inversion else row.id}" for row in rows)
    place = first.state if first.chunk is None else f"chunk {first.chunk}, place {first.position}"
    return tag(
        "span",
        first.text,
        tag("sup", f"{first.weight:.3g}".replace("-", "−")) if show_weight else "",
        class_=_name_class(first.weight),
        tabindex="-1",
        data_about=f"{tokens} | {place} | weight {first.weight:g}",
    )


def _name_class(weight: float) -> str:
    """The class of a word: above or below 1, and how far."""
    if weight == 1:
        return "token"
    level = 1 + sum(abs(weight - 1) > edge for edge in _LEVELS)
    return f"token {'up' if weight > 1 else 'down'} by{level}"


def _write_table(reading: EncoderReading) -> Html:
    heads = [tag("th", head, scope="col", class_=_KINDS.get(head, "number")) for head in _HEADS]
    head = tag("thead", tag("tr", heads))
    table = tag("table", head, tag("tbody", map(_write_row, reading.rows)))
    summary = tag("summary", f"All {format_count(len(reading.rows))} in a table")
    return tag("details", summary, tag("div", table, class_="scroll"))


def _write_row(row: LedgerRow) -> Html:
    other = tag("small", f"token {row.piece}") if row.piece != row.text else ""
    cells: tuple[Child, ...] = (
        "–" if row.chunk is None else str(row.chunk),
        "–" if row.position is None else str(row.position),
        (row.text, other),
        "vector" if row.inversion else str(row.id),
        f"{row.weight:.3g}",
        "" if row.state == "kept" else row.state,
    )
    written = [
        tag("td", cell, class_=_KINDS.get(head, "number"))
        for head, cell in zip(_HEADS, cells, strict=True)
    ]
    return tag("tr", written, class_=row.state)
