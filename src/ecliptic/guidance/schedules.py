"""How much of the image and of the noise x_t holds at a time: `x_t = a(t) x0 + s(t) noise`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_finite, check_range
from ecliptic.errors import ConfigError

_LATEST = 0.999  # the time at which a run of the cosine schedule begins


@dataclass(frozen=True)
class Schedule:
    """The two shares as functions of the time, and the times of a run."""

    alphas: Callable[[Tensor], Tensor]
    sigmas: Callable[[Tensor], Tensor]
    spread: Callable[[int], Tensor]  # steps -> (steps + 1,) times from noise to image

    def times(self, steps: int) -> Tensor:
        """(steps + 1,) times, from the most noise to none.

        Raises:
            ConfigError: `steps` is below 1.
        """
        return self.spread(check_count("steps", steps))


def flow_schedule(shift: float = 1.0) -> Schedule:
    """Rectified flow: a = 1 - t, s = t; `shift` above 1 spends more steps on much noise.

    Source of the shift: Esser et al. 2024, arXiv:2403.03206, section 5.3.2.

    Raises:
        ConfigError: a shift that is not above 0.
    """
    check_range("shift", shift, above=True)

    def spread(steps: int) -> Tensor:
        t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return (shift * t / (1 + (shift - 1) * t)).float()

    return Schedule(lambda t: 1 - t, lambda t: t, spread)


def cosine_schedule() -> Schedule:
    """a = cos(pi t / 2), s = sin(pi t / 2), as v-diffusion's (crowsonkb); t from 1 to 0."""
    half = math.pi / 2

    def spread(steps: int) -> Tensor:
        # at t = 1 nothing of the image is left, and a prediction of the noise says nothing of it
        return torch.linspace(1, 0, steps + 1).clamp(max=_LATEST)

    return Schedule(lambda t: torch.cos(t * half), lambda t: torch.sin(t * half), spread)


def stored_schedule(alphas_cumprod: Tensor) -> Schedule:
    """The discrete schedule of DDPM; times are numbers of steps, and -1 is the image itself.

    Args:
        alphas_cumprod: (T,) products of 1 - beta, falling: a^2 at each time.

    Raises:
        ConfigError: not one row of numbers between 0 and 1 that falls.
    """
    products = torch.as_tensor(alphas_cumprod).detach().double().flatten()
    check_finite(products, "alphas_cumprod", "check the schedule.", ConfigError)
    falling = bool((products.diff() <= 0).all())
    if not len(products) or not falling or products.min() < 0 or products.max() > 1:
        raise ConfigError(
            "alphas_cumprod must fall from 1 towards 0 (the products of 1 - beta), got "
            f"{len(products)} numbers from {products.max():.4g} to {products.min():.4g}."
        )
    squares = torch.cat([products, products.new_ones(1)])  # the last is found at -1

    def spread(steps: int) -> Tensor:
        last = len(products) - 1
        if steps > last + 1:
            raise ConfigError(f"{steps} steps, but the schedule has only {last + 1} times.")
        times = torch.linspace(last, 0, steps, dtype=torch.float64).round().long()
        return torch.cat([times, times.new_full((1,), -1)])

    return Schedule(
        lambda t: squares.to(t.device)[t.long()].sqrt().float(),
        lambda t: (1 - squares.to(t.device)[t.long()]).sqrt().float(),
        spread,
    )


def karras_schedule(least: float = 0.03, most: float = 80.0, rho: float = 7.0) -> Schedule:
    """a = 1, s = sigma; the time is sigma itself (Karras et al. 2022, arXiv:2206.00364, eq. 5)."""
    check_range("rho", rho, above=True)
    if not 0 < least < most < math.inf:
        raise ConfigError(f"least and most must be 0 < least < most, got {least} and {most}.")

    def spread(steps: int) -> Tensor:
        at = torch.linspace(0, 1, steps, dtype=torch.float64)
        ends = most ** (1 / rho), least ** (1 / rho)
        sigmas = (ends[0] + at * (ends[1] - ends[0])) ** rho
        return torch.cat([sigmas, sigmas.new_zeros(1)]).float()

    return Schedule(torch.ones_like, lambda t: t, spread)
