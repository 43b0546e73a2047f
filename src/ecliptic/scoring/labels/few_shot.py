"""Learning from a few labelled images: a linear probe that starts at the texts, and Tip-Adapter.

Both answer with logits (N, L), as exp(logit_scale) * cosine does. What they cannot know is chosen
by cross-validation, never on other images. N images, L labels, E vector size, K cached images.
Source: penalty towards the text vectors: Li et al. 2018, arXiv:1802.01483 (L2-SP); Tip-Adapter:
Zhang et al. 2022, arXiv:2207.09519.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.labels.reliability import NONE
from ecliptic.scoring.minimising import Slope, minimise_smooth

FOLDS = 5
FEWEST_PER_LABEL = 2  # so that a fold leaves one to learn from
MOST_KEYS = 10_000  # images of a Tip-Adapter, which compares all pairs of them
STRENGTHS = (math.inf, 1.0, 0.1, 0.01, 0.001, 0.0001)  # of the penalty; inf keeps the texts
ALPHAS = tuple(i * 2.9 / 20 + 0.1 for i in range(20))  # the released grid, 0.1 to 3
BETAS = tuple(i * 6.9 / 20 + 0.1 for i in range(20))  # its range, 0.1 to 7, in fewer steps


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Learned weights in place of the text vectors."""

    weights: Tensor  # (L, E) float32, the scale included
    strength: float  # of the penalty |weights - texts|^2; infinite: the texts themselves

    def logits(self, vectors: Tensor) -> Tensor:
        """(N, E) unit vectors -> (N, L) float64."""
        return vectors.double() @ self.weights.double().T


@dataclass(frozen=True, eq=False)
class TipAdapter:
    """Text logits, and votes of the labelled images by their similarity.

    exp(logit_scale) x T' + alpha exp(-beta (1 - x K')) Y
    """

    texts: Tensor  # (L, E) unit vectors
    keys: Tensor  # (K, E) unit vectors of labelled images
    labels: Tensor  # (K,) place of the label of each
    scale: float  # exp(logit_scale)
    alpha: float  # weight of the images; 0: the texts alone
    beta: float  # how fast a vote fades with the distance

    def logits(self, vectors: Tensor) -> Tensor:
        """(N, E) unit vectors -> (N, L) float64."""
        base = self.scale * (vectors.double() @ self.texts.double().T)
        near = vectors.double() @ self.keys.double().T
        return base + self.alpha * _votes(near, self.labels, len(self.texts), self.beta)


FewShot: TypeAlias = LinearProbe | TipAdapter


@dataclass(frozen=True, eq=False)
class FewShotFit:
    """What was learned, and what it says about each image when it has not seen it."""

    model: FewShot
    held_out: Tensor  # (N, L) logits of each image by a model that was fitted on the other folds


def fit_probe(
    vectors: Tensor,
    truth: Tensor,
    texts: Tensor,
    scale: float,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
) -> FewShotFit:
    """A linear probe: the mean log loss plus strength / 2 * |W - scale * texts|^2, by L-BFGS.

    Without any image it is the zero-shot classifier. The strength is the one with the least log
    loss on images that were held out; at equal loss the stronger.

    Args:
        vectors: (N, E) unit vectors of labelled images.
        truth: (N,) places of their labels; `NONE` for an image of none of them, which is not
            learned from, but scored by the model of its fold like the others.
        texts: (L, E) unit vectors of the labels.
        scale: exp(logit_scale) of the model.
        strengths: to choose from, falling; infinity keeps the texts.
        folds: of the cross-validation.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: fewer than two images of a label.
    """
    check_examples(vectors, truth, texts)
    x, start, known = vectors.double(), scale * texts.double(), truth != NONE
    part = stratified_folds(truth, folds)
    held = torch.empty(len(strengths), len(x), len(texts), dtype=torch.float64)
    for fold in range(int(part.max()) + 1):
        out = part == fold
        seen = known & ~out
        for place, weights in enumerate(_fit_weights(x[seen], truth[seen], start, strengths)):
            held[place, out] = x[out] @ weights.T
    losses = [_mean_loss(logits[known], truth[known]) for logits in held]
    best = losses.index(min(losses))
    *_, weights = _fit_weights(x[known], truth[known], start, strengths[: best + 1])
    return FewShotFit(LinearProbe(weights.float(), strengths[best]), held[best])


