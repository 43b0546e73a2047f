"""`Ruleset`: everything that a moderator decides by, and the file that holds it.

The file is safetensors; its metadata has JSON with the concepts, their thresholds and the space of
the vectors. A checksum covers all of it, so a file that was changed by hand is refused. The version
of the rules is another sum, of what decides a verdict.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, CorruptFileError, EclipticError
from ecliptic.settings import from_dict
from ecliptic.storage import TensorFormat
from ecliptic.tasks.moderation.prototypes import Prototypes
from ecliptic.tasks.moderation.rules import Concept

FORMAT = TensorFormat("moderator", 1)
_SHOWN = 12  # digits of a fingerprint
_DAMAGED = (LookupError, TypeError, ArithmeticError, ValueError, AttributeError)  # of its JSON
_TENSORS = {  # dtype and axes
    "vectors": (torch.float32, 2),
    "mean": (torch.float64, 1),
    "deviation": (torch.float64, 1),
}


@dataclass(frozen=True)
class Tuning:
    """How a threshold was set on labelled images."""

    target: str  # "recall" or "precision"
    wanted: float  # the share of it
    confidence: float
    threshold: float
    positives: int  # labelled images that show the concept
    negatives: int  # the others
    false_alarms: int  # of these, at or above the threshold
    computed_in: str  # precision of the model: "fp32", "bf16" or "fp16"

    @property
    def prevalence(self) -> float:
        """The share of the labelled images that show the concept."""
        return self.positives / (self.positives + self.negatives)


@dataclass(frozen=True)
class Ruleset:
    """The concepts with their vectors, thresholds and space."""

    concepts: tuple[Concept, ...]
    prototypes: tuple[Prototypes, ...]  # one for each concept
    space: str  # fingerprint of the space of the vectors
    model: str  # its name, for people
    references: int = 0  # reference images
    label: str = ""  # version for people
    tunings: tuple[Tuning | None, ...] = ()  # one for each concept

    @property
    def version(self) -> str:
        """The label and the fingerprint, as every verdict has them."""
        return "-".join(filter(None, (self.label, self.fingerprint[:_SHOWN])))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides a verdict; names of files are left out."""
        digest = hashlib.sha256(self.space.encode())
        for concept, prototypes in zip(self.concepts, self.prototypes, strict=True):
            about = [concept.name, concept.threshold, concept.action, prototypes.positives]
            digest.update(json.dumps([self.label, *about]).encode())
            for tensor in (prototypes.vectors, prototypes.mean, prototypes.deviation):
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def place(self, name: str) -> int:
        """The place of a concept.

        Raises:
            ConfigError: there is none of that name.
        """
        names = [concept.name for concept in self.concepts]
        if name not in names:
            raise ConfigError(f"there is no concept {name!r}; there are {', '.join(names)}.")
        return names.index(name)

    def with_tuning(self, name: str, tuning: Tuning) -> "Ruleset":
        """The same with another threshold for one concept."""
        at = self.place(name)
        concepts, tunings = list(self.concepts), list(self.tunings)
        concepts[at] = replace(concepts[at], threshold=tuning.threshold)
        tunings[at] = tuning
        return replace(self, concepts=tuple(concepts), tunings=tuple(tunings))


def write_ruleset(path: Path | str, rules: Ruleset, *, overwrite: bool) -> None:
    """Write the file of a moderator.

    Raises:
        StorageError: another suffix, the file exists and `overwrite` is False, or it cannot be
            written.
    """
    tensors = {
        f"concepts.{number}.{part}": getattr(prototypes, part)
        for number, prototypes in enumerate(rules.prototypes)
        for part in _TENSORS
    }
    facts = {
        "space": rules.space,
        "model": rules.model,
        "label": rules.label,
        "references": rules.references,
        "concepts": [_describe(rules, number) for number in range(len(rules.concepts))],
    }
    FORMAT.write(path, facts, tensors, overwrite=overwrite)


def read_ruleset(path: Path | str) -> Ruleset:
    """Read what `write_ruleset` wrote.

    Raises:
        StorageError: there is no such file.
        CorruptFileError: another kind of file, damaged, or changed by hand.
    """
    about, tensors = FORMAT.read(path)
    try:
        return _parse(about, tensors)
    except (EclipticError, *_DAMAGED) as error:
        raise CorruptFileError(
            f"{path} is a damaged moderator ({error}); make or copy it again."
        ) from error


def _describe(rules: Ruleset, number: int) -> dict[str, Any]:
    """The JSON of one concept."""
    tuning, prototypes = rules.tunings[number], rules.prototypes[number]
    return {
        **{name: value for name, value in asdict(rules.concepts[number]).items() if value},
        "threshold": rules.concepts[number].threshold,
        "prototypes": list(prototypes.names),
        "positives": prototypes.positives,
        "tuning": tuning and asdict(tuning),
    }


def _parse(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Ruleset:
    concepts, prototypes, tunings = [], [], []
    for number, table in enumerate(about["concepts"]):
        fields = dict(table)
        names, positives = tuple(map(str, fields.pop("prototypes"))), int(fields.pop("positives"))
        tuning = fields.pop("tuning")
        tunings.append(tuning and from_dict(Tuning, tuning, where="tuning"))
        concepts.append(from_dict(Concept, fields, where="concept"))
        parts = {part: tensors[f"concepts.{number}.{part}"] for part in _TENSORS}
        for part, (dtype, axes) in _TENSORS.items():
            found = parts[part]
            if found.dtype != dtype or found.ndim != axes or len(found) != len(names):
                raise ValueError(
                    f"{part} of concept {number} is {found.dtype} {tuple(found.shape)}"
                )
        if not 1 <= positives <= len(names):
            raise ValueError(f"concept {number} has {positives} positive of {len(names)}")
        prototypes.append(Prototypes(names=names, positives=positives, **parts))
    return Ruleset(
        concepts=tuple(concepts),
        prototypes=tuple(prototypes),
        space=str(about["space"]),
        model=str(about["model"]),
        references=int(about["references"]),
        label=str(about["label"]),
        tunings=tuple(tunings),
    )
