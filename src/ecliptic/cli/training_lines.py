"""A training in words: the lines of a run, and what `--explain` prints."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ecliptic.cli.output import count, print_facts, print_table, print_text

if TYPE_CHECKING:
    from ecliptic.train import Explanation

Table = tuple[str, tuple[str, ...], Sequence[tuple[object, ...]]]


def describe(line: Mapping[str, Any], steps: int) -> str:
    """A line of the history for people: "step 50/4000  loss 3.21  rate 0.00025 ..."."""
    at = f"step {line['step']}/{steps}"
    if "evaluation" in line:
        return "  ".join([at, *_describe_evaluation(line["evaluation"])])
    if "calibration" in line:
        return f"{at}  {_describe_calibration(line['calibration'])}"
    if "stopped_before" in line:
        return f"{at}  stopped, with a state to go on from"
    names = ("loss", "text_loss", "concept_loss", "rate", "norm", "scale")
    words = [f"{name.replace('_', ' ')} {_number(line[name])}" for name in names if name in line]
    words.append(f"{_number(line['images_per_s'], 3)} images/s")
    words.append(f"step {line['step_s']:.3g} s, data {line['data_s']:.3g} s")
    if share := line.get("share_of_peak"):
        words.append(f"{share:.0%} of peak")
    if line["rejects"]:
        words.append(f"rejects {line['rejects']}")
    left = (steps - line["step"]) * (line["step_s"] + line["data_s"])
    return "  ".join([at, *words, *([f"{describe_seconds(left)} left"] if left else [])])


def describe_seconds(seconds: float) -> str:
    """ "12 s", "3:20 min", "1:05 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _describe_evaluation(found: Mapping[str, float]) -> Iterator[str]:
    """ "held_out.image_to_text R@1 0.31 R@5 0.58", for each task."""
    for task in dict.fromkeys(name.rpartition(".at_")[0] for name in found if ".at_" in name):
        shares = (f"R@{k} {_number(found[f'{task}.at_{k}'], 3)}" for k in (1, 5))
        yield f"{task} {' '.join(shares)}"


def _describe_calibration(found: Mapping[str, Any]) -> str:
    kept = found["calibration"]
    return (
        f'calibration: temperature {_number(kept["temperature"], 3)}, level of "none of these" '
        f"{_number(kept['none'], 3)}; calibration error {_number(found['error'], 3)}, without it "
        f"{_number(found['plain_error'], 3)}"
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "not finite" if value is None else f"{value:.{digits}g}"


def print_explanation(found: "Explanation") -> None:
    """Print what a run will do."""
    print_facts(_list_facts(found))
    for title, columns, rows in _list_tables(found):
        print_text("")
        print_table(columns, [[_cell(value) for value in row] for row in rows], title)
    for note in found.notes:
        print_text(f"\nnote: {note}", lines=True)


def _list_tables(found: "Explanation") -> Iterator[Table]:
    """Title, columns and rows of each table."""
    yield (
        "Parameters",
        ("tower", "layer", "parameters ", "trained ", "rate "),
        [(r.tower, r.layer, r.parameters, r.trained, r.rate or "frozen") for r in found.layers],
    )
    yield (
        "Groups of the optimiser, rates after the warm-up",
        ("rate ", "decay ", "tensors ", "parameters "),
        [(r.rate, r.decay, r.tensors, r.parameters) for r in found.groups],
    )
    columns: tuple[str, ...] = ("source", "examples ", "held out ", "pairs drawn ", "epochs ")
    rows: list[tuple[object, ...]] = [
        (r.source, r.examples, r.held_out, r.pairs, r.epochs) for r in found.sources
    ]
    if any(row.in_wordnet is not None for row in found.sources):
        columns = (*columns, "names in WordNet ")
        known = ("" if r.in_wordnet is None else r.in_wordnet for r in found.sources)
        rows = [(*row, count) for row, count in zip(rows, known, strict=True)]
    yield "Sources", columns, rows
    if found.texts:
        yield (
            "Text pairs",
            ("source", "words ", "pairs drawn ", "epochs "),
            [(r.source, r.texts, r.pairs, r.epochs) for r in found.texts],
        )


def _list_facts(found: "Explanation") -> dict[str, str]:
    every = sum(row.parameters for row in found.layers)
    trained = sum(row.trained for row in found.layers)
    timed = ", ".join(f"{name} {s:.3g} s" for name, s in found.precision_seconds.items())
    memory = found.memory_bytes
    sets = ", ".join(f"{name} ({count(n, 'image')})" for name, n in found.evaluations.items())
    return {
        "name": found.name,
        "start": found.start,
        "trained": f"{trained:,} of {every:,} parameters",
        "steps": f"{found.steps:,}, each of {count(found.batch, 'pair')}: {found.pairs:,} in all",
        "device": found.device,
        "precision": found.precision + (f", the faster one of {timed}" if timed else ", as set"),
        "a step": f"{found.step_seconds:.3g} s; its data {found.data_seconds:.3g} s, measured",
        "the run": f"about {describe_seconds(found.run_seconds)}, without evaluations and states",
        "memory": "not known" if memory is None else f"{memory / 1e6:,.0f} MB at most in one step",
        "a state": f"{found.checkpoint_bytes / 1e6:,.0f} MB on disk, with its model",
        "evaluated on": sets or "nothing; set data.held_out or evaluate.sets",
    }


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
