"""Fits what a classifier learns from labelled images, and judges it on images it has not seen.

The examples are split into folds. What is promised is set on probabilities of each fold that were
fitted on the others; the classifier that is kept is fitted on all. N images, L labels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.scoring import (
    NONE,
    Calibration,
    FewShotFit,
    IsotonicScaling,
    LinearProbe,
    OpenTemperature,
    PlattScaling,
    Temperature,
    brier_score,
    calibration_error,
    fit_isotonic_scaling,
    fit_open_temperature,
    fit_platt_scaling,
    fit_probe,
    fit_temperature,
    fit_tip_adapter,
    log_loss,
    log_odds,
    reliability_bins,
    stratified_folds,
)
from ecliptic.tasks.classification.decisions import Decisions, decide, decide_each
from ecliptic.tasks.classification.examples import LabelledVectors
from ecliptic.tasks.classification.report import SHARE
from ecliptic.tasks.classification.requirements import (
    check_counts,
    check_each,
    check_number,
    check_unknown,
    example_notes,
)
from ecliptic.tasks.classification.scorer import Scorer
from ecliptic.tasks.classification.settings import FitSettings

Softmax: TypeAlias = Temperature | OpenTemperature
Calibrator: TypeAlias = Softmax | PlattScaling | IsotonicScaling
Quality: TypeAlias = tuple[float | None, float, float]  # log loss (None: infinite), Brier, ECE
FEW = 50  # images; below, the temperature is still held near the one before
_QUALITIES = (  # with how they look
    ("log loss", "{:.4f}"),
    ("Brier score", "{:.4f}"),
    ("calibration error (ECE)", SHARE),
)


@dataclass(frozen=True)
class FitSummary:
    """What a classifier was fitted on, and what held-out images say about it."""

    settings: FitSettings
    images: int
    counts: tuple[int, ...]  # (L,) images of each label
    unknown: int  # images of none of them
    learned: str = ""  # what was learned from the images, for people
    before: Quality | None = None  # the fit
    after: Quality | None = None  # of the fit on held-out images
    notes: tuple[str, ...] = ()  # what to know about the examples, for people

    def lines(self) -> list[str]:
        """For people."""
        method, known = self.settings.method, f"{self.images} labelled images"
        if self.unknown:
            known += f', {self.unknown} of them "none of these"'
        each = " for each label" if self.settings.per_label and method != "temperature" else ""
        found = [f"calibrated by {method}{each} on {known}"]
        if self._is_no_better():
            found[0] += ", no better than before on held-out images"
        if self.learned:
            found.append(self.learned)
        before = self.before or (None,) * len(_QUALITIES)
        for (name, pattern), one, two in zip(_QUALITIES, before, self.after or (), strict=False):
            first = "" if one is None else f"{pattern.format(one)} before, "
            last = "infinite" if two is None else pattern.format(two)
            found.append(f"{name}: {first}{last} held out")
        notes = list(self.notes)
        if self._is_no_better():
            notes.append(
                "the log loss is no better than before on held-out images; more images would tell "
                "whether the fit helps"
            )
        return found + [f"warning: {note}" for note in notes]

    def _is_no_better(self) -> bool:
        """Whether the log loss of held-out images is not below the one before."""
        if self.before is None or self.after is None:
            return False
        before, after = (
            math.inf if one[0] is None else one[0] for one in (self.before, self.after)
        )
        return not after < before


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything that `Classifier.fit` keeps."""

    scorer: Scorer
    calibrator: Calibrator
    decisions: Decisions
    summary: FitSummary


