"""Fits what a classifier learns from labelled images, and judges it on images it has not seen.

The examples are split into folds. What is promised is set on probabilities of each fold that were
fitted on the others; the classifier that is kept is fitted on all. N images, L labels.
"""

import math
from collections.abc import Sequence
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
    PlattScaling,
    Temperature,
    brier_score,
    calibration_error,
    fit_calibration,
    fit_isotonic_scaling,
    fit_platt_scaling,
    fit_probe,
    fit_temperature,
    fit_tip_adapter,
    log_loss,
    log_odds,
    stratified_folds,
)
from ecliptic.tasks.classification.decisions import Decisions, decide, decide_each
from ecliptic.tasks.classification.scorer import Scorer
from ecliptic.tasks.classification.settings import FitSettings, Method

Calibrator: TypeAlias = Calibration | Temperature | PlattScaling | IsotonicScaling
FEWEST: dict[Method, int] = {"temperature": 10, "platt": 20, "isotonic": 1000}  # images
FEWEST_OF_EACH: dict[Method, int] = {"platt": 5, "isotonic": 50}  # with a curve for each label


@dataclass(frozen=True)
class FitSummary:
    """What a classifier was fitted on, and what held-out images say about it."""

    settings: FitSettings
    images: int
    counts: tuple[int, ...]  # (L,) images of each label
    unknown: int  # images of none of them
    learned: str = ""  # what was learned from the images, for people
    before: tuple[float, float, float] | None = None  # log loss, Brier score, ECE before the fit
    after: tuple[float, float, float] | None = None  # on held-out images after it

    def lines(self) -> list[str]:
        """For people."""
        known = f"{self.images} labelled images"
        if self.unknown:
            known += f', {self.unknown} of them "none of these"'
        each = " for each label" if self.settings.per_label else ""
        found = [f"calibrated by {self.settings.method}{each} on {known}"]
        if self.learned:
            found.append(self.learned)
        if self.before and self.after:
            names = ("log loss", "Brier score", "calibration error (ECE)")
            rows = zip(names, self.before, self.after, strict=True)
            found += [f"{name}: {one:.4f} before, {two:.4f} held out" for name, one, two in rows]
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything that `Classifier.fit` keeps."""

    scorer: Scorer
    calibrator: Calibrator
    decisions: Decisions
    summary: FitSummary


def fit_one_label(
    scorer: Scorer, vectors: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings
) -> Fitted:
    """Fit a classifier that gives one label to each image.

    Args:
        scorer: of the texts, with or without a background.
        vectors: (N, E) of the labelled images.
        truth: (N,) places of the right labels, or `NONE`.
        names: the labels.
        settings: how, and what to promise.

    Raises:
        ConfigError: too few images, all of one label, or a method that cannot use them.
    """
    counts = torch.bincount(truth[truth >= 0], minlength=len(names)).tolist()
    unknown = int((truth == NONE).sum())
    _check_counts(counts, unknown, len(truth), names, settings)
    before = scorer.scores(vectors)
    known = truth >= 0
    scores, learned = before, ""
    if settings.few_shot:
        fit = _learn(settings, vectors[known], truth[known], scorer, names)
        scorer = replace(scorer, learned=fit.model, background=None, background_texts=None)
        scores, learned = scorer.scores(vectors), _describe(fit)
        scores[known] = fit.held_out / scorer.scale
    calibrator = _calibrate(scores, truth, scorer.scale, settings)
    held_out = _cross_fit(scores, truth, scorer.scale, settings)
    promises = settings.promises
    decisions = decide(held_out, scores, truth, promises, per_label=settings.per_label)
    plain = (scorer.scale * before).softmax(dim=1)
    summary = FitSummary(
        settings,
        len(truth),
        tuple(counts),
        unknown,
        learned,
        None if unknown else _quality(plain, truth),
        _quality(held_out, truth),
    )
    return Fitted(scorer, calibrator, decisions, summary)


def fit_several_labels(
    scorer: Scorer, vectors: Tensor, truth: Tensor, names: Sequence[str], settings: FitSettings
) -> Fitted:
    """Fit a classifier that gives any number of labels to each image.

    `truth` is (N, L), whether each label is right; the rest is that of `fit_one_label`.
    """
    counts, n = truth.sum(dim=0).tolist(), len(truth)
    _check_number(n, settings)
    for name, count in zip(names, counts, strict=True):
        if count in (0, n):
            raise ConfigError(
                f"{'no' if not count else 'every'} labelled image shows {name!r}, so nothing tells "
                "when it fits; add images of both kinds, or leave the label out."
            )
    _check_each(counts, n, names, settings)
    scores = scorer.scores(vectors)
    fit = fit_platt_scaling if settings.method == "platt" else fit_isotonic_scaling
    calibrator = fit(scorer.scale * scores, truth, per_label=settings.per_label)
    decisions = decide_each(scores, truth, settings.promises, names)
    unknown = int((~truth.any(dim=1)).sum())
    summary = FitSummary(settings, n, tuple(map(int, counts)), unknown)
    return Fitted(scorer, calibrator, decisions, summary)


def probabilities_of(calibrator: Calibrator | None, scores: Tensor, scale: float) -> Tensor:
    """(N, L) scores -> (N, L) probabilities of one label per image."""
    if calibrator is None:
        return (scale * scores).softmax(dim=1)
    if isinstance(calibrator, Calibration):
        return calibrator.probabilities(scores)
    return calibrator.probabilities(scale * scores)


def _calibrate(scores: Tensor, truth: Tensor, scale: float, settings: FitSettings) -> Calibrator:
    if bool((truth == NONE).any()):
        data = f"{len(truth)} labelled images"
        return fit_calibration(scores, truth, scale, data, smooth=True).calibration
    logits = scale * scores
    if settings.method == "temperature":
        return fit_temperature(logits, truth, smooth=True)
    fit = fit_platt_scaling if settings.method == "platt" else fit_isotonic_scaling
    named = F.one_hot(truth, scores.shape[1]).bool()
    return fit(log_odds(logits), named, per_label=settings.per_label)


def _cross_fit(scores: Tensor, truth: Tensor, scale: float, settings: FitSettings) -> Tensor:
    """(N, L) probabilities of each fold, by a calibration that was fitted on the others."""
    part, found = stratified_folds(truth), torch.empty_like(scores)
    for fold in range(int(part.max()) + 1):
        out = part == fold
        calibrator = _calibrate(scores[~out], truth[~out], scale, settings)
        found[out] = probabilities_of(calibrator, scores[out], scale)
    return found


def _learn(
    settings: FitSettings, vectors: Tensor, truth: Tensor, scorer: Scorer, names: Sequence[str]
) -> FewShotFit:
    counts = torch.bincount(truth, minlength=len(names)).tolist()
    if few := [name for name, count in zip(names, counts, strict=True) if count < 2]:
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        raise ConfigError(
            f'few_shot="{settings.few_shot}" needs at least 2 images of each label, but {few[0]!r}'
            f"{more} has fewer. Add images, or leave such labels out."
        )
    fit = fit_probe if settings.few_shot == "probe" else fit_tip_adapter
    unit = F.normalize(vectors.double(), dim=-1)
    return fit(unit, truth, scorer.texts, scorer.scale)


def _describe(fit: FewShotFit) -> str:
    model = fit.model
    if isinstance(model, LinearProbe):
        if math.isinf(model.strength):
            return "linear probe: no strength was better than the texts alone, which are kept"
        return f"linear probe from the texts, penalty {model.strength:g} chosen on held-out images"
    if not model.alpha:
        return "Tip-Adapter: no weight was better than the texts alone, which are kept"
    return (
        f"Tip-Adapter with alpha {model.alpha:.3g} and beta {model.beta:.3g}, chosen on held-out "
        "images"
    )


def _quality(probabilities: Tensor, truth: Tensor) -> tuple[float, float, float]:
    loss, brier = log_loss(probabilities, truth), brier_score(probabilities, truth)
    return loss, brier, calibration_error(probabilities, truth)


def _check_counts(
    counts: Sequence[int], unknown: int, n: int, names: Sequence[str], settings: FitSettings
) -> None:
    _check_number(n, settings)
    present = sum(count > 0 for count in counts)
    if present < 2:
        only = f"of {names[max(range(len(counts)), key=counts.__getitem__)]!r}" if present else ""
        raise ConfigError(
            f"all labelled images are {only or 'none of these'}, so nothing tells right from wrong "
            "answers; add images of at least one more label."
        )
    if unknown and settings.method != "temperature":
        raise ConfigError(
            f'{unknown} images are "none of these", which only method="temperature" can learn; '
            "use it, or leave these images out."
        )
    if settings.method != "temperature":
        _check_each(counts, n, names, settings)


def _check_number(n: int, settings: FitSettings) -> None:
    fewest = FEWEST[settings.method]
    if n < fewest:
        instead = " use another method, or" if settings.method != "temperature" else ""
        raise ConfigError(
            f'method="{settings.method}" needs at least {fewest} labelled images, got {n}: '
            f"{fewest - n} are missing;{instead} add images."
        )


def _check_each(counts: Sequence[int], n: int, names: Sequence[str], settings: FitSettings) -> None:
    """Raise if a curve of its own would have too few images with its label, or without."""
    if not settings.per_label:
        return
    fewest = FEWEST_OF_EACH[settings.method]
    for name, count in zip(names, counts, strict=True):
        if min(count, n - count) < fewest:
            raise ConfigError(
                f"a curve for each label needs at least {fewest} images with the label and "
                f"{fewest} without; {name!r} has {count} and {n - count}. Add images, or leave "
                "per_label=True out, so that all labels share one curve."
            )
