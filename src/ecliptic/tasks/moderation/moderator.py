"""`Moderator` says which images show a concept, with all its reasons.

It labels; it never deletes, moves or changes a file. What has no score is never called safe.
N images, C concepts, E vector size.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor

from ecliptic.engine import Clip, Comparable, Images, given_vectors
from ecliptic.errors import ConfigError, SpaceMismatchError
from ecliptic.scoring import precision_threshold, recall_threshold
from ecliptic.tasks.moderation.audits import LEVEL, AuditReport, audit_scores
from ecliptic.tasks.moderation.labels import read_truth
from ecliptic.tasks.moderation.prototypes import (
    Comparison,
    Prototypes,
    check_reference,
    list_images,
    make_prototypes,
    reaches,
)
from ecliptic.tasks.moderation.rules import Concept, check_concepts, read_rules
from ecliptic.tasks.moderation.rulesets import Ruleset, Tuning, read_ruleset, write_ruleset
from ecliptic.tasks.moderation.usable import split_usable
from ecliptic.tasks.moderation.verdicts import ImageVerdict, Reason, make_verdict, reject

BLOCK = 4096  # images that are scored at once
RECALL = 0.95  # of `fit` without another wish
# The vector of an image depends on its batch by rounding, up to this much of a cosine; a threshold
# for recall is lowered by it, so that no image on the border is lost.
ROUNDING = 1e-6


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
        """
        found = read_ruleset(path)
        if found.space != clip.card.space:
            raise SpaceMismatchError(
                f"{path} was made with {found.model} (space {found.space[:12]}), but the model is "
                f"{clip.card.name} (space {clip.card.space[:12]}); load that model, or make the "
                "moderator again from its rules."
            )
        moderator = cls.__new__(cls)
        moderator.clip, moderator.ruleset = clip, found
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
        rows = _encode(images, self.clip)
        parts = [
            torch.stack([one.scores for one in self._compare(rows[start : start + BLOCK])], dim=1)
            for start in range(0, len(rows), BLOCK)
        ]
        return torch.cat(parts) if parts else torch.empty(0, len(self.concepts)).double()

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
        self._refuse_without_threshold()
        rows, errors, known = split_usable(images, self.clip)
        named = list(known if names is None else names)
        if len(named) != len(rows):
            raise ConfigError(f"{len(rows)} images need as many names, got {len(named)}.")
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
    ) -> Self:
        """Set the thresholds on labelled images.

        Args:
            images: as for `Clip.encode_image`, or their vectors; not those of the examples.
            truth: whether each image shows the concept: (N,) for a single concept, (N, C), or a
                mapping from names of concepts to (N,). Concepts that a mapping leaves out keep
                their threshold.
            recall: the share of images with the concept that must be found; 0.95 if neither this
                nor `precision` is given.
            precision: or the share of flagged images that must be right; approximate.
            confidence: how often thresholds made like this one keep the promise, at least.

        Raises:
            ConfigError: too few labelled images; the message says how many are missing. Or both
                recall and precision.
            ShapeError: a truth of another shape.
            ImageError, NumericalError: an image or a vector that cannot be used.
        """
        if recall is not None and precision is not None:
            raise ConfigError("give either a recall or a precision, not both.")
        scores = self.scores(images)
        truths = read_truth(truth, [one.name for one in self.concepts], len(scores))
        rules = self.ruleset
        for name, positive in truths.items():
            at = rules.place(name)
            try:
                tuning = _tune(
                    scores[:, at], positive, rules.prototypes[at], recall, precision, confidence
                )
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from None
            rules = rules.with_tuning(name, tuning)
        self.ruleset = rules
        return self

    def audit(
        self,
        images: "Images | Comparable",
        truth: Any,
        *,
        groups: Sequence[str] | None = None,
        prevalence: float | None = None,
        level: float = LEVEL,
    ) -> AuditReport:
        """Measure the thresholds on labelled images that they were not set on.

        Args:
            images, truth: as for `fit`.
            groups: one name for each image; each group is measured alone, too.
            prevalence: share of the images of your site that show the concept; None is the share
                in these labels, which is seldom the same.
            level: of the intervals.

        Raises:
            ConfigError: a concept without a threshold.
            ShapeError: a truth, or groups, of another length.
        """
        self._refuse_without_threshold(truth if isinstance(truth, Mapping) else None)
        scores = self.scores(images)
        truths = read_truth(truth, [one.name for one in self.concepts], len(scores))
        places = {name: self.ruleset.place(name) for name in truths}
        flagged = {
            name: reaches(scores[:, at], float(self.concepts[at].threshold or 0))
            for name, at in places.items()
        }
        slices = audit_scores(flagged, truths, groups, prevalence=prevalence, level=level)
        return AuditReport(self.version, slices, level)

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

    def _refuse_without_threshold(self, names: Iterable[str] | None = None) -> None:
        for one in self.concepts:
            if one.threshold is None and (names is None or one.name in names):
                raise ConfigError(
                    f"the concept {one.name!r} has no threshold; set one in the rules, or tune "
                    "it on labelled images."
                )


def _tune(
    scores: Tensor,
    positive: Tensor,
    prototypes: Prototypes,
    recall: float | None,
    precision: float | None,
    confidence: float,
) -> Tuning:
    """The threshold of one concept."""
    if precision is not None:
        target, wanted = "precision", precision
        threshold = precision_threshold(scores, positive, precision, confidence).threshold
    else:
        target, wanted = "recall", RECALL if recall is None else recall
        threshold = recall_threshold(scores[positive], wanted, confidence).threshold
        threshold -= ROUNDING * prototypes.unit
    others = scores[~positive]
    alarms = int(reaches(others, threshold).sum())
    return Tuning(target, wanted, confidence, threshold, int(positive.sum()), len(others), alarms)


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


def _encode(images: "Images | Comparable", clip: Clip) -> Tensor:
    """(N, E) vectors of images, or the given ones."""
    rows = given_vectors(images, clip.card)
    return clip.encode_image(cast("Images", images)) if rows is None else rows