def fit_one_label(
    scorer: Scorer,
    examples: LabelledVectors,
    names: Sequence[str],
    settings: FitSettings,
    former: Softmax,
) -> Fitted:
    """Fit a classifier that gives one label to each image.

    Args:
        scorer: of the texts, with or without a background.
        examples: the labelled images, with places of labels or `NONE`.
        names: the labels.
        settings: how, and what to promise.
        former: what made the probabilities before, from logits.

    Raises:
        ConfigError: too few images, all of one label, or a method that cannot use them.
    """
    truth = examples.truth
    counts = torch.bincount(truth[truth >= 0], minlength=len(names)).tolist()
    unknown = int((truth == NONE).sum())
    check_counts(counts, unknown, examples, names, settings)
    scores, learned, start = scorer.scores(examples.vectors), "", former
    before = former.probabilities(scorer.scale * scores)
    if settings.few_shot:
        learned = _describe(fit := _learn(settings, examples, scorer, names))
        if not _keeps_texts(fit):
            scorer = replace(scorer, learned=fit.model, background=None, background_texts=None)
            scores, start = fit.held_out / scorer.scale, Temperature(1.0)
    logits = scorer.scale * scores
    check_unknown(logits, truth)
    calibrator = _calibrate(logits, truth, names, settings, start)
    held_out = _cross_fit(logits, truth, names, settings, start)
    notes = example_notes(examples, counts, names)
    notes += _calibration_notes(settings, len(truth), former, calibrator)
    summary = FitSummary(
        settings,
        len(truth),
        tuple(counts),
        unknown,
        learned,
        None if unknown and isinstance(former, Temperature) else _quality(before, truth),
        _quality(held_out, truth),
        notes=tuple(notes),
    )
    decisions = decide(held_out, scores, truth, names, settings)
    return Fitted(scorer, calibrator, decisions, summary)


def fit_several_labels(
    scorer: Scorer, examples: LabelledVectors, names: Sequence[str], settings: FitSettings
) -> Fitted:
    """Fit a classifier that gives any number of labels to each image.

    The truth of the examples is (N, L), whether each label is right; the rest is that of
    `fit_one_label`.
    """
    truth = examples.truth
    counts, n = truth.sum(dim=0).tolist(), len(truth)
    check_number(examples, settings)
    for name, count in zip(names, counts, strict=True):
        if count in (0, n):
            raise ConfigError(
                f"{'no' if not count else 'every'} labelled image shows {name!r}, so nothing tells "
                "when it fits; add images of both kinds, or leave the label out."
            )
    check_each(counts, n, names, settings)
    scores = scorer.scores(examples.vectors)
    calibrator = _fit_curves(scorer.scale * scores, truth, names, settings)
    decisions = decide_each(scores, truth, settings.promises, names)
    summary = FitSummary(
        settings,
        n,
        tuple(map(int, counts)),
        int((~truth.any(dim=1)).sum()),
        after=_held_out_pairs(scorer.scale * scores, truth, names, settings),
        notes=tuple(example_notes(examples, counts, names)),
    )
    return Fitted(scorer, calibrator, decisions, summary)


def _calibration_notes(
    settings: FitSettings, n: int, former: Softmax, calibrator: Calibrator
) -> Iterator[str]:
    """What is doubtful about probabilities of `n` images, and what they no longer say."""
    if settings.method == "temperature" and n < FEW:
        yield (
            f"{n} images are few, so the temperature stays near the one before; with {FEW} or "
            "more, the images decide"
        )
    lost = isinstance(former, OpenTemperature) and not isinstance(calibrator, OpenTemperature)
    if lost and settings.promises.known is None:
        yield (
            'it no longer says "none of these", as the model does without examples; add images '
            "with that label, or the promise known=0.95"
        )


def to_softmax(calibration: Calibration | None, scale: float, labels: int) -> Softmax:
    """What makes probabilities of logits before a fit: the calibration of a card, if it has one.

    Args:
        calibration: of the card, for cosines.
        scale: exp(logit_scale), the factor from cosines to logits.
        labels: their number, on which the level of "none of these" depends.
    """
    if calibration is None:
        return Temperature(1.0)
    value = scale * calibration.temperature
    none = calibration.none / calibration.temperature + calibration.growth * math.log(labels)
    return OpenTemperature(value, none * value)


