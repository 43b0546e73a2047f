"""What `ecliptic moderate` prints and writes: verdicts, tuned thresholds, audits."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecliptic.cli.output import count, print_first, print_table, print_text, rejects_of, say
from ecliptic.cli.rankings import csv_lines
from ecliptic.storage import replace_file, text_writer

if TYPE_CHECKING:
    from ecliptic.engine import Rejects
    from ecliptic.scoring import Interval
    from ecliptic.tasks import AuditReport, ImageVerdict, Moderator, Reason

HEADER = (
    *("image", "why", "action", "concepts", "concept", "score", "threshold", "margin"),
    *("nearest", "contrast", "note", "rules", "error"),
)
FLAGGED, SAMPLED = "flagged", "sample"  # why an image is in the queue


def print_verdicts(
    verdicts: "Sequence[ImageVerdict]", queue: "Sequence[ImageVerdict]", out: Path | None
) -> None:
    """Print the first flagged images, and how many there are of each action.

    Images without a score are not in the table: `say_rejects` lists them with the reason.
    """
    heads = ("image", "action", "concept", "score ", "margin ", "most like")
    print_first(heads, [_cells(verdict) for verdict in queue if not verdict.error], out)
    counts = Counter(verdict.action for verdict in verdicts)
    actions = ", ".join(f"{number:,} {action}" for action, number in sorted(counts.items()))
    print_text(f"{count(len(queue), 'image')} of {len(verdicts):,} flagged ({actions})")


def say_unreached(verdicts: "Iterable[ImageVerdict]") -> None:
    """Name the thresholds that no image reached, with the highest score: they may be too high."""
    highest: dict[str, Reason] = {}
    for reason in chain.from_iterable(verdict.reasons for verdict in verdicts):
        best = highest.setdefault(reason.concept, reason)
        if reason.score > best.score:
            highest[reason.concept] = reason
    for concept, best in highest.items():
        if not best.flagged:
            say(
                f"note: no image reaches {best.threshold:.4g} for {concept}; the highest score is "
                f"{best.score:.4g}"
            )


def _cells(verdict: "ImageVerdict") -> tuple[str, ...]:
    best = verdict.reasons[0]
    numbers = f"{best.score:.3f}", f"{best.margin:+.3f}"
    return verdict.name, verdict.action, ", ".join(verdict.concepts), *numbers, best.nearest


def write_queue(
    path: Path,
    queue: "Sequence[ImageVerdict]",
    sampled: "Sequence[ImageVerdict]",
    rejects: "Rejects",
) -> None:
    """Write the flagged images, then the sample of the others, as CSV or JSONL."""
    rows = [(FLAGGED, one) for one in queue] + [(SAMPLED, one) for one in sampled]
    if path.suffix.lower() == ".csv":
        text = "".join(csv_lines([HEADER, *(_to_row(*row) for row in rows)]))
    else:
        text = "".join(json.dumps({"why": why, **one.to_json()}) + "\n" for why, one in rows)
    replace_file(path, text_writer(text))
    rejects.write(rejects_of(path))
    say(f"review queue of {count(len(rows), 'image')} in {path}")


def _to_row(why: str, verdict: "ImageVerdict") -> tuple[Any, ...]:
    """The cells of `HEADER`."""
    cells: tuple[Any, ...] = ("",) * 7
    if verdict.reasons:
        best = verdict.reasons[0]
        values = (round(value, 6) for value in (best.score, best.threshold, best.margin))
        cells = (best.concept, *values, best.nearest, best.contrast, best.note)
    concepts = "; ".join(verdict.concepts)
    start = (verdict.name, why, verdict.action, concepts)
    return (*start, *cells, verdict.rules, verdict.error)


def print_tuning(moderator: "Moderator") -> None:
    """Print the thresholds that were set, and on how many images."""
    rows = [
        (
            concept.name,
            f"{concept.threshold:.4f}",
            f"{tuning.target} {tuning.wanted:g} at confidence {tuning.confidence:g}",
            f"{tuning.positives:,}",
            f"{tuning.false_alarms:,} of {tuning.negatives:,}",
        )
        for concept, tuning in zip(moderator.concepts, moderator.ruleset.tunings, strict=True)
        if tuning is not None and concept.threshold is not None
    ]
    heads = ("concept", "threshold ", "promise", "positives ", "flagged negatives ")
    print_table(heads, rows)
    for concept, tuning in zip(moderator.concepts, moderator.ruleset.tunings, strict=True):
        if tuning is not None and tuning.target == "precision":
            print_text(
                f"{concept.name}: the promise of a precision is approximate, and holds where at "
                f"least {tuning.prevalence:.2%} of the images show the concept, as in this table"
            )


def tuning_to_json(moderator: "Moderator") -> list[dict[str, Any]]:
    """The same as data."""
    pairs = zip(moderator.concepts, moderator.ruleset.tunings, strict=True)
    return [{"concept": one.name, **vars(tuning)} for one, tuning in pairs if tuning is not None]


def print_audit(report: "AuditReport", *, prevalence: float | None = None) -> None:
    """Print recall, false alarms, precision and load of each concept and group.

    `prevalence` is what the user gave for all concepts; None: each share is that of the table.
    """
    rows = [
        (
            one.concept,
            one.group,
            f"{one.positives:,}",
            f"{one.negatives:,}",
            _show(one.recall),
            _show(one.false_alarm_rate),
            _show(one.precision),
            _show(one.load),
        )
        for one in report.slices
    ]
    heads = ("concept", "group", "positives ", "negatives ", "recall", "false alarms")
    print_table((*heads, "precision", "review load"), rows)
    if prevalence is not None:
        print_text(f"precision and load where {prevalence:.2%} of the images show the concept")
        return
    for concept, share in {one.concept: one.prevalence for one in report.slices}.items():
        print_text(
            f"{concept}: precision and load where {share:.2%} of the images show it, as in the "
            "whole table"
        )


def _show(found: "Interval | None") -> str:
    """A share with its interval, or that it is not known."""
    return found.show("{:.1%}") if found else "not known"
