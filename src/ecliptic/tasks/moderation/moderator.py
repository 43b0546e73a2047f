"""`Moderator` says which images show a concept, with all its reasons.

It labels; it never deletes, moves or changes a file. What has no score is never called safe.
N images, C concepts, E vector size.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor

from ecliptic.engine import Clip, Comparable, Images, given_vectors
from ecliptic.errors import ConfigError, NumericalError, SpaceMismatchError, warn
from ecliptic.tasks.moderation.audits import LEVEL, AuditReport, audit_scores, check_audit
from ecliptic.tasks.moderation.copies import are_among
from ecliptic.tasks.moderation.labels import read_truth
from ecliptic.tasks.moderation.prototypes import (
    Comparison,
    Prototypes,
    check_reference,
    list_images,
    make_prototypes,
    reaches,
)
from ecliptic.tasks.moderation.rules import (
    Concept,
    check_concepts,
    read_rules,
    require_thresholds,
)
from ecliptic.tasks.moderation.rulesets import Ruleset, read_ruleset, write_ruleset
from ecliptic.tasks.moderation.tuning import (
    Promise,
    count_once,
    find_examples,
    rounding,
    set_threshold,
)
from ecliptic.tasks.moderation.usable import split_usable, zero_rows
from ecliptic.tasks.moderation.verdicts import ImageVerdict, Reason, make_verdict, reject

BLOCK = 4096  # images that are scored at once


class Moderator:
    """Scores images by concepts that are described with words and example images."""

    def __init__(
        self,
        clip: Clip,
        concepts: Sequence[Concept],
        *,
        reference: "Images | Comparable | None" = None,
        version: str = "",
    ) -> None:
        """Encode the concepts.

        Args:
            clip: the model.
            concepts: what to look for.
            reference: ordinary images, or their vectors. With them a score is counted in standard
                deviations of ordinary images; without, in cosines.
            version: a name of the rules for people; their fingerprint is added to it.

        Raises:
            ConfigError: no concepts, two of one name, texts and images in one concept without
                reference images, or too few of these.
            InputError, ImageError: a text or an image that cannot be used.
        """
        concepts = check_concepts(concepts)
        rows = None
        if reference is not None:
            rows = check_reference(_encode(reference, clip))
        self.clip = clip
        self._tuned_on: dict[str, Tensor] = {}  # by concept: (N, E) that `fit` has seen
        self.ruleset = Ruleset(
            concepts=concepts,
            prototypes=tuple(make_prototypes(clip, one, rows) for one in concepts),
            space=clip.card.space,
            model=clip.card.name,
            references=0 if rows is None else len(rows),
            label=version,
            tunings=(None,) * len(concepts),
        )

    @classmethod
    def from_rules(cls, path: Path | str, clip: Clip) -> Self:
        """Make a moderator from a TOML file of concepts.

        Raises:
            SettingsError, ConfigError: the file is wrong; the message says where.
        """
        rules = read_rules(path)
        reference = list(list_images(rules.reference)) or None
        return cls(clip, rules.concepts, reference=reference, version=rules.version)

    @classmethod
    def load(cls, path: Path | str, clip: Clip) -> Self:
        """Read what `save` wrote.

        Raises:
            SpaceMismatchError: it was made with another model.
            CorruptFileError, StorageError: the file is damaged, changed or missing.

        Warns:
            UserWarning: its thresholds were set in another precision than that of the model.
        """
        found = read_ruleset(path)
        if found.space != clip.card.space:
            raise SpaceMismatchError(
                f"{path} was made with {found.model} (space {found.space[:12]}), but the model is "
                f"{clip.card.name} (space {clip.card.space[:12]}); load that model, or make the "
                "moderator again from its rules."
            )
        _compare_precision(found, clip.card.precision)
        moderator = cls.__new__(cls)
        moderator.clip, moderator.ruleset = clip, found
        moderator._tuned_on = {}
        return moderator

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write concepts, vectors, thresholds and the fingerprint of the space to one file.

        Raises:
            StorageError: the suffix is not .safetensors, the file exists and `overwrite` is False,
                or it cannot be written.
        """
        write_ruleset(path, self.ruleset, overwrite=overwrite)

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.concepts)
        return f"Moderator({self.clip.card.name!r}, {names}; rules {self.version})"

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """The concepts with their thresholds as they are now."""
        return self.ruleset.concepts

    @property
    def version(self) -> str:
        """The version of the rules; another one for any change that could change a verdict."""
        return self.ruleset.version

    def scores(self, images: "Images | Comparable") -> Tensor:
        """(N, C) float64 scores of images or of their vectors; higher is more like the concept.

        Raises:
            ImageError, NumericalError: an image or a vector that cannot be used.
            SpaceMismatchError, ShapeError: vectors of another model.
        """
        return self._score(_encode(images, self.clip))

    def check(
        self, images: "Images | Comparable", names: Sequence[str] | None = None
    ) -> list[ImageVerdict]:
        """One verdict for each image, in order.

        An image that cannot be used, and a vector that is NaN, infinite or zero, has the action
        "reject": it is never allowed.

        Args:
            images: as for `Clip.encode_image`, or their vectors.
            names: of the images; those of the files, if not given.

        Raises:
            ConfigError: a concept has no threshold yet, or another number of names than images.
            SpaceMismatchError, ShapeError: vectors of another model.
        """
        require_thresholds(self.concepts)
        rows, errors, known = split_usable(images, self.clip)
        named = _name_rows(known if names is None else names, len(rows))
        actions = {one.name: one.action for one in self.concepts}
        found: list[ImageVerdict] = []
        for start in range(0, len(rows), BLOCK):
            comparisons = self._compare(rows[start : start + BLOCK])
            for row, reasons in enumerate(self._reasons(comparisons), start=start):
                if row in errors:
                    found.append(reject(named[row], errors[row], self.version))
                else:
                    found.append(make_verdict(named[row], reasons, actions, self.version))
        return found

    def fit(
        self,
        images: "Images | Comparable",
        truth: Any,
        *,
        recall: float | None = None,
        precision: float | None = None,
        confidence: float = 0.9,
        names: Sequence[str] | None = None,
    ) -> Self:
        """Set the thresholds on labelled images.

        Images that are equal count once, and examples of a concept do not count for it: each image
        could otherwise stand for many.

        Args:
            images: as for `Clip.encode_image`, or their vectors; not those of the examples.
            truth: whether each image shows the concept: (N,) for a single concept, (N, C), or a
                mapping from names of concepts to (N,). Concepts that a mapping leaves out keep
                their threshold.
            recall: the share of images with the concept that must be found; 0.95 if neither this
                nor `precision` is given.
            precision: or the share of flagged images that must be right; approximate.
            confidence: how often thresholds made like this one keep the promise, at least.
            names: of the images, for messages.

        Raises:
            ConfigError: too few labelled images; the message says how many are missing. Or both
                recall and precision, no shares, or equal images with different labels.
            ShapeError: a truth of another shape.
            ImageError, NumericalError: an image or a vector that cannot be used.

        Warns:
            UserWarning: some images do not count; they are named.
        """
        promise = Promise.of(recall, precision, confidence)
        rows = _encode(images, self.clip)
        named = _name_rows(names, len(rows))
        truths = read_truth(truth, [one.name for one in self.concepts], len(rows))
        once = count_once(rows, truths, named) == torch.arange(len(rows))
        scores, computed_in, rules = self._score(rows), self.clip.card.precision, self.ruleset
        for name, positive in truths.items():
            at = rules.place(name)
            prototypes = rules.prototypes[at]
            kept = once & ~find_examples(name, rows, named, prototypes, computed_in)
            try:
                tuning = set_threshold(
                    scores[kept, at], positive[kept], prototypes, promise, computed_in
                )
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from None
            rules = rules.with_tuning(name, tuning)
        self.ruleset = rules
        self._tuned_on |= dict.fromkeys(truths, rows)
        return self

    def audit(
        self,
        images: "Images | Comparable",
        truth: Any,
        *,
        groups: Sequence[str] | None = None,
        prevalence: float | None = None,
        level: float = LEVEL,
        names: Sequence[str] | None = None,
    ) -> AuditReport:
        """Measure the thresholds on labelled images that they were not set on.

        Images that are equal count once in each group.

        Args:
            images, truth: as for `fit`.
            groups: one name for each image; each group is measured alone, too.
            prevalence: share of the images of your site that show the concept; None is the share
                in all these labels, which is seldom the same.
            level: of the intervals.
            names: of the images, for messages.

        Raises:
            ConfigError: a concept without a threshold, or equal images with different labels.
            ShapeError: a truth, or groups, of another length.

        Warns:
            UserWarning: images count once, were used to set the thresholds, or are examples.
        """
        require_thresholds(self.concepts, truth if isinstance(truth, Mapping) else None)
        check_audit(prevalence, level)
        rows = _encode(images, self.clip)
        named = _name_rows(names, len(rows))
        truths = read_truth(truth, [one.name for one in self.concepts], len(rows))
        first, scores = count_once(rows, truths, named), self._score(rows)
        self._compare_audit(rows, truths)
        places = {name: self.ruleset.place(name) for name in truths}
        flagged = {
            name: reaches(scores[:, at], float(self.concepts[at].threshold or 0))
            for name, at in places.items()
        }
        slices = audit_scores(
            flagged, truths, groups, prevalence=prevalence, level=level, copies=first
        )
        return AuditReport(self.version, slices, level)

    def _score(self, rows: Tensor) -> Tensor:
        """(N, E) vectors -> (N, C)."""
        parts = [
            torch.stack([one.scores for one in self._compare(rows[start : start + BLOCK])], dim=1)
            for start in range(0, len(rows), BLOCK)
        ]
        return torch.cat(parts) if parts else torch.empty(0, len(self.concepts)).double()

    def _compare_audit(self, rows: Tensor, truths: Mapping[str, Tensor]) -> None:
        """Warn of images that the moderator has seen before."""
        apart = rounding(self.clip.card.precision)
        for name in truths:
            examples = self.ruleset.prototypes[self.ruleset.place(name)].vectors
            tuned = self._tuned_on.get(name, examples[:0])
            for what, known in (("set its threshold", tuned), ("are its examples", examples)):
                if seen := int(are_among(rows, known, apart).sum()):
                    warn(
                        f"{name}: {seen} of {len(rows)} images of the audit {what}, so it looks "
                        "better than it is; audit with others"
                    )

    def _compare(self, rows: Tensor) -> list[Comparison]:
        return [prototypes.compare(rows) for prototypes in self.ruleset.prototypes]

    def _reasons(self, comparisons: list[Comparison]) -> Iterator[list[Reason]]:
        """The reasons of each image, one for each concept."""
        sides = [
            _explain(concept, prototypes, comparison)
            for concept, prototypes, comparison in zip(
                self.concepts, self.ruleset.prototypes, comparisons, strict=True
            )
        ]
        yield from map(list, zip(*sides, strict=True))


