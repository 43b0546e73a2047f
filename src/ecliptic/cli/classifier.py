"""The part of `ecliptic classify` that fits, judges, saves and uses a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import typer

from ecliptic.cli.classifier_answers import (
    Answer,
    answers_to_json,
    print_answers,
    print_json_answers,
    write_answers,
)
from ecliptic.cli.classifier_flags import PATH_STEP, SEVERAL, TREE, ClassifierFlags, split_paths
from ecliptic.cli.exits import REJECTED, checks_usage, leave
from ecliptic.cli.flags import ModelFlags
from ecliptic.cli.gathering import gather
from ecliptic.cli.labelled import BETWEEN, LabelledImages, read_labelled_images
from ecliptic.cli.output import print_json, print_text, say
from ecliptic.cli.rankings import files_of
from ecliptic.cli.sources import ImageSources
from ecliptic.engine import STDIN, Clip
from ecliptic.report import classification_page
from ecliptic.scoring import make_tree
from ecliptic.settings import to_dict
from ecliptic.storage import check_outputs, replace_file, text_writer
from ecliptic.tasks import Classifier, check_classifier_path, check_label


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
        if self.sources.inputs or not (flags.evaluate or flags.calibrate):
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
    elif not (task.sources.inputs or flags.evaluate):
        say("note: the classifier is not saved; add --save kinds.safetensors")
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
    answers: list[Answer] = []
    for block in side.blocks():
        answers += answers_to_json(classifier, classifier.predict(block), task.top_k)
    for name, answer in zip(side.names, answers, strict=True):
        answer["image"] = name
    if task.json:
        print_json_answers(side, answers)
    else:
        print_answers(answers, classifier, task.out)
    if task.out:
        write_answers(task.out, answers, side.rejects)
    return len(side.rejects)
