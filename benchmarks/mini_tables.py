"""The tables of docs/mini.md, as Markdown, from what `benchmarks.mini` measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.naming import BEST, PHRASES, SMALL, Share, Shares

ROWS = {  # measure: what it is, of the first table
    "design": "a design that was never trained on (fxemoji), among all 1,708 names",
    "concepts": (
        "concepts that no drawing of the training showed under its name, in all 8 designs, among "
        "their 67 names"
    ),
    "concepts_among_all": "the same among all 1,708 names",
    **{f"design_at_{n}px": f"fxemoji shown at {n} x {n} pixels" for n in SMALL},
}
WORDS = {  # of the second table
    "phrases": f'which of {len(PHRASES)} phrases fits, such as "a vehicle": all drawings',
    "phrases_mean": "the same, mean of the phrases",
    "keywords": f"one of the best {BEST} drawings for a keyword has it: all keywords",
    "keywords_seen": "the same, drawings of concepts that were trained on",
    "keywords_unseen": "the same, drawings of concepts that were not",
    "photos.at_1": "the caption of a photograph among those of all",
}
SPEEDS = {  # of the last table: what it is, and how it is written
    "pixels_per_s": ("images/s, from pixels", "{:,.0f}"),
    "png_files_per_s": ("images/s, from PNG files", "{:,.0f}"),
    "captions_per_s": ("captions/s", "{:,.0f}"),
    "megabytes": ("size on disk, MB", "{:.1f}"),
    "parameters": ("parameters", "{:,}"),
}


@dataclass(frozen=True)
class Measured:
    """What was found of one model."""

    name: str
    numbers: Mapping[str, float]  # speed and size
    shares: Shares


def write_tables(models: Sequence[Measured], threads: int) -> str:
    """Markdown: places, words, groups, phrases, and speed and size; a column for each model."""
    parts = [_write_speed(models, threads)]
    if models[0].shares:
        groups = _suffixes(models[0].shares, "group.", ".at_1")
        phrases = _suffixes(models[0].shares, "phrase.", "")
        parts[:0] = [
            _write_places("what is named", ROWS, models),
            _write_shares("other words", WORDS, models),
            _write_places(
                "group of fxemoji, among all names", {f"group.{g}": g for g in groups}, models
            ),
            _write_shares("phrase", {f"phrase.{p}": p for p in phrases}, models),
        ]
    return "\n\n".join(parts)


def _suffixes(shares: Shares, before: str, after: str) -> list[str]:
    return [
        key.removeprefix(before).removesuffix(after)
        for key in shares
        if key.startswith(before) and key.endswith(after)
    ]


def _write_places(title: str, rows: Mapping[str, str], models: Sequence[Measured]) -> str:
    """Recall at 1 and at 5 of each row and model."""
    columns = [(model, place) for model in models for place in ("1", "5")]
    heads = [f"{_prefix(model, models)}recall at {place}" for model, place in columns]
    lines = [
        [label, _count(models, f"{row}.at_1")]
        + [_cell(model.shares.get(f"{row}.at_{place}")) for model, place in columns]
        for row, label in rows.items()
    ]
    return _table([title, "pictures", *heads], lines)


def _write_shares(title: str, rows: Mapping[str, str], models: Sequence[Measured]) -> str:
    heads = [f"{_prefix(model, models)}right" for model in models]
    lines = [
        [label, _count(models, row), *(_cell(model.shares.get(row)) for model in models)]
        for row, label in rows.items()
        if any(row in model.shares for model in models)
    ]
    return _table([title, "of", *heads], lines)


def _write_speed(models: Sequence[Measured], threads: int) -> str:
    lines = [
        [label, *(form.format(model.numbers[key]) for model in models)]
        for key, (label, form) in SPEEDS.items()
    ]
    return _table([f"{threads} threads", *(model.name for model in models)], lines)


def _prefix(model: Measured, models: Sequence[Measured]) -> str:
    return f"{model.name}: " if len(models) > 1 else ""


def _count(models: Sequence[Measured], key: str) -> str:
    return next((f"{m.shares[key].count:,}" for m in models if key in m.shares), "")


def _cell(share: Share | None) -> str:
    return f"{share.value:.3f} ({share.low:.2f}–{share.high:.2f})" if share else "–"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
