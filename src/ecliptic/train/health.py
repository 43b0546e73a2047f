"""Signs that a training does not learn, each with its likely cause. B pairs, E vector size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.train.settings import InfoNCEConfig, TrainSettings
from ecliptic.train.stepping import LARGEST_SCALE, StepResult

SAMPLE = 1024  # pairs of a batch that are looked at
COLLAPSED = -0.5  # uniformity above this; random unit vectors have about -4
FEWEST_CAPTIONS = 0.5  # share of captions in a batch that must differ
PATIENCE = 200  # steps after the warm-up, before a loss at ln B is reported


@dataclass(frozen=True)
class Spread:
    """How the vectors of a batch lie on the sphere.

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
        self._spread: set[str] = set()  # towers whose vectors have been apart

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
                (
                    "the gradients are not finite, so the step changed nothing; if this goes on, "
                    'lower optim.rate or set precision = "fp32".'
                ),
            )
        yield from self._find_temperature(result)
        yield from self._find_still_loss(step, result, self.settings.data.batch)
        if spread is not None and self._collapses(step, spread):
            yield (
                "collapse",
                (
                    f"the vectors collapse: uniformity is {spread.uniformity_image:.2f} for images "
                    f"and {spread.uniformity_text:.2f} for texts (-4 is spread out), effective rank "
                    f"{spread.rank:.1f}; lower optim.rate, use a larger batch, or check that "
                    "captions belong to their images."
                ),
            )
        if (
            len(captions) > 1
            and (share := len(torch.unique(captions)) / len(captions)) < FEWEST_CAPTIONS
        ):
            yield (
                "captions",
                (
                    f"only {share:.0%} of the captions in a batch differ, so most pairs have few "
                    "negatives; add captions or sources, or use a smaller batch."
                ),
            )

    def _collapses(self, step: int, spread: Spread) -> bool:
        """Whether a trained tower puts all in one place: late, or after it had not.

        Vectors of random weights lie close together, and move apart within the first steps.
        """
        late = step > self.settings.optim.warmup + PATIENCE
        found = False
        for name in ("image", "text"):
            if self.settings.trains not in ("all", name):
                continue
            uniformity = getattr(spread, f"uniformity_{name}")
            if uniformity <= 2 * COLLAPSED:
                self._spread.add(name)
            found = found or (uniformity > COLLAPSED and (late or name in self._spread))
        return found

    def _find_temperature(self, result: StepResult) -> Iterator[tuple[str, str]]:
        if result.scale >= math.exp(LARGEST_SCALE) * 0.999:
            yield (
                "scale",
                (
                    "the temperature is at its bound (a scale of 100): pairs are told apart by the "
                    "smallest differences; check for duplicates, or stop if the loss is near 0."
                ),
            )
        if result.scale <= 1.001:
            yield (
                "scale",
                (
                    "the temperature is at its bound (a scale of 1): vectors of pairs are no closer "
                    "than others; lower optim.rate, and check that captions belong to their images."
                ),
            )

    def _find_still_loss(
        self, step: int, result: StepResult, pairs: int
    ) -> Iterator[tuple[str, str]]:
        late = step > self.settings.optim.warmup + PATIENCE
        chance = math.log(max(2, pairs))
        if late and isinstance(self.settings.loss, InfoNCEConfig) and result.loss > 0.98 * chance:
            yield (
                "loss",
                (
                    f"the loss {result.loss:.2f} is still at ln {pairs} = {chance:.2f}, that of "
                    "vectors that say nothing; raise or lower optim.rate tenfold, and check that captions "
                    "belong to their images."
                ),
            )


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
