"""`ecliptic moderate`: which images show a concept, and why; it never deletes or moves a file."""

import dataclasses
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, check_written, expands
from ecliptic.cli.moderation_flags import LabelFileFlags, QueueFlags, RuleFlags
from ecliptic.cli.output import print_json, rejects_of, say, say_rejects
from ecliptic.cli.rankings import files_of
from ecliptic.cli.sources import ImageSources

if TYPE_CHECKING:
    from ecliptic.cli.moderation_labels import Labelled
    from ecliptic.engine import Item, Rejects
    from ecliptic.tasks import AuditReport, ImageVerdict, Moderator, SafetyChecker


OUTPUTS = "--out, --page or --save"


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is read, how, and what is told of it."""

    sources: ImageSources
    labelled: LabelFileFlags
    queue: QueueFlags
    model: ModelFlags
    json: bool
    told: dict[str, Any] = dataclasses.field(default_factory=dict)  # for --json

    def tell_audit(self, report: "AuditReport") -> None:
        """Print an audit, or keep it for --json."""
        from ecliptic.cli.moderation_tables import print_audit

        self.told["audit"] = report.to_json()
        if not self.json:
            print_audit(report, prevalence=self.labelled.prevalence)


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
    _check_model(sources, rules, labelled, model)
    outputs = [*files_of(queue.out), *filter(None, (queue.page, labelled.save))]
    given = [rules.rules, rules.safety_checker, labelled.tune, labelled.audit, model.model]
    images = chain(sources.files(), rules.files(), labelled.files(sources.column))
    check_written(outputs, chain(filter(None, given), images), force=force, flags=OUTPUTS)
    task = _Task(sources, labelled, queue, model, json)
    if rules.safety_checker:
        rejected = _run_checker(task, rules.safety_checker)
    else:
        rejected = _moderate(task, rules)
    if json:
        print_json(task.told)
    leave(REJECTED, when=rejected)


def _check(
    sources: ImageSources, rules: RuleFlags, labelled: LabelFileFlags, queue: QueueFlags
) -> None:
    """Raise for wrong combinations of flags, before the work."""
    if (rules.rules is None) == (rules.safety_checker is None):
        raise typer.BadParameter("give either --rules FILE or --safety-checker PATH.")
    if rules.safety_checker and (labelled.tune or labelled.save):
        raise typer.BadParameter(
            "--tune and --save are for --rules; a safety checker has fixed thresholds."
        )
    labelled.check()
    queue.check(sources.inputs)
    rules.check()
    if sources.inputs:
        sources.check(other_table=bool(labelled.tune or labelled.audit))
    elif not (labelled.tune or labelled.audit or labelled.save):
        raise typer.BadParameter("name images, folders or tables to moderate.")
    from ecliptic.engine import is_table

    tables = [p for p in sources.inputs or () if is_table(p) and not sources.is_stored(p)]
    if sources.id_column and not tables:
        raise typer.BadParameter("--id names a column of a table of images, but there is none.")


def _check_model(
    sources: ImageSources, rules: RuleFlags, labelled: LabelFileFlags, model: ModelFlags
) -> None:
    """Raise for flags of the model that would do nothing."""
    if model.model != "mini" and rules.safety_checker:
        raise typer.BadParameter("--safety-checker has a model of its own; leave --model out.")
    prepared = (
        ("--image-size", model.image_size),
        ("--preprocess", model.preprocess),
        ("--pixels", model.pixels),
    )
    flags = [flag for flag, given in prepared if given]
    stored = bool(sources.inputs) and all(map(sources.is_stored, sources.inputs or ()))
    if flags and stored and not (labelled.tune or labelled.audit or rules.images()):
        raise typer.BadParameter(
            f"{flags[0]} prepares images, but all that are read here are stored vectors."
        )


def _moderate(task: _Task, rules: RuleFlags) -> bool:
    """Tune, audit and moderate with rules; returns whether anything was rejected."""
    from ecliptic.cli.moderation_tables import say_unreached

    sources, labelled = task.sources, task.labelled
    decides = bool(sources.inputs or labelled.audit) and not labelled.tune
    moderator = _open(rules, task.model, decides=decides)
    _note_references(moderator)
    rejected = False
    if labelled.tune:
        rejected = _tune(task, moderator, labelled.tune)
    if labelled.audit:
        rejected |= _audit(task, moderator, labelled.audit)
    task.told["rules"] = moderator.version
    if labelled.save:
        moderator.save(labelled.save, overwrite=True)  # `check_written` has looked
        say(f"rules {moderator.version} in {labelled.save}")
    elif labelled.tune:
        say("note: the thresholds are not saved; add --save rules.safetensors")
    if not sources.inputs:
        return rejected
    verdicts, rejects = _check_sources(moderator, sources)
    _report(task, verdicts, rejects)
    say_unreached(verdicts)
    return rejected or len(rejects) > 0


def _open(rules: RuleFlags, model: ModelFlags, *, decides: bool) -> "Moderator":
    """The moderator; if it `decides`, all its concepts have a threshold."""
    from ecliptic.tasks import Moderator, read_rules, require_thresholds

    path = rules.rules or Path()
    if rules.saved:
        moderator = Moderator.load(path, model.clip())
        if decides:
            require_thresholds(moderator.concepts)
        return moderator
    if decides:
        require_thresholds(read_rules(path).concepts)  # before any image is encoded
    return Moderator.from_rules(path, model.clip())


def _check_sources(
    moderator: "Moderator", sources: ImageSources
) -> "tuple[list[ImageVerdict], Rejects]":
    """One verdict for each item of all paths, and the items that cannot be used."""
    from ecliptic.cli.gathering import gather
    from ecliptic.engine import Rejects
    from ecliptic.errors import InputError
    from ecliptic.tasks import reject

    side, rejects = gather(sources, moderator.clip), Rejects()
    found = moderator.check(side.matrix(), side.names) if side.names else []
    placed: dict[int, ImageVerdict] = {}
    for place, verdict, image in zip(side.places, found, side.images, strict=True):
        placed[place] = dataclasses.replace(verdict, source=image)
        if verdict.error:
            rejects.add(place, verdict.name, InputError(verdict.error))
    for bad in side.rejects:
        placed[bad.index] = reject(bad.source, bad.reason, moderator.version)
        rejects.add(bad.index, bad.source, bad.error)
    return [verdict for _, verdict in sorted(placed.items())], rejects


def _note_references(moderator: "Moderator") -> None:
    from ecliptic.cli.output import count
    from ecliptic.tasks import STEADY_REFERENCES

    found = moderator.ruleset.references
    if 0 < found < STEADY_REFERENCES:
        say(
            f"note: {count(found, 'reference image')}; with {STEADY_REFERENCES} or more the scale "
            "of the scores is steady"
        )


def _tune(task: _Task, moderator: "Moderator", path: Path) -> bool:
    """Set the thresholds on a labelled table; returns whether a row was rejected."""
    from ecliptic.cli.moderation_tables import print_tuning, tuning_to_json

    table, flags = _read(task, moderator, path, None), task.labelled
    moderator.fit(
        table.vectors,
        table.truth,
        recall=flags.recall,
        precision=flags.wanted_precision,
        names=table.names,
        **({} if flags.confidence is None else {"confidence": flags.confidence}),
    )
    task.told["tuned"] = tuning_to_json(moderator)
    if not task.json:
        print_tuning(moderator)
    return len(table.rejects) > 0


def _audit(task: _Task, moderator: "Moderator", path: Path) -> bool:
    """Measure the thresholds on a labelled table; returns whether a row was rejected."""
    table = _read(task, moderator, path, task.labelled.group)
    report = moderator.audit(
        table.vectors,
        table.truth,
        groups=table.groups,
        prevalence=task.labelled.prevalence,
        names=table.names,
    )
    task.tell_audit(report)
    return len(table.rejects) > 0


def _read(task: _Task, moderator: "Moderator", path: Path, group: str | None) -> "Labelled":
    from ecliptic.cli.moderation_labels import LabelColumns, read_labelled

    names = [one.name for one in moderator.concepts]
    return read_labelled(path, moderator.clip, LabelColumns(names, task.sources.column, group))


def _run_checker(task: _Task, path: str) -> bool:
    """Audit and moderate with a released checker; returns whether anything was rejected."""
    from ecliptic.checkpoints import find_safety_checker, read_safety_heads
    from ecliptic.tasks import SafetyChecker

    sources = task.sources
    for given in filter(sources.is_stored, sources.inputs or ()):
        raise typer.BadParameter(
            f"{given} holds vectors, but a safety checker needs images: it has its own model."
        )
    found_at = find_safety_checker(task.model.path(path))
    heads = read_safety_heads(found_at)  # first, because it tells what is no checker
    checker = SafetyChecker(dataclasses.replace(task.model, model=str(found_at)).clip(), heads)
    task.told["rules"] = checker.version
    labels = task.labelled.audit
    rejected = labels is not None and _audit_checker(task, checker, labels)
    if not sources.inputs:
        return rejected
    items = [item for _, some in sources.sets(sources.inputs) for item in some]
    verdicts, rejects = _check_items(checker, items)
    _report(task, verdicts, rejects)
    return rejected or len(rejects) > 0


def _audit_checker(task: _Task, checker: "SafetyChecker", path: Path) -> bool:
    """Measure a checker on a labelled table; returns whether a row was rejected."""
    from ecliptic.cli.moderation_labels import LabelColumns, collect_labelled, list_labelled
    from ecliptic.tasks import AuditReport, audit_scores

    columns = LabelColumns(checker.concepts, task.sources.column, task.labelled.group)
    rows = list(list_labelled(path, columns))
    verdicts, rejects = _check_items(checker, [row.item for row in rows])
    table = collect_labelled(path, rows, rejects, columns)
    flags = checker.flags([verdict for verdict in verdicts if not verdict.error])
    slices = audit_scores(flags, table.truth, table.groups, prevalence=task.labelled.prevalence)
    task.tell_audit(AuditReport(checker.version, slices))
    return len(rejects) > 0


def _check_items(
    checker: "SafetyChecker", items: "Sequence[Item]"
) -> "tuple[list[ImageVerdict], Rejects]":
    """One verdict for each item, and those that cannot be used."""
    from ecliptic.engine import Rejects
    from ecliptic.errors import ImageError
    from ecliptic.tasks import reject

    usable = [item for item in items if item.error is None]
    found = iter(checker.check([one.value for one in usable], [one.name for one in usable]))
    verdicts: list[ImageVerdict] = []
    rejects = Rejects()
    for place, item in enumerate(items):
        error = item.error
        verdict = reject(item.name, str(error), checker.version) if error else next(found)
        verdicts.append(dataclasses.replace(verdict, source=item.value or None))
        if verdict.error:
            rejects.add(place, item.name, error or ImageError(verdict.error))
    return verdicts, rejects


def _report(task: _Task, verdicts: "list[ImageVerdict]", rejects: "Rejects") -> None:
    """Print and write the verdicts."""
    from ecliptic.cli.moderation_tables import print_verdicts, write_queue
    from ecliptic.errors import InputError
    from ecliptic.tasks import review_queue, sample_accepted

    queue, told = task.queue, task.told
    if not verdicts:
        raise InputError("there are no images to moderate: what was named is empty.")
    say_rejects(rejects, len(rejects), rejects_of(queue.out) if queue.out else None)
    waiting = review_queue(verdicts)
    sampled = sample_accepted(verdicts, queue.sample, queue.seed or 0)
    if task.json:
        told["verdicts"] = [verdict.to_json() for verdict in verdicts]
    else:
        print_verdicts(verdicts, waiting, queue.out)
    if queue.out:
        write_queue(queue.out, waiting, sampled, rejects)
    if queue.page:
        from ecliptic.report import review_page
        from ecliptic.storage import replace_file, text_writer

        page = review_page(waiting, sampled, total=len(verdicts))
        replace_file(queue.page, text_writer(page))
        say(f"the page is {queue.page}")
    if queue.sample:
        accepted = sum(not verdict.flagged for verdict in verdicts)
        told["sample"] = {"sampled": len(sampled), "accepted": accepted}
        say(
            f"{len(sampled)} of {accepted} accepted images are in the queue; label them too: with "
            "`recall_with_sample` they tell how many images are missed"
        )