def fit_tip_adapter(
    vectors: Tensor,
    truth: Tensor,
    texts: Tensor,
    scale: float,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
    folds: int = FOLDS,
) -> FewShotFit:
    """A Tip-Adapter without training; alpha and beta have the least log loss on held-out images.

    The released code searches them on a validation set of its own; here the folds are that set.
    alpha = 0, the texts alone, is always tried too. Args and errors are those of `fit_probe`; more
    than `MOST_KEYS` images are refused as well.
    """
    check_examples(vectors, truth, texts)
    x, count, known = vectors.double(), len(texts), truth != NONE
    keys, labels = x[known], truth[known]
    if len(keys) > MOST_KEYS:
        raise ConfigError(
            f"a Tip-Adapter keeps every image and compares all pairs, so it takes at most "
            f"{MOST_KEYS:,}, got {len(keys):,}; use a linear probe, or fewer images."
        )
    base = scale * (x @ texts.double().T)
    near, part = x @ keys.T, stratified_folds(truth, folds)
    best = (_mean_loss(base[known], labels), 0.0, betas[0])
    held = base
    for beta in betas:
        votes = torch.empty_like(base)
        for fold in range(int(part.max()) + 1):
            out = part == fold
            seen = ~out[known]
            votes[out] = _votes(near[out][:, seen], labels[seen], count, beta)
        for alpha in alphas:
            logits = base + alpha * votes
            if (loss := _mean_loss(logits[known], labels)) < best[0]:
                best, held = (loss, alpha, beta), logits
    _, alpha, beta = best
    model = TipAdapter(texts.float(), keys.float(), labels, scale, alpha, beta)
    return FewShotFit(model, held)


def stratified_folds(truth: Tensor, folds: int = FOLDS, seed: int = 0) -> Tensor:
    """(N,) a fold from 0 for each example, at random; each label is spread evenly over them.

    With fewer than `folds` examples there are as many folds as examples.
    """
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
    by_label = order[truth[order].argsort(stable=True)]
    part = torch.empty_like(by_label)
    part[by_label] = torch.arange(len(truth)) % max(1, min(folds, len(truth)))
    return part


def check_examples(vectors: Tensor, truth: Tensor, texts: Tensor) -> None:
    """Raise unless there are vectors, labels and texts that fit, and two images of each label."""
    shapes = vectors.ndim == texts.ndim == 2 and vectors.shape[1] == texts.shape[1]
    if not shapes or truth.shape != vectors.shape[:1] or truth.is_floating_point():
        raise ShapeError(
            f"vectors {tuple(vectors.shape)}, truth {tuple(truth.shape)} of {truth.dtype} and "
            f"texts {tuple(texts.shape)} must be (N, E), (N,) places and (L, E)."
        )
    if len(truth) and not NONE <= int(truth.min()) <= int(truth.max()) < len(texts):
        raise ConfigError(f"truth must be places from 0 to {len(texts) - 1}, or {NONE}.")
    counts = torch.bincount(truth[truth != NONE], minlength=len(texts))
    if few := (counts < FEWEST_PER_LABEL).nonzero()[:, 0].tolist():
        raise ConfigError(
            f"learning from images needs at least {FEWEST_PER_LABEL} of each label; label "
            f"{few[0]} has {int(counts[few[0]])}, and {len(few) - 1} more are short too."
        )


def _fit_weights(
    x: Tensor, truth: Tensor, start: Tensor, strengths: Sequence[float]
) -> list[Tensor]:
    """(L, E) weights for each strength, each found from the one before."""
    found: list[Tensor] = []
    target = F.one_hot(truth, len(start)).double()
    for strength in strengths:
        before = found[-1] if found else start
        infinite = math.isinf(strength)
        found.append(start if infinite else _descend(x, target, start, before, strength))
    return found


def _descend(x: Tensor, target: Tensor, start: Tensor, before: Tensor, strength: float) -> Tensor:
    def measure(weights: Tensor) -> Slope:
        logs, far = (x @ weights.T).log_softmax(dim=1), weights - start
        value = -(target * logs).sum() / len(x) + strength / 2 * far.square().sum()
        return value, (logs.exp() - target).T @ x / len(x) + strength * far

    return minimise_smooth(measure, before)


def _votes(near: Tensor, labels: Tensor, count: int, beta: float) -> Tensor:
    """(N, K) similarities with labelled images -> (N, L) sums of their votes."""
    weight = (beta * (near - 1)).exp()
    return torch.zeros(len(near), count, dtype=weight.dtype).index_add(1, labels, weight)


def _mean_loss(logits: Tensor, truth: Tensor) -> float:
    return float(F.cross_entropy(logits, truth))
