"""Gaussian data, whose best denoiser and guided distribution are known in closed form.

Data N(mean, diag(variance)). With the loss -c x0 and a scale w, the guided distribution
p(x) exp(w c x) is N(mean + w variance c, diag(variance)), whatever the diffusion model predicts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.guidance import (
    Parametrisation,
    Schedule,
    cosine_schedule,
    flow_schedule,
    from_x0,
    karras_schedule,
    sample,
)

MEAN = torch.tensor([0.3, -0.5, 0.0, 1.0], dtype=torch.float64)
VARIANCE = torch.tensor([1.0, 0.25, 0.04, 2.0], dtype=torch.float64)
WANTED = torch.tensor([1.0, -2.0, 4.0, 0.5], dtype=torch.float64)  # c
SCALE = 0.8
EXACT = SCALE * VARIANCE * WANTED  # the shift of the mean
KINDS: tuple[Parametrisation, ...] = ("eps", "x0", "v", "karras", "flow")
SCHEDULES: dict[Parametrisation, Schedule] = {
    "eps": cosine_schedule(),
    "x0": cosine_schedule(),
    "v": cosine_schedule(),
    "karras": karras_schedule(1e-3, 80.0),
    "flow": flow_schedule(),
}
Denoise = Callable[[Tensor, Tensor], Tensor]


def loss(x0: Tensor) -> Tensor:
    """(B, 4) -> (B,)."""
    return -(x0 @ WANTED)


def ideal(kind: Parametrisation) -> Denoise:
    """The best denoiser of the data."""
    schedule = SCHEDULES[kind]

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.alphas(t)[:, None].double(), schedule.sigmas(t)[:, None].double()
        x0 = MEAN + a * VARIANCE / (a.square() * VARIANCE + s.square()) * (x - a * MEAN)
        return from_x0(kind, x0, x, a, s)

    return denoise


@dataclass(frozen=True)
class Outcome:
    """Mean and variance of what was sampled, beside what is exact."""

    ratio: Tensor  # (4,) shift / exact shift
    error: Tensor  # (4,) standard error of the ratio
    variance: Tensor  # (4,) variance / exact variance

    @property
    def right(self) -> bool:
        """Whether the shift is right within 2 standard errors, and the variance within 5 %."""
        near = (self.ratio - 1).abs() < 2 * self.error
        return bool(near.all() and ((self.variance - 1).abs() < 0.05).all())


def run(
    kind: Parametrisation, denoise: Denoise, steps: int, eta: float = 0.0, count: int = 2000
) -> Outcome:
    """Sample `count` times, each noise with its opposite, so that chance does not move the mean."""
    half = torch.randn(
        count // 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    half = (half - half.mean(dim=0)) / half.std(dim=0)
    found = sample(denoise, torch.cat([half, -half]), kind, SCHEDULES[kind], steps, eta=eta)
    error = (VARIANCE / len(found)).sqrt() / EXACT.abs()
    return Outcome((found.mean(dim=0) - MEAN) / EXACT, error, found.var(dim=0) / VARIANCE)
