"""A `ConditioningReport` as text for a terminal of 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence

from ecliptic.diffusion.account.report import ConditioningReport, PromptReport
from ecliptic.diffusion.account.wording import (
    name_budget,
    name_encoders,
    name_options,
    name_prompt,
    name_reading,
)
from ecliptic.diffusion.tokens.ledger import (
    EncoderReading,
    LedgerRow,
    escape_controls,
    write_columns,
)

_WIDTH = 80  # columns of the terminal
_INDENT = 20  # columns of names
_HEADS = ("chunk", "position", "id", "piece", "text", "weight", "")


def report_table(report: ConditioningReport) -> str:
    """The report in lines of text, control characters escaped."""
    parts = ["\n".join(_write_facts(report))]
    for prompt in report.prompts:
        parts += ["\n".join(_write_group(report, prompt, group)) for group in prompt.groups]
    return "\n\n".join(parts)


def _write_facts(report: ConditioningReport) -> Iterator[str]:
    """Write what is true of the whole call: a name and a value per line."""
    yield f"{report.title} ({report.family})"
    facts = [("options", name_options(report))] if report.options else []
    facts += [(one.name, f"{one.shape} {one.dtype}") for one in report.tensors]
    facts += [(name_prompt(report, one), one.summary) for one in report.prompts]
    facts += [("note", f"{note.kind}: {note.text}") for note in report.notes]
    for name, value in facts:
        if len(name) + 2 > _INDENT:
            yield name
            name = ""
        yield from _wrap(value, first=f"{name:<{_INDENT}}", later=" " * _INDENT)


def _write_group(
    report: ConditioningReport, prompt: PromptReport, group: Sequence[EncoderReading]
) -> Iterator[str]:
    """Write what some encoders read of a prompt."""
    reading = group[0]
    yield from _wrap(name_reading(report, prompt, reading))
    yield from _wrap(name_encoders(group))
    yield from _wrap(name_budget(reading))
    for note in (note for one in group for note in one.notes):
        yield from _wrap(note)
    if not reading.chunks:
        yield from _wrap(reading.text)
    if reading.rows:
        yield write_columns([_HEADS, *map(_cells, reading.rows)])


def _wrap(text: str, first: str = "", later: str = "  ") -> list[str]:
    shown = escape_controls(text)
    return textwrap.wrap(shown, _WIDTH, initial_indent=first, subsequent_indent=later) or [first]


def _cells(row: LedgerRow) -> tuple[str, ...]:
    return (
        "-" if row.chunk is None else str(row.chunk),
        "-" if row.position is None else str(row.position),
        "vector" if row.inversion else str(row.id),
        escape_controls(row.piece),
        escape_controls(row.text),
        f"{row.weight:g}",
        "" if row.state == "kept" else row.state,
    )
