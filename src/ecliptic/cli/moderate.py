"""`ecliptic moderate`: which images show a concept, and why; it never deletes or moves a file."""

import dataclasses
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, expands
from ecliptic.cli.output import print_json, say, say_rejects
from ecliptic.cli.rankings import SUFFIXES, files_of
from ecliptic.cli.sources import ImageSources

if TYPE_CHECKING:
    from ecliptic.cli.moderation_labels import Labelled
    from ecliptic.tasks import ImageVerdict, Moderator

SAVED = ".safetensors"


@dataclasses.dataclass(frozen=True)
class RuleFlags:
    """What is looked for."""

    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Concepts in a .toml file, or what --save wrote (.safetensors)."
        ),
    ] = None
    safety_checker: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="In place of rules: the safety checker of Stable Diffusion or DeepFloyd IF, its "
            "folder or file, or the folder of a pipeline.",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class LabelFileFlags:
    """Images that people labelled: to set thresholds, and to measure them."""

    tune: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Set the thresholds on a table with a column `image` (or --column) and one for "
            "each concept, with 1 or 0.",
        ),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(
            help="With --tune: share of the images with the concept that must be found.",
            show_default="0.95",
        ),
    ] = None
    wanted_precision: Annotated[
        float | None,
        typer.Option(help="With --tune, in place of --recall: share of flags that must be right."),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(help="With --tune: how sure the promise is.", show_default="0.9"),
    ] = None
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rules with their thresholds (.safetensors)."),
    ] = None
    audit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measure the thresholds on another such table."),
    ] = None
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="With --audit: column of groups to measure apart."),
    ] = None
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="With --audit: share of all images of your site that show the concept.",
            show_default="that of the table",
        ),
    ] = None

    def check(self) -> None:
        """Raise for a flag that would do nothing."""
        for flag, value, other, needed in (
            ("--recall", self.recall, "--tune", self.tune),
            ("--wanted-precision", self.wanted_precision, "--tune", self.tune),
            ("--confidence", self.confidence, "--tune", self.tune),
            ("--group", self.group, "--audit", self.audit),
            ("--prevalence", self.prevalence, "--audit", self.audit),
        ):
            if value is not None and needed is None:
                raise typer.BadParameter(f"{flag} does nothing without {other} FILE.")
        if self.recall is not None and self.wanted_precision is not None:
            raise typer.BadParameter("give either --recall or --wanted-precision.")
        if self.save and self.save.suffix != SAVED:
            raise typer.BadParameter(f"--save {self.save} must end in {SAVED}.")


@dataclasses.dataclass(frozen=True)
class QueueFlags:
    """Where the images go that a person should see."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=f"Write the review queue to a {' or '.join(SUFFIXES)} file.",
        ),
    ] = None
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the review queue as one HTML page of pictures."),
    ] = None
    sample: Annotated[
        int,
        typer.Option(min=0, help="Add so many of the other images to the queue, drawn at random."),
    ] = 0
    seed: Annotated[int | None, typer.Option(help="Of that sample.", show_default="0")] = None

    def check(self, images: list[str] | None) -> None:
        """Raise for a flag that would do nothing."""
        if not images and (self.out or self.page or self.sample):
            raise typer.BadParameter("--out, --page and --sample need images to moderate.")
        if self.sample and not (self.out or self.page):
            raise typer.BadParameter("--sample does nothing without --out or --page.")
        if self.seed is not None and not self.sample:
            raise typer.BadParameter("--seed does nothing without --sample.")


@expands
def moderate(
    *,
    sources: ImageSources,
    rules: RuleFlags,
    labelled: LabelFileFlags,
    queue: QueueFlags,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Say which images show a concept, and why.

    No file is deleted, moved or changed. Images that cannot be used are never allowed: they are
    listed on stderr and in the queue, with --out also in FILE.rejects.jsonl, and the exit code is
    3.
    """
    _check(sources, rules, labelled, queue)
    if model.model != "mini" and rules.safety_checker:
        raise typer.BadParameter("--safety-checker has a model of its own; leave --model out.")
    from ecliptic.storage import check_outputs

    given = [rules.rules, rules.safety_checker, labelled.tune, labelled.audit, model.model]
    outputs = [*files_of(queue.out), *filter(None, (queue.page, labelled.save))]
    check_outputs(outputs, chain(sources.files(), filter(None, given)), force=force)
    told: dict[str, Any] = {}
    if rules.safety_checker:
        rejected = _check_with_checker(sources, rules.safety_checker, model, queue, told, json=json)
    else:
        rejected = _moderate(sources, rules, labelled, queue, model, told, json=json)
    if json:
        print_json(told)
    leave(REJECTED, when=rejected)


def _check(
    sources: ImageSources, rules: RuleFlags, labelled: LabelFileFlags, queue: QueueFlags
) -> None:
    """Raise for wrong combinations of flags, before the work."""
    if (rules.rules is None) == (rules.safety_checker is None):
        raise typer.BadParameter("give either --rules FILE or --safety-checker PATH.")
    if rules.safety_checker and (labelled.tune or labelled.audit or labelled.save):
        raise typer.BadParameter(
            "--tune, --audit and --save are for --rules; a safety checker has fixed thresholds."
        )
    labelled.check()
    queue.check(sources.inputs)
    if sources.inputs:
        sources.check()
    elif not (labelled.tune or labelled.audit or labelled.save):
        raise typer.BadParameter("name images, folders or tables to moderate.")