def _explain(concept: Concept, prototypes: Prototypes, found: Comparison) -> Iterator[Reason]:
    """The reason of each image for one concept."""
    threshold = float(concept.threshold or 0)
    nearest = _look_up(prototypes.names, found.nearest, found.cosines)
    contrast = _look_up(prototypes.names, found.contrast, found.cosines)
    scores, flags = found.scores.tolist(), reaches(found.scores, threshold).tolist()
    for score, flag, near, far in zip(scores, flags, nearest, contrast, strict=True):
        yield Reason(concept.name, score, threshold, flag, *near, *far)


def _look_up(
    names: Sequence[str], places: Tensor | None, cosines: Tensor
) -> Iterator[tuple[str, float | None]]:
    """The name and the cosine of one prototype for each image."""
    if places is None:
        yield from [("", None)] * len(cosines)
        return
    values = cosines.gather(1, places[:, None])[:, 0].tolist()
    yield from ((names[place], value) for place, value in zip(places.tolist(), values, strict=True))


def _name_rows(names: Sequence[str] | None, count: int) -> list[str]:
    named = [f"row {row}" for row in range(count)] if names is None else list(names)
    if len(named) != count:
        raise ConfigError(f"{count} images need as many names, got {len(named)}.")
    return named


def _compare_precision(rules: Ruleset, precision: str) -> None:
    """Warn if thresholds were set in another precision, in which the scores were a little other."""
    for concept, tuning in zip(rules.concepts, rules.tunings, strict=True):
        if tuning is not None and tuning.computed_in != precision:
            moves = max(rounding(tuning.computed_in), rounding(precision))
            warn(
                f"the threshold of {concept.name!r} was set in {tuning.computed_in}, but the model "
                f"is in {precision}: cosines differ by about {moves:g}, so what was promised holds "
                f"only nearly; load the model with precision={tuning.computed_in!r}, or tune again"
            )


def _encode(images: "Images | Comparable", clip: Clip) -> Tensor:
    """(N, E) vectors of images, or the given ones.

    Raises:
        NumericalError: a vector is zero.
    """
    rows = given_vectors(images, clip.card)
    rows = clip.encode_image(cast("Images", images)) if rows is None else rows
    if zero := zero_rows(rows):
        raise NumericalError(
            f"{len(zero)} of {len(rows)} vectors are zero, the first at {zero[0]}, so nothing is "
            "known about them; leave them out."
        )
    return rows
