"""The part of `ecliptic classify` that fits, judges, saves and uses a classifier."""

import json as json_text
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import typer

from ecliptic.cli.classifier_flags import PATH_STEP, SEVERAL, TREE, ClassifierFlags, split_paths
from ecliptic.cli.exits import REJECTED, checks_usage, leave
from ecliptic.cli.flags import ModelFlags
from ecliptic.cli.gathering import NamedVectors, gather
from ecliptic.cli.labelled import BETWEEN, LabelledImages, read_labelled_images
from ecliptic.cli.output import print_json, print_text, rejects_of, say
from ecliptic.cli.rankings import csv_lines, files_of
from ecliptic.cli.sources import ImageSources
from ecliptic.engine import STDIN, Clip, Rejects
from ecliptic.report import classification_page
from ecliptic.scoring import NONE_OF_THESE, make_tree
from ecliptic.settings import to_dict
from ecliptic.storage import check_outputs, replace_file, text_writer
from ecliptic.tasks import (
    SHARE,
    Classifier,
    Predictions,
    check_classifier_path,
    check_label,
)

DIGITS = 6  # of a probability in a file
_ROUNDING = 1e-9  # of a sum of probabilities


@dataclass(frozen=True)
class ClassifierTask:
    """What a call of the command asks for, beside the labels and the model."""

    sources: ImageSources
    flags: ClassifierFlags
    top_k: int
    out: Path | None
    force: bool
    json: bool

    def check(self, read: Sequence[str | Path]) -> None:
        """Raise before the work for paths that cannot be, and flags that do nothing."""
        flags = self.flags
        flags.check()
        if flags.save:
            with checks_usage():
                check_classifier_path(flags.save)
        if flags.evaluate and self.sources.inputs:
            raise typer.BadParameter(
                "--evaluate judges the images of its table; leave PATH out, or --evaluate."
            )
        if self.out and not self.sources.inputs:
            raise typer.BadParameter("--out writes the answers for PATH; name images, or leave it.")
        if self.sources.inputs or not (flags.evaluate or flags.save):
            self.sources.check()
        given = [*(self.sources.inputs or ()), *flags.inputs(), *read]
        if [str(path) for path in given].count(STDIN) > 1:
            raise typer.BadParameter(
                "standard input, -, can be read only once; put the other into a file."
            )
        inputs = chain(self.sources.files(), flags.inputs(), read)
        check_outputs([*files_of(self.out), *flags.outputs()], inputs, force=self.force)


def run_classifier(
    task: ClassifierTask,
    names: Sequence[str] | None,
    templates: str | list[str] | None,
    model: ModelFlags,
) -> None:
    """Fit or load a classifier, judge it or classify images, and print what comes of it.

    Args:
        task: what is asked for; checked.
        names: the labels; None for those of --classifier.
        templates: for the texts of the labels.
        model: the flags of the model.
    """
    clip, flags = model.clip(), task.flags
    classifier = _make(clip, flags, names, templates)
    rejected = 0
    if flags.calibrate:
        labelled = _read(flags.calibrate, classifier, task.sources.column)
        rejected += len(labelled.rejects)
        classifier.fit(
            labelled.vectors,
            _truth(labelled, classifier),
            promises=flags.promises(),
            **flags.settings(),
        )
        for line in classifier.describe():
            say(line)
    if flags.save:
        classifier.save(flags.save, overwrite=task.force)
        say(f"classifier in {flags.save}")
    if flags.evaluate:
        rejected += _evaluate(task, classifier)
    if task.sources.inputs:
        rejected += _classify(task, classifier)
    elif task.json and not flags.evaluate:
        print_json({"labels": list(classifier.labels), "fit": to_dict(classifier.summary)})
    leave(REJECTED, when=rejected > 0)


def _make(
    clip: Clip,
    flags: ClassifierFlags,
    names: Sequence[str] | None,
    templates: str | list[str] | None,
) -> Classifier:
    """The classifier of --classifier, or one of labels, which may be paths in a tree."""
    sure = flags.read_sure()
    if flags.classifier:
        classifier = Classifier.load(flags.classifier, clip)
        if sure is not None and classifier.tree is None:
            raise typer.BadParameter(
                f"--abstain {TREE} needs labels in a tree, but {flags.classifier} has none."
            )
        classifier.sure = sure or classifier.sure
        return classifier
    if sure is None and not any(PATH_STEP in name for name in names or ()):
        return Classifier(clip, tuple(names or ()), templates, several=flags.several)
    if flags.several:
        raise typer.BadParameter(
            f"labels with {PATH_STEP} are a tree, which is for one label per image; leave out the "
            f"{PATH_STEP}, or --method {SEVERAL}."
        )
    if sure is None:
        say(
            f"note: labels with {PATH_STEP} are a tree; add --abstain {TREE}=0.8 to answer with a "
            "group where no label is sure"
        )
    return Classifier(clip, make_tree(split_paths(names or ())), templates, sure=sure)


