"""Signs that a training does not learn, each with its likely cause. B pairs, E vector size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.train.settings import RANDOM, DistillationConfig, SigLIPConfig, TrainSettings
from ecliptic.train.stepping import LARGEST_SCALE, StepResult

SAMPLE = 1024  # pairs of a batch that are looked at
COLLAPSED = -0.5  # uniformity above this; random unit vectors have about -4
LEARNED = 0.5  # a loss below this share of chance: vectors may be close and still tell pairs apart
FEWEST_CAPTIONS = 0.5  # share of captions in a batch that must differ
PATIENCE = 200  # steps after the warm-up, before a loss at chance or a collapse is reported


@dataclass(frozen=True)
class Spread:
    """How the vectors of a batch lie on the sphere; not a number where the vectors are none.

    Source: Wang & Isola 2020, arXiv:2005.10242, equations 1 and 2; Roy & Vetterli 2007, "The
    effective rank".
    """

    alignment: float  # mean of ||x - y||^2 of pairs: 0 to 4, less is closer
    uniformity_image: float  # ln of the mean of exp(-2 ||a - b||^2); 0: all in one place
    uniformity_text: float
    rank: float  # effective dimensions of the image vectors: 1 to E


@torch.no_grad()
def measure_spread(images: Tensor, texts: Tensor) -> Spread:
    """Measure unit vectors (B, E) of pairs; at most the first `SAMPLE` of them."""
    x, y = images[:SAMPLE].float(), texts[:SAMPLE].float()
    alignment = (x - y).square().sum(-1).mean()
    return Spread(float(alignment), _uniformity(x), _uniformity(y), _effective_rank(x))


class HealthWatch:
    """Turns what is logged into warnings; each is given once until its sign is gone.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self._given: set[str] = set()
        # released models are at the bound from the start, which is no sign
        self._was_free = settings.start == RANDOM

    def look(
        self, step: int, result: StepResult, spread: Spread | None, captions: Tensor
    ) -> list[str]:
        """New warnings after `step`; `captions` (B,) are the numbers of a batch's captions."""
        signs = dict(self._find(step, result, spread, captions))
        new = [text for name, text in signs.items() if name not in self._given]
        self._given = set(signs)
        return new

    def _find(
        self, step: int, result: StepResult, spread: Spread | None, captions: Tensor
    ) -> Iterator[tuple[str, str]]:
        if result.skipped:
            yield (
                "skipped",
                "the gradients are not finite, so the step changed nothing; if this goes on, lower "
                'optim.rate, raise optim.warmup or set precision = "fp32".',
            )
        yield from self._find_temperature(result)
        distinct = len(torch.unique(captions)) / max(1, len(captions))
        if len(captions) > 1 and distinct < FEWEST_CAPTIONS:
            yield (
                "captions",
                f"only {distinct:.0%} of the captions in a batch differ, so most pairs have few "
                "negatives; add captions or sources, or use a smaller batch.",
            )
        if step > self.settings.optim.warmup + PATIENCE:
            chance = self._chance(captions)
            loss = result.parts.get("pair_loss", result.loss)
            yield from self._find_still_loss(loss, chance)
            if spread is not None and not loss < LEARNED * chance:
                yield from self._find_collapse(spread, varied=distinct >= FEWEST_CAPTIONS)

    def _find_temperature(self, result: StepResult) -> Iterator[tuple[str, str]]:
        at_bound = result.scale >= math.exp(LARGEST_SCALE) * 0.999
        self._was_free = self._was_free or not at_bound
        if at_bound and self._was_free:
            yield (
                "scale",
                "the temperature has reached its bound (a scale of 100): pairs are told apart by "
                "the smallest differences; check for examples that come twice, lower optim.rate, "
                "or stop if the loss is near 0.",
            )
        if result.scale <= 1.001:
            yield (
                "scale",
                "the temperature has reached its bound (a scale of 1): vectors of pairs are no "
                "closer than others; lower optim.rate, and check that captions belong to their "
                "images.",
            )

    def _find_still_loss(self, loss: float, chance: float) -> Iterator[tuple[str, str]]:
        if 0.98 * chance < loss < math.inf:
            batch = self.settings.data.batch
            yield (
                "loss",
                f"the loss {loss:.2f} is still that of vectors that say nothing ({chance:.2f} for "
                f"a batch of {batch}); raise or lower optim.rate tenfold, and check that captions "
                "belong to their images.",
            )

    def _find_collapse(self, spread: Spread, *, varied: bool) -> Iterator[tuple[str, str]]:
        """A tower in training whose vectors are all in one place; equal texts must be."""
        trains = self.settings.trains
        sides = {"image": spread.uniformity_image, "text": spread.uniformity_text}
        looked = [s for s in sides if trains in ("all", s) and (varied or s == "image")]
        collapsed = [s for s in looked if sides[s] > COLLAPSED]
        if collapsed:
            values = " and ".join(f"{sides[side]:.2f} for {side}s" for side in collapsed)
            yield (
                "collapse",
                f"the vectors collapse into one place: uniformity is {values} (0: all are equal, "
                f"-4: spread out), the effective rank of images {spread.rank:.1f}; lower "
                "optim.rate, use a larger batch, or check that captions belong to their images.",
            )

    def _chance(self, captions: Tensor) -> float:
        """The loss of vectors that say nothing about their pairs.

        With n texts for each image, its own among them, that is ln n for the softmax. The sigmoid
        has the share 1 / n of right pairs to learn.
        """
        batch, loss = self.settings.data.batch, self.settings.loss
        if isinstance(loss, DistillationConfig) or batch < 2 or not len(captions):
            return math.nan  # a divergence has no such value
        n = float(batch)
        if loss.mask_duplicates:
            _, places, counts = torch.unique(captions, return_inverse=True, return_counts=True)
            others = batch * (1 - (counts[places] - 1) / len(captions))
            n = float(others.double().log().mean().exp())
        rest = (n - 1) * math.log(n / (n - 1)) if n > 1 else 0.0
        return math.log(n) + (rest if isinstance(loss, SigLIPConfig) else 0.0)


def _uniformity(vectors: Tensor) -> float:
    if len(vectors) < 2:
        return -math.inf
    distances = torch.pdist(vectors).square()
    return float((-2 * distances).exp().mean().log())


def _effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the normalised singular values; NaN for vectors that are not finite."""
    if not is_finite(vectors):
        return math.nan
    values = torch.linalg.svdvals(vectors)
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())
