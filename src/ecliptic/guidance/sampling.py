"""Samples from a denoiser of any kind: DDIM and DDPM steps on any schedule, with recurrences.

A step predicts x0 and the noise, and mixes them for the next time: `x' = a' x0 + d noise + n new`,
with `n = eta sqrt(s'^2 / s^2 (s^2 - (a / a')^2 s'^2))` and `d^2 + n^2 = s'^2` (Song et al. 2021,
DDIM, arXiv:2010.02502, equations 12 and 16, for any a and s). B batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError, NumericalError, SamplingStoppedError, ShapeError
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.guiding import Denoiser, check_prediction
from ecliptic.guidance.parametrisations import (
    Parametrisation,
    check_levels,
    check_parametrisation,
    level,
    to_x0,
)
from ecliptic.guidance.schedules import Schedule

_ROUNDING = 1e-9  # of shares of a run


@dataclass(frozen=True)
class SampleStep:
    """What is known after a step of a run."""

    number: int  # steps that are done
    steps: int
    x: Tensor  # (B, ...) with noise
    x0: Tensor  # (B, ...) as it is predicted now


@dataclass(frozen=True)
class Recurrence:
    """Steps that are repeated: noise is added back, and the step is done again.

    Universal guidance (Bansal et al. 2023, arXiv:2302.07121, section 3.3) repeats all of them; the
    time travel of FreeDoM (Yu et al. 2023, arXiv:2303.09833, section 4.3) those in the middle, 10
    times from 0.8 to 0.5 of the run that is left.
    """

    times: int = 1  # how often each step is done
    first: float = 1.0  # share of the run that is left where it begins
    last: float = 0.0  # and where it ends

    def __post_init__(self) -> None:
        check_count("times", self.times)
        if not 0 <= self.last <= self.first <= 1:
            raise ConfigError(
                f"first and last are shares of the run that is left, 1 >= first >= last >= 0, got "
                f"{self.first} and {self.last}."
            )

    def count(self, number: int, steps: int) -> int:
        """How often step `number` is done."""
        left = 1 - number / steps
        inside = self.last - _ROUNDING <= left <= self.first + _ROUNDING
        return self.times if inside else 1


ONCE = Recurrence()


@torch.no_grad()
def sample(
    denoise: Denoiser,
    noise: Tensor,
    parametrisation: Parametrisation,
    schedule: Schedule,
    steps: int = 50,
    *,
    eta: float = 0.0,
    recurrence: Recurrence = ONCE,
    seed: int = 0,
    watch: Callable[[SampleStep], object] | None = None,
    every: int = 1,
    times: Tensor | None = None,
) -> Tensor:
    """Turn noise into images, step by step.

    Args:
        denoise: `denoise(x, t)`, guided or not; t is (B,).
        noise: (B, ...) of variance 1; or, with `times`, what x is at the first of them.
        parametrisation: what `denoise` predicts.
        schedule: a(t), s(t) and the times.
        steps: number of steps.
        eta: 0 adds no noise (DDIM), 1 as much as DDPM.
        recurrence: steps that are repeated.
        seed: of the noise that is added on the way; each sample has its own, so a batch gives the
            same as its samples one by one, up to the rounding of the denoiser.
        watch: is called after every `every` steps, and after the last.
        every: as above.
        times: (K + 1,) times in place of those of `schedule`; `noise` is then used as it is.

    Returns:
        (B, ...) x at the last time.

    Raises:
        SamplingStoppedError: a step gave NaN or infinity; it carries the last finite x0.
    """
    kind = check_parametrisation(parametrisation)
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta must be 0 to 1, got {eta}.")
    if not len(noise):
        raise ShapeError("noise has no samples: the batch is 0.")
    check_count("every", every)
    t = (schedule.times(steps) if times is None else times).to(noise.device)
    run = _Run(denoise, kind, schedule, eta, _noises(noise, seed))
    x = noise * float(schedule.sigmas(t[:1])) if times is None else noise
    x0: Tensor | None = None
    for number in range(len(t) - 1):
        count = recurrence.count(number, len(t) - 1)
        for repeat in range(count):
            try:
                there, x0 = run.step(x, t[number], t[number + 1])
            except NumericalError as error:
                raise SamplingStoppedError(
                    f"step {number + 1} of {len(t) - 1} stopped: {error} A smaller scale, or a "
                    "clamp, may help; `.reached` of this error is what was there before.",
                    number,
                    x0,
                ) from None
            x = there if repeat == count - 1 else run.add_noise(there, t[number], t[number + 1])
        seen = x if x0 is None else x0
        _show(watch, every, SampleStep(number + 1, len(t) - 1, x, seen))
    return x


def _show(watch: Callable[[SampleStep], object] | None, every: int, step: SampleStep) -> None:
    """Call `watch` if it is its turn."""
    if watch is not None and (step.number % every == 0 or step.number == step.steps):
        watch(step)


@dataclass(frozen=True)
class _Run:
    denoise: Denoiser
    kind: Parametrisation
    schedule: Schedule
    eta: float
    noises: Iterator[Tensor]

    def step(self, x: Tensor, t: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
        """x at the next time, and x0."""
        (a, s), (b, r) = self._levels(x, t), self._levels(x, then)
        check_levels(self.kind, a, s)
        if float(s.min()) <= 0 or (self.kind == "eps" and float(a.min()) <= 0):
            what = "no noise (s = 0)" if float(s.min()) <= 0 else "noise alone (a = 0)"
            raise ConfigError(
                f"a step of {self.kind!r} begins with {what}, from which the other part cannot be "
                "computed; give times that begin a little later."
            )
        prediction = check_prediction(self.denoise(x, t.expand(len(x))), x)
        x0 = to_x0(self.kind, prediction, x, a.clamp(min=1e-8), s).to(x.dtype)
        noise = (x - a * x0) / s
        if self.kind == "eps":
            noise = prediction
        new = self.eta * (r / s) * self._lost(a, s, b, r)
        old = (r.square() - new.square()).clamp(min=0).sqrt()
        y = b * x0 + old * noise
        if bool(new.any()):
            y = y + new * next(self.noises)
        if not torch.isfinite(y).all():
            raise NumericalError("x is NaN or infinite.")
        return y.to(x.dtype), x0

    def add_noise(self, y: Tensor, t: Tensor, then: Tensor) -> Tensor:
        """x at the earlier time `t` from `y` at `then`, by the noise between them."""
        (a, s), (b, r) = self._levels(y, t), self._levels(y, then)
        return ((a / b) * y + self._lost(a, s, b, r) * next(self.noises)).to(y.dtype)

    def _levels(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return (
            level(self.schedule.alphas(t), x, "alphas"),
            level(self.schedule.sigmas(t), x, "sigmas"),
        )

    @staticmethod
    def _lost(a: Tensor, s: Tensor, b: Tensor, r: Tensor) -> Tensor:
        """Standard deviation of the noise that is added on the way from (b, r) to (a, s)."""
        return (s.square() - (a / b).square() * r.square()).clamp(min=0).sqrt()


def _noises(like: Tensor, seed: int) -> Iterator[Tensor]:
    """Endless noise; sample i has a stream of its own."""
    streams = [generator_of(seed, number) for number in range(len(like))]
    while True:
        rows = [torch.randn(like.shape[1:], generator=stream) for stream in streams]
        yield torch.stack(rows).to(like.device, like.dtype)