def _calibrate(
    logits: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings, start: Softmax
) -> Calibrator:
    if bool((truth == NONE).any()):
        return fit_open_temperature(logits, truth, towards=start.value)
    if settings.method != "temperature":
        named = F.one_hot(truth, logits.shape[1]).bool()
        return _fit_curves(log_odds(logits), named, names, settings)
    # where all examples are of the labels, they tell how sure to be among these; "none of these"
    # keeps its cosine, so the answers stay what they are, surer or less sure
    return replace(start, value=fit_temperature(logits, truth, towards=start.value).value)


def _fit_curves(
    logits: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings
) -> PlattScaling | IsotonicScaling:
    fit = fit_platt_scaling if settings.method == "platt" else fit_isotonic_scaling
    return fit(logits, truth, per_label=settings.per_label, names=names)


def _cross_fit(
    logits: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings, start: Softmax
) -> Tensor:
    """(N, L) probabilities of each fold, by a calibration that was fitted on the others."""
    part, found = stratified_folds(truth), torch.empty_like(logits)
    for fold in range(int(part.max()) + 1):
        out = part == fold
        calibrator = _calibrate(logits[~out], truth[~out], names, settings, start)
        found[out] = calibrator.probabilities(logits[out])
    return found


def _held_out_pairs(
    logits: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings
) -> Quality | None:
    """How good the probabilities of pairs of an image and a label are that was not fitted on.

    None where a fold has all images with a label, or without it, so that nothing can be fitted.
    """
    kinds = torch.unique(truth, dim=0, return_inverse=True)[1]
    part, found = stratified_folds(kinds), torch.empty_like(logits)
    for fold in range(int(part.max()) + 1):
        out = part == fold
        rest = truth[~out]
        if bool((rest.all(dim=0) | ~rest.any(dim=0)).any()):
            return None
        found[out] = _fit_curves(logits[~out], rest, names, settings).shares(logits[out])
    p, right = found.reshape(-1), truth.reshape(-1)
    pairs, places = torch.stack([1 - p, p], dim=1), right.long()
    loss, brier = log_loss(pairs, places), brier_score(pairs, places) / 2
    return _finite(loss), brier, reliability_bins(p, right).expected_error


def _learn(
    settings: FitSettings, examples: LabelledVectors, scorer: Scorer, names: Sequence[str]
) -> FewShotFit:
    truth = examples.truth
    counts = torch.bincount(truth[truth >= 0], minlength=len(names)).tolist()
    if few := [name for name, count in zip(names, counts, strict=True) if count < 2]:
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        raise ConfigError(
            f'few_shot="{settings.few_shot}" needs at least 2 images of each label, but {few[0]!r}'
            f"{more} has fewer. Add images, or leave such labels out."
        )
    fit = fit_probe if settings.few_shot == "probe" else fit_tip_adapter
    unit = F.normalize(examples.vectors.double(), dim=-1)
    return fit(unit, truth, scorer.texts, scorer.scale)


def _keeps_texts(fit: FewShotFit) -> bool:
    """Whether nothing that was learned is better than the texts alone."""
    model = fit.model
    return math.isinf(model.strength) if isinstance(model, LinearProbe) else not model.alpha


def _describe(fit: FewShotFit) -> str:
    model = fit.model
    if isinstance(model, LinearProbe):
        if _keeps_texts(fit):
            return "linear probe: no strength was better than the texts alone, which are kept"
        return f"linear probe from the texts, penalty {model.strength:g} chosen on held-out images"
    if _keeps_texts(fit):
        return "Tip-Adapter: no weight was better than the texts alone, which are kept"
    return (
        f"Tip-Adapter with alpha {model.alpha:.3g} and beta {model.beta:.3g}, chosen on held-out "
        "images"
    )


def _quality(probabilities: Tensor, truth: Tensor) -> Quality:
    loss, brier = log_loss(probabilities, truth), brier_score(probabilities, truth)
    return _finite(loss), brier, calibration_error(probabilities, truth)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
