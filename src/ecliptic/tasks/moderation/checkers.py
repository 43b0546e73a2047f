"""`SafetyChecker`: the checkers of Stable Diffusion and DeepFloyd IF, from their own files.

Both are about nudity and sex alone, and call some drawings unsafe that are not. The concepts of
Stable Diffusion have numbers, because nobody published what they are.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from ecliptic.checkpoints import find_safety_checker, locate, read_safety_heads
from ecliptic.checks import check_finite
from ecliptic.engine import Clip, Comparable, Images, Precision, load
from ecliptic.errors import ConfigError, InputError
from ecliptic.scoring import IF_THRESHOLD, SafetyScores, is_above, linear_scores, safety_scores
from ecliptic.tasks.moderation.audits import LEVEL, AuditReport, audit_scores, check_audit
from ecliptic.tasks.moderation.labels import read_truth
from ecliptic.tasks.moderation.rules import Action
from ecliptic.tasks.moderation.usable import split_usable
from ecliptic.tasks.moderation.verdicts import ImageVerdict, Reason, make_verdict, reject

CARE = "over its threshold, so 0.01 was added to all that follow; it flags nothing by itself"
UNSAFE = "unsafe"  # the name of what Stable Diffusion's checker flags, in an audit
HEADS = {"nsfw": "p_head", "watermark": "w_head"}  # of DeepFloyd IF: name -> tensor
_UNIT = 1e-3  # how near to 1 the lengths of unit vectors are


class SafetyChecker:
    """A released safety checker; its verdicts have the form of a moderator's."""

    def __init__(self, clip: Clip, heads: Mapping[str, Tensor], action: Action = "label") -> None:
        """Use the image tower and the heads of one file, as `load` reads them.

        Args:
            clip: the image side of the checker.
            heads: its other tensors, under the names of diffusers.
            action: of an image that is flagged.

        Raises:
            NumericalError: a head holds NaN or infinity.
        """
        for name, head in heads.items():
            check_finite(head, f"{name} of the safety checker", "its file is damaged.")
        self.clip, self.heads, self.action = clip, dict(heads), action

    @classmethod
    def load(
        cls,
        source: Path | str,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        action: Action = "label",
        offline: bool | None = None,
        revision: str | None = None,
    ) -> Self:
        """Read a checker from its folder or file, from a pipeline's folder, or "hf:org/name".

        Raises:
            UnsupportedLayoutError: it is no safety checker.
            CheckpointError: the file is damaged, or tensors are missing.
        """
        path = find_safety_checker(locate(source, offline=offline, revision=revision).path)
        heads = read_safety_heads(path)  # first, because it tells what is no checker
        clip = load(path, device=device, precision=precision)
        return cls(clip, heads, action)

    def __repr__(self) -> str:
        kind = "Stable Diffusion" if self._has_concepts else "DeepFloyd IF"
        return f"SafetyChecker({kind}, rules {self.version})"

    @property
    def version(self) -> str:
        """The fingerprint of the checker's file."""
        digest = hashlib.sha256(self.clip.card.space.encode())
        for name in sorted(self.heads):
            digest.update(self.heads[name].float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def check(
        self, images: "Images | Comparable", names: Sequence[str] | None = None
    ) -> list[ImageVerdict]:
        """One verdict for each image, in order; what cannot be used is rejected.

        Args:
            images: as for `Clip.encode_image`, or (N, E) vectors of the checker's own tower; for
                DeepFloyd IF not of unit length.
            names: of the images; those of the files, if not given.

        Raises:
            ConfigError: unit vectors for DeepFloyd IF, or another number of names than images.
            SpaceMismatchError, ShapeError: vectors of another model.
        """
        rows, errors, known = split_usable(images, self.clip, normalize=False)
        named = list(known if names is None else names)
        if len(named) != len(rows):
            raise ConfigError(f"{len(rows)} images need as many names, got {len(named)}.")
        if self._has_concepts:
            reasons = self._explain_concepts(self.scores(rows))
        else:
            _refuse_unit(rows)
            reasons = self._explain_heads(rows)
        version = self.version
        found = []
        for row, given in enumerate(reasons):
            if row in errors:
                found.append(reject(named[row], errors[row], version))
            else:
                actions = dict.fromkeys((one.concept for one in given), self.action)
                found.append(make_verdict(named[row], given, actions, version))
        return found

    @property
    def concepts(self) -> tuple[str, ...]:
        """What an audit can measure: whether an image is unsafe, or each head of DeepFloyd IF."""
        return (UNSAFE,) if self._has_concepts else tuple(HEADS)

    def flags(self, verdicts: Sequence[ImageVerdict]) -> dict[str, list[bool]]:
        """Whether each verdict flags each of `concepts`, for `audit_scores`."""
        if self._has_concepts:
            return {UNSAFE: [verdict.flagged for verdict in verdicts]}
        return {name: [name in verdict.concepts for verdict in verdicts] for name in HEADS}

    def audit(
        self,
        images: "Images | Comparable",
        truth: Any,
        *,
        groups: Sequence[str] | None = None,
        prevalence: float | None = None,
        level: float = LEVEL,
    ) -> AuditReport:
        """Measure the checker on labelled images.

        Args:
            images: as for `check`.
            truth: whether each image should be flagged: (N,), or for DeepFloyd IF a mapping from
                "nsfw" and "watermark" to (N,).
            groups, prevalence, level: as for `Moderator.audit`.

        Raises:
            InputError: an image or a vector that cannot be used.
            ShapeError: a truth, or groups, of another length.
        """
        check_audit(prevalence, level)
        verdicts = self.check(images)
        for one in verdicts:
            if one.error:
                raise InputError(f"{one.name} cannot be measured: {one.error}")
        truths = read_truth(truth, self.concepts, len(verdicts))
        flags = self.flags(verdicts)
        slices = audit_scores(flags, truths, groups, prevalence=prevalence, level=level)
        return AuditReport(self.version, slices, level)

    def scores(self, rows: Tensor) -> SafetyScores:
        """(N, E) vectors -> what Stable Diffusion's checker computes.

        Raises:
            ConfigError: the checker is that of DeepFloyd IF.
        """
        if not self._has_concepts:
            raise ConfigError("the checker of DeepFloyd IF has no concepts; use `check`.")
        return safety_scores(
            rows,
            self.heads["concept_embeds"],
            self.heads["concept_embeds_weights"],
            self.heads["special_care_embeds"],
            self.heads["special_care_embeds_weights"],
        )

    @property
    def _has_concepts(self) -> bool:
        return "concept_embeds" in self.heads

    def _explain_concepts(self, found: SafetyScores) -> Iterator[list[Reason]]:
        for special, concepts in zip(found.special.tolist(), found.concepts.tolist(), strict=True):
            yield [
                *(
                    Reason(f"special care {n}", score, 0.0, False, note=CARE if score > 0 else "")
                    for n, score in enumerate(special, start=1)
                ),
                *(
                    Reason(f"concept {n}", score, 0.0, score > 0)
                    for n, score in enumerate(concepts, start=1)
                ),
            ]

    def _explain_heads(self, rows: Tensor) -> Iterator[list[Reason]]:
        sides = []
        for name, head in HEADS.items():
            weight, bias = self.heads[f"{head}.weight"], self.heads[f"{head}.bias"]
            values = linear_scores(rows, weight, bias)
            pairs = zip(values.tolist(), is_above(values, IF_THRESHOLD).tolist(), strict=True)
            sides.append([Reason(name, value, IF_THRESHOLD, above) for value, above in pairs])
        yield from map(list, zip(*sides, strict=True))


def _refuse_unit(rows: Tensor) -> None:
    lengths = rows.norm(dim=1)
    lengths = lengths[lengths > 0]  # a row that cannot be used is zero
    if len(lengths) and bool(((lengths - 1).abs() < _UNIT).all()):
        raise ConfigError(
            "the heads of DeepFloyd IF read vectors as the tower gives them, but these have length "
            "1; pass the images, or vectors of encode_image(..., normalize=False)."
        )