def _moderate(
    sources: ImageSources,
    rules: RuleFlags,
    labelled: LabelFileFlags,
    queue: QueueFlags,
    model: ModelFlags,
    told: dict[str, Any],
    *,
    json: bool,
) -> bool:
    """Tune, audit and moderate with rules; returns whether anything was rejected."""
    from ecliptic.tasks import Moderator

    path, clip = rules.rules or Path(), model.clip()
    saved = path.suffix == SAVED
    moderator = Moderator.load(path, clip) if saved else Moderator.from_rules(path, clip)
    rejected = _tune_and_audit(moderator, sources, labelled, told, json=json)
    told["rules"] = moderator.version
    if labelled.save:
        moderator.save(labelled.save, overwrite=True)  # `check_outputs` has looked
        say(f"rules {moderator.version} in {labelled.save}")
    if not sources.inputs:
        return rejected
    from ecliptic.cli.gathering import gather
    from ecliptic.tasks import reject

    side = gather(sources, clip)
    say_rejects(side.rejects, len(side.rejects))
    found = moderator.check(side.matrix(), side.names) if side.names else []
    placed = dict(zip(side.places, found, strict=True))
    for bad in side.rejects:
        placed[bad.index] = reject(bad.source, bad.reason, moderator.version)
    pictures = dict(zip(side.names, side.images, strict=True))
    verdicts = [verdict for _, verdict in sorted(placed.items())]
    _report(verdicts, pictures, side.rejects, queue, told, json=json)
    return rejected or len(side.rejects) > 0


def _tune_and_audit(
    moderator: "Moderator",
    sources: ImageSources,
    labelled: LabelFileFlags,
    told: dict[str, Any],
    *,
    json: bool,
) -> bool:
    """Work on the labelled tables; returns whether a row was rejected."""
    from ecliptic.cli.moderation_tables import print_audit, print_tuning, tuning_to_json

    rejected = False
    if labelled.tune:
        table = _read(labelled.tune, moderator, sources, None)
        given = labelled.confidence
        moderator.fit(
            table.vectors,
            table.truth,
            recall=labelled.recall,
            precision=labelled.wanted_precision,
            **({} if given is None else {"confidence": given}),
        )
        rejected = len(table.rejects) > 0
        told["tuned"] = tuning_to_json(moderator)
        if not json:
            print_tuning(moderator)
    if labelled.audit:
        table = _read(labelled.audit, moderator, sources, labelled.group)
        report = moderator.audit(
            table.vectors,
            table.truth,
            groups=table.groups or None,
            prevalence=labelled.prevalence,
        )
        rejected = rejected or len(table.rejects) > 0
        told["audit"] = report.to_json()
        if not json:
            print_audit(report)
    return rejected


def _read(
    path: Path, moderator: "Moderator", sources: ImageSources, group: str | None
) -> "Labelled":
    from ecliptic.cli.moderation_labels import read_labelled

    names = [one.name for one in moderator.concepts]
    return read_labelled(path, moderator.clip, names, sources.column, group)


def _check_with_checker(
    sources: ImageSources,
    path: str,
    model: ModelFlags,
    queue: QueueFlags,
    told: dict[str, Any],
    *,
    json: bool,
) -> bool:
    """Moderate with a released checker; returns whether an image was rejected."""
    from ecliptic.engine import Rejects
    from ecliptic.errors import ImageError
    from ecliptic.tasks import SafetyChecker, reject

    for given in filter(sources.is_stored, sources.inputs or ()):
        raise typer.BadParameter(
            f"{given} holds vectors, but a safety checker needs images: it has its own model."
        )
    checker = SafetyChecker.load(
        path, device=model.device, precision=model.precision, offline=model.offline or None
    )
    items = [item for _, some in sources.sets(sources.inputs or ()) for item in some]
    usable = [item for item in items if item.error is None]
    found = iter(checker.check([one.value for one in usable], [one.name for one in usable]))
    verdicts: list[ImageVerdict] = []
    rejects = Rejects()
    for place, item in enumerate(items):
        error = item.error
        verdict = reject(item.name, str(error), checker.version) if error else next(found)
        verdicts.append(verdict)
        if verdict.error:
            rejects.add(place, item.name, error or ImageError(verdict.error))
    say_rejects(rejects, len(rejects))
    told["rules"] = checker.version
    pictures = {item.name: item.value for item in items if item.value}
    _report(verdicts, pictures, rejects, queue, told, json=json)
    return len(rejects) > 0


def _report(
    verdicts: "list[ImageVerdict]",
    pictures: dict[str, Any],
    rejects: Any,
    queue: QueueFlags,
    told: dict[str, Any],
    *,
    json: bool,
) -> None:
    """Print and write the verdicts."""
    from ecliptic.cli.moderation_tables import print_verdicts, write_queue
    from ecliptic.tasks import review_queue, sample_accepted

    waiting = review_queue(verdicts)
    sampled = sample_accepted(verdicts, queue.sample, queue.seed or 0)
    told["verdicts"] = [verdict.to_json() for verdict in verdicts]
    if not json:
        print_verdicts(verdicts, waiting)
    if queue.out:
        write_queue(queue.out, waiting, sampled, rejects)
    if queue.page:
        from ecliptic.report import review_page
        from ecliptic.storage import replace_file, text_writer

        page = review_page(waiting, sampled, pictures, total=len(verdicts))
        replace_file(queue.page, text_writer(page))
        say(f"the page is {queue.page}")
    if queue.sample:
        accepted = sum(not verdict.flagged for verdict in verdicts)
        told["sample"] = {"sampled": len(sampled), "accepted": accepted}
        say(
            f"{len(sampled)} of {accepted} accepted images are in the queue; label them too: with "
            "`recall_with_sample` they tell how many images are missed"
        )
