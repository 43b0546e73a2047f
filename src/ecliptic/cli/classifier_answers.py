"""The answers of a classifier, as JSON values, on a terminal and in files."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecliptic.cli.labelled import BETWEEN
from ecliptic.cli.output import (
    count,
    print_json,
    print_table,
    print_text,
    rejects_of,
    say,
    table_fits,
)
from ecliptic.cli.rankings import csv_lines
from ecliptic.errors import printable
from ecliptic.scoring import NONE_OF_THESE
from ecliptic.storage import replace_file, text_writer
from ecliptic.tasks import SHARE, say_answer

if TYPE_CHECKING:
    from ecliptic.cli.gathering import NamedVectors
    from ecliptic.engine import Rejects
    from ecliptic.scoring import LabelTree
    from ecliptic.tasks import Classifier, Predictions

DIGITS = 6  # of a probability in a file
SHOWN = 20  # images on a terminal
_LISTS = ("labels", "groups")  # of an answer; they have no column in a CSV file
_ROUNDING = 1e-9  # of a sum of probabilities
Answer = dict[str, Any]


def answers_to_json(classifier: "Classifier", found: "Predictions", top_k: int) -> Iterator[Answer]:
    """The answers for images, without their names, as JSON values.

    Where the labels are a tree, `groups` has the sum of each group of labels.
    """
    tree = classifier.tree
    sums = tree.node_probabilities(found.probabilities).tolist() if tree else []
    for row in range(len(found)):
        answer = _to_json(found, row, top_k, several=classifier.several)
        if tree:
            chances = dict(zip(tree.names, sums[row], strict=True))
            answer["groups"] = _best({name: chances[name] for name in tree.groups})
        yield answer


def _to_json(found: "Predictions", row: int, top_k: int, *, several: bool) -> Answer:
    """One answer; that of an image may have no probability."""
    chances = dict(zip(found.names, found.probabilities[row].tolist(), strict=True))
    rest = 1 - sum(chances.values())
    if not several and rest > _ROUNDING:
        chances[NONE_OF_THESE] = rest
    name, sure = found.answer(row)
    answer: Answer = {
        "image": "",
        "answer": name,
        "probability": None if sure is None else round(sure, DIGITS),
        "abstained": bool(found.abstained[row]),
    }
    if found.sets:
        answer["set"] = list(found.sets[row])
    return answer | {"labels": _best(chances)[:top_k]}


def _best(chances: dict[str, float]) -> list[dict[str, Any]]:
    """Names with their probabilities, the likeliest first."""
    pairs = sorted(chances.items(), key=lambda pair: -pair[1])
    return [{"label": name, "probability": round(share, DIGITS)} for name, share in pairs]


def print_answers(answers: Sequence[Answer], classifier: "Classifier", out: Path | None) -> None:
    """Print one answer in full, or a line for each of the first images and how many there are."""
    several = classifier.several
    if len(answers) == 1:
        for line in _lines(answers[0], classifier.tree, several=several):
            print_text(line)
        return
    _print_table(answers[:SHOWN], several=several)
    if len(answers) > SHOWN:
        where = f"{out} has all" if out else "--out writes all"
        print_text(f"and {len(answers) - SHOWN:,} more; {where}")
    gone = sum(answer["abstained"] for answer in answers)
    print_text(
        f"{count(len(answers), 'image')}: {len(answers) - gone:,} answered, {gone:,} abstained"
    )


def _print_table(answers: Sequence[Answer], *, several: bool) -> None:
    """Print a line for each answer, with as many other labels as the terminal has room for."""
    has_sets = "set" in answers[0] and not several
    heads = ["image", "answer", *(["set"] if has_sets else []), "other labels"]
    rows = [
        [
            printable(answer["image"]),
            printable(_said(answer, several=several)),
            *([printable(_name_set(answer))] if has_sets else []),
        ]
        for answer in answers
    ]
    others = [list(map(printable, _others(answer, several=several))) for answer in answers]
    asked = max(map(len, others))
    for most in range(asked, -1, -1):
        named = [[*row, ", ".join(some[:most])] for row, some in zip(rows, others, strict=True)]
        if most == 0:
            heads, named = heads[:-1], rows
        if most == 0 or table_fits(heads, named):
            print_table(heads, named)
            if most < asked:
                print_text("the terminal is too narrow for all labels; --json has them")
            return


def _lines(answer: Answer, tree: "LabelTree | None", *, several: bool) -> Iterator[str]:
    """The answer and its labels, those of a tree below their groups."""
    has_set = "set" in answer and not several
    named = f" (set: {_name_set(answer)})" if has_set else ""
    yield f"{answer['image']}: {_said(answer, several=several)}{named}"
    shown = [*answer["labels"], *answer.get("groups", [])]
    chances = {one["label"]: one["probability"] for one in shown}
    for depth, name in _order(chances, tree):
        yield f"  {SHARE.format(chances[name]):>6}  {'  ' * depth}{name}"


def _order(chances: dict[str, float], tree: "LabelTree | None") -> list[tuple[int, str]]:
    """The names with their depth: each group before what is in it, the likeliest first."""
    if tree is None:
        return [(0, name) for name in chances]
    paths: dict[str, tuple[str, ...]] = {NONE_OF_THESE: (NONE_OF_THESE,)}
    for leaf, places in zip(tree.leaves, tree.paths, strict=True):
        path = (*(tree.groups[place] for place in places), leaf)
        paths |= {name: path[: depth + 1] for depth, name in enumerate(path)}
    keys = {
        name: [(-chances[step], step) for step in path]
        for name, path in paths.items()
        if name in chances
    }
    return [(len(keys[name]) - 1, name) for name in sorted(keys, key=keys.__getitem__)]


def _said(answer: Answer, *, several: bool) -> str:
    if several:
        return _name_set(answer) if answer["set"] else NONE_OF_THESE
    return say_answer(answer["answer"], answer["probability"], abstained=answer["abstained"])


def _name_set(answer: Answer) -> str:
    return ", ".join(answer["set"]) or "empty"


def _others(answer: Answer, *, several: bool) -> Iterator[str]:
    """The labels with their probabilities, without the one that is the answer."""
    for one in answer["labels"]:
        if several or one["label"] != answer["answer"]:
            yield f"{one['label']} {SHARE.format(one['probability'])}"


def print_json_answers(side: "NamedVectors", answers: Sequence[Answer]) -> None:
    """Print the answers, and the rejects in their places."""
    shown = dict(zip(side.places, answers, strict=True))
    shown |= {bad.index: {"image": bad.source, "reason": bad.reason} for bad in side.rejects}
    print_json([row for _, row in sorted(shown.items())])


def write_answers(path: Path, answers: Sequence[Answer], rejects: "Rejects") -> None:
    """Write a row for each image as CSV, or an object as JSONL; the rejects beside it."""
    if path.suffix.lower() == ".csv":
        columns = [name for name in answers[0] if name not in _LISTS]
        rows = ([_cell(answer[name]) for name in columns] for answer in answers)
        text = "".join(csv_lines(chain([columns], rows)))
    else:
        text = "".join(json.dumps(answer) + "\n" for answer in answers)
    replace_file(path, text_writer(text))
    rejects.write(rejects_of(path))
    say(f"results in {path}")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return BETWEEN.join(value)
    return value
