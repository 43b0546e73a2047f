"""The file of a classifier: tensors as safetensors, all else as JSON in their metadata.

It holds the vectors of the labels, so no text is encoded when it is read, and the fingerprint of
their space, so another model is refused.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.engine import Card
from ecliptic.errors import ConfigError, CorruptFileError, SpaceMismatchError
from ecliptic.scoring import (
    Background,
    FewShot,
    IsotonicScaling,
    LabelTree,
    LinearProbe,
    OpenTemperature,
    PlattScaling,
    Temperature,
    TipAdapter,
)
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import TensorFormat
from ecliptic.tasks.classification.decisions import Decisions
from ecliptic.tasks.classification.fitting import Calibrator, FitSummary
from ecliptic.tasks.classification.scorer import Scorer

FORMAT = TensorFormat("classifier", 1)


@dataclass(frozen=True, eq=False)
class SavedClassifier:
    """All of a classifier but its model."""

    labels: tuple[str, ...]
    space: str  # fingerprint of the space of its vectors
    model: str  # its name, for people
    scorer: Scorer
    several: bool = False
    tree: LabelTree | None = None
    sure: float | None = None  # the probability that an answered node of the tree must have
    calibrator: Calibrator | None = None
    decisions: Decisions = field(default_factory=Decisions)
    summary: FitSummary | None = None


@dataclass(frozen=True)
class ClassifierFacts:
    """What the JSON holds; the fields of `SavedClassifier` that are no tensors."""

    labels: tuple[str, ...]
    space: str
    model: str
    scale: float
    several: bool = False
    tree: LabelTree | None = None
    sure: float | None = None
    background: Background | None = None
    calibrator: Temperature | OpenTemperature | PlattScaling | IsotonicScaling | None = None
    decisions: Decisions = field(default_factory=Decisions)
    summary: FitSummary | None = None


def write_classifier(path: Path, saved: SavedClassifier, *, overwrite: bool) -> None:
    """Write the file.

    Raises:
        StorageError: another suffix, the file exists and `overwrite` is False, or it cannot be
            written.
    """
    scorer = saved.scorer
    facts = ClassifierFacts(
        labels=saved.labels,
        space=saved.space,
        model=saved.model,
        scale=scorer.scale,
        several=saved.several,
        tree=saved.tree,
        sure=saved.sure,
        background=scorer.background,
        calibrator=saved.calibrator,
        decisions=saved.decisions,
        summary=saved.summary,
    )
    FORMAT.write(path, to_dict(facts), _tensors(scorer), overwrite=overwrite)


def check_classifier_path(path: Path) -> None:
    """Raise StorageError unless the name is one of a classifier's file."""
    FORMAT.check_name(path)


def read_classifier(path: Path, card: Card) -> SavedClassifier:
    """Read what `write_classifier` wrote.

    Raises:
        SpaceMismatchError: it is for another model than that of `card`.
        StorageError: there is no such file.
        CorruptFileError: another kind of file, or damaged.
    """
    about, tensors = FORMAT.read(path)
    try:
        facts = from_dict(ClassifierFacts, about, f"{path}")
        scorer = _read_scorer(facts, tensors)
    except (ConfigError, KeyError, ValueError) as error:
        raise CorruptFileError(f"{path} is damaged ({error}); save the classifier again.") from None
    if facts.space != card.space:
        raise SpaceMismatchError(
            f"{path} is a classifier for vectors of {facts.model} (space {facts.space[:12]}), but "
            f"the model is {card.name} (space {card.space[:12]}); load that model, or fit a "
            "classifier for this one."
        )
    return SavedClassifier(
        facts.labels,
        facts.space,
        facts.model,
        scorer,
        facts.several,
        facts.tree,
        facts.sure,
        facts.calibrator,
        facts.decisions,
        facts.summary,
    )


def _tensors(scorer: Scorer) -> dict[str, Tensor]:
    found = {"texts": scorer.texts}
    if scorer.background_texts is not None:
        found["background_texts"] = scorer.background_texts
    if isinstance(scorer.learned, LinearProbe):
        strength = torch.tensor([scorer.learned.strength], dtype=torch.float64)
        found |= {"probe.weights": scorer.learned.weights, "probe.strength": strength}
    elif scorer.learned is not None:
        tip = scorer.learned
        numbers = torch.tensor([tip.alpha, tip.beta], dtype=torch.float64)
        found |= {"tip.keys": tip.keys, "tip.labels": tip.labels, "tip.numbers": numbers}
    return found


def _read_scorer(facts: ClassifierFacts, tensors: dict[str, Tensor]) -> Scorer:
    """The scorer; ValueError or KeyError if tensors and facts do not belong together."""
    texts = tensors.pop("texts")
    count = len(facts.labels)
    if texts.ndim != 2 or len(texts) != count or not (count and is_finite(texts)):
        raise ValueError(f"its vectors {tuple(texts.shape)} are not of {count} labels")
    if not (is_finite(facts.scale) and facts.scale > 0):
        raise ValueError(f"its scale is {facts.scale}")
    if facts.sure is not None and not (facts.tree and 0.5 < facts.sure <= 1):
        raise ValueError(f"a node with the probability {facts.sure} is not of its labels")
    about = tensors.pop("background_texts", None)
    if about is not None and (about.ndim != 2 or about.shape[1] != texts.shape[1]):
        raise ValueError("its background texts are of another size")
    scorer = Scorer(texts, facts.scale, facts.background, about)
    learned = _read_learned(scorer, tensors)
    if tensors:
        raise ValueError(f"it has the unknown tensor {min(tensors)}")
    return replace(scorer, learned=learned)


def _read_learned(scorer: Scorer, tensors: dict[str, Tensor]) -> FewShot | None:
    count, size = scorer.texts.shape
    if "probe.weights" in tensors:
        weights, strength = tensors.pop("probe.weights"), tensors.pop("probe.strength")
        if weights.shape != (count, size) or strength.shape != (1,) or not is_finite(weights):
            raise ValueError("its linear probe does not fit its labels")
        return LinearProbe(weights, float(strength))
    if "tip.keys" not in tensors:
        return None
    keys, labels = tensors.pop("tip.keys"), tensors.pop("tip.labels")
    numbers = tensors.pop("tip.numbers")
    places = labels.dtype == torch.int64 and labels.shape == keys.shape[:1]
    if keys.ndim != 2 or keys.shape[1] != size or not places or numbers.shape != (2,):
        raise ValueError("its Tip-Adapter does not fit its labels")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise ValueError("its Tip-Adapter names labels that it does not have")
    alpha, beta = numbers.tolist()
    return TipAdapter(scorer.texts, keys, labels, scorer.scale, alpha, beta)