def _read(path: Path, classifier: Classifier, column: str | None) -> LabelledImages:
    def check(label: str) -> None:
        for name in _split(label) if classifier.several else [label]:
            check_label(name, classifier.labels)

    return read_labelled_images(path, classifier.clip, column, check)


def _truth(labelled: LabelledImages, classifier: Classifier) -> list[Any]:
    return list(map(_split, labelled.labels)) if classifier.several else list(labelled.labels)


def _split(labels: str) -> list[str]:
    return [label.strip() for label in labels.split(BETWEEN) if label.strip()]


def _evaluate(task: ClassifierTask, classifier: Classifier) -> int:
    """Print the report on --evaluate, and write its page; returns the number of rejects."""
    path = task.flags.evaluate
    assert path is not None
    labelled = _read(path, classifier, task.sources.column)
    truth = _truth(labelled, classifier)
    report = classifier.evaluate(labelled.vectors, truth, labelled.names)
    if task.json:
        print_json(report.to_json() | {"rejected": labelled.rejects.to_json()})
    else:
        for line in report.lines():
            print_text(line)
    if page := task.flags.page:
        html = classification_page(report, labelled.sources, classifier.describe())
        replace_file(page, text_writer(html))
        say(f"report in {page}")
    return len(labelled.rejects)


def _classify(task: ClassifierTask, classifier: Classifier) -> int:
    """Print the answers for PATH, and write them to --out; returns the number of rejects."""
    side = gather(task.sources, classifier.clip)
    side.report()
    answers: list[dict[str, Any]] = []
    for block in side.blocks():
        found = classifier.predict(block)
        to_json = partial(_to_json, found, top_k=task.top_k, several=classifier.several)
        answers += map(to_json, range(len(found)))
    for name, answer in zip(side.names, answers, strict=True):
        answer["image"] = name
    if task.json:
        _print_json(side, answers)
    else:
        for line in chain.from_iterable(map(_lines, answers)):
            print_text(line)
    if task.out:
        _write(task.out, answers, side.rejects)
    return len(side.rejects)


def _to_json(found: Predictions, row: int, *, top_k: int, several: bool) -> dict[str, Any]:
    """One answer as JSON values; the answer of an image may have no probability."""
    chances = found.probabilities[row].tolist()
    pairs = [*zip(found.names, chances, strict=True)]
    rest = 1 - sum(chances)
    if not several and rest > _ROUNDING:
        pairs.append((NONE_OF_THESE, rest))
    best = sorted(pairs, key=lambda pair: -pair[1])[:top_k]
    sure = float(found.confidences[row])
    answer: dict[str, Any] = {
        "image": "",
        "answer": found.labels[row],
        "probability": None if math.isnan(sure) else round(sure, DIGITS),
        "abstained": bool(found.abstained[row]),
    }
    if found.sets:
        answer["set"] = list(found.sets[row])
    if found.nodes:
        answer["node"] = found.nodes[row]
    shares = [{"label": name, "probability": round(share, DIGITS)} for name, share in best]
    return answer | {"labels": shares}


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    said = "abstains" if answer["abstained"] else answer["answer"]
    if answer.get("node") and not answer["abstained"]:
        said = answer["node"]
    if "set" in answer:
        said += f" (set: {', '.join(answer['set']) or 'empty'})"
    yield f"{answer['image']}: {said}"
    for one in answer["labels"]:
        yield f"  {SHARE.format(one['probability']):>6}  {one['label']}"


def _print_json(side: NamedVectors, answers: Sequence[dict[str, Any]]) -> None:
    """Print the answers, and the rejects in their places."""
    shown = dict(zip(side.places, answers, strict=True))
    shown |= {bad.index: {"image": bad.source, "reason": bad.reason} for bad in side.rejects}
    print_json([row for _, row in sorted(shown.items())])


def _write(path: Path, answers: Sequence[dict[str, Any]], rejects: Rejects) -> None:
    """Write a row for each image as CSV, or an object as JSONL; the rejects beside it."""
    if path.suffix.lower() == ".csv":
        columns = [name for name in answers[0] if name != "labels"]
        rows = ([_cell(answer[name]) for name in columns] for answer in answers)
        text = "".join(csv_lines(chain([columns], rows)))
    else:
        text = "".join(json_text.dumps(answer) + "\n" for answer in answers)
    replace_file(path, text_writer(text))
    rejects.write(rejects_of(path))
    say(f"results in {path}")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return BETWEEN.join(value)
    return value
