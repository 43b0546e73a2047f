"""Changes a canvas step by step until a loss of its picture is small.

The loss is any function of pictures, (B, 3, H, W) values 0 to 1 -> (B,), smaller is better. On CPU
the same canvas, loss and seed give the same picture: a loss that has a `restart` is begun again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_finite, is_finite
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.guidance.canvases.canvas import Adjustable, Canvas
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.losses.weighted import ImageLoss, restart

FRAMES = 8  # pictures of the way
SLOWEST = 0.1  # share of the rates in the last step; they fall along a cosine


@dataclass(frozen=True)
class Frame:
    """What was there at one step."""

    step: int  # from 0, the start
    picture: Tensor  # (B, 3, H, W) values 0 to 1
    loss: float  # mean over the batch


@dataclass(frozen=True)
class Optimised:
    """What an optimisation reached."""

    picture: Tensor  # (B, 3, H, W) values 0 to 1, without gradients
    losses: tuple[float, ...]  # before each step; mean over the batch
    frames: tuple[Frame, ...]  # of the way, the start first
    notice: str = ""  # why it stopped early; "" if it did not

    @property
    def stopped(self) -> bool:
        """Whether it stopped before the last step; the picture is then the best one reached."""
        return bool(self.notice)


StepReport = Callable[[int, float], object]  # gets the steps done and the loss before the last one


def optimise(
    canvas: Canvas,
    loss: ImageLoss,
    steps: int,
    *,
    frames: int = FRAMES,
    report: StepReport | None = None,
    seed: int = 0,
) -> Optimised:
    """Change the parameters of `canvas` by Adam so that `loss` of its picture becomes small.

    The rates fall along a cosine to a tenth. A loss or a gradient that becomes NaN or infinite
    stops the work; the canvas then shows the picture with the smallest loss that was reached.

    Args:
        canvas: is changed in place.
        loss: of pictures (B, 3, H, W) with values 0 to 1; (B,), smaller is better.
        steps: of Adam.
        frames: pictures of the way to keep: the first, the last and some between; 1 keeps the last.
        report: called after each step with its number, from 1, and the loss before it.
        seed: of torch's random numbers, for a loss that uses these.

    Raises:
        ConfigError: steps or frames that cannot be; a loss that does not depend on the canvas.
        ShapeError: the canvas gives no (B, 3, H, W), or the loss no (B,).
        NumericalError: the picture or the loss is not finite before the first step.
    """
    check_count("steps", steps)
    check_count("frames", frames, least=0)
    check_count("seed", seed, least=0)
    given = canvas.parameters()
    if not given:
        raise ConfigError("the canvas has no parameters, so nothing can change.")
    with torch.random.fork_rng():
        torch.manual_seed(generator_of(seed).initial_seed())
        restart(loss)
        return _Run(canvas, loss, steps, given, _places(frames, steps)).go(report)


class _Run:
    """The state of one optimisation."""

    def __init__(
        self,
        canvas: Canvas,
        loss: ImageLoss,
        steps: int,
        given: Sequence[Adjustable],
        places: set[int],
    ) -> None:
        self.canvas, self.loss, self.steps, self.places = canvas, loss, steps, places
        self.tensors = [one.tensor for one in given]
        self.rates = [one.rate for one in given]
        self.adam = torch.optim.Adam([{"params": [one.tensor], "lr": one.rate} for one in given])
        self.losses: list[float] = []
        self.frames: list[Frame] = []
        self.best = (math.inf, [tensor.detach().clone() for tensor in self.tensors])

    def go(self, report: StepReport | None) -> Optimised:
        for step in range(self.steps):
            if notice := self._step(step):
                return self._stop(notice)
            if report is not None:
                report(step + 1, self.losses[-1])
        with torch.no_grad():
            picture = self.canvas.render().detach()
        if not is_finite(picture):
            return self._stop(f"the picture became NaN or infinite in step {self.steps}")
        if self.steps in self.places:
            self.frames.append(Frame(self.steps, picture, self.losses[-1]))
        return Optimised(picture, tuple(self.losses), tuple(self.frames))

    def _step(self, step: int) -> str:
        """Make one step; return why it cannot be made, or ""."""
        picture = self.canvas.render()
        if step == 0:
            _check_picture(picture)
        try:
            rows = self.loss(picture)
        except NumericalError as error:  # of the model
            if step == 0:
                raise
            return f"{error} This was in step {step + 1}"
        if step == 0:
            _check_loss(rows, picture)
        value = float(rows.detach().mean())
        if not math.isfinite(value):
            return f"the loss became {value} in step {step + 1}"
        if value < self.best[0]:
            self.best = (value, [tensor.detach().clone() for tensor in self.tensors])
        self.losses.append(value)
        if step in self.places:
            self.frames.append(Frame(step, picture.detach().clone(), value))
        # Only these gradients: `backward` would also fill those of the model's weights.
        gradients = torch.autograd.grad(rows.sum(), self.tensors, allow_unused=True)
        if not all(is_finite(one) for one in gradients if one is not None):
            return f"a gradient became NaN or infinite in step {step + 1}"
        share = SLOWEST + (1 - SLOWEST) * (1 + math.cos(math.pi * step / self.steps)) / 2
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient
        self.adam.step()
        self.adam.zero_grad()
        self.canvas.after_step()
        return ""

    @torch.no_grad()
    def _stop(self, notice: str) -> Optimised:
        """What there is when the work stops early: the best picture."""
        value, tensors = self.best
        for tensor, kept in zip(self.tensors, tensors, strict=True):
            tensor.copy_(kept)
        picture = self.canvas.render().detach()
        step = self.losses.index(value) if self.losses else 0
        notice = f"{notice}; the picture is that of step {step}, the best one reached."
        return Optimised(picture, tuple(self.losses), tuple(self.frames), notice)


def _places(frames: int, steps: int) -> set[int]:
    """Steps before which a frame is kept; `steps` stands for the end."""
    if frames < 2:
        return {steps} if frames else set()
    return {round(steps * n / (frames - 1)) for n in range(frames)}


def _check_picture(picture: Tensor) -> None:
    if picture.ndim != 4 or picture.shape[1] != 3:
        raise ShapeError(
            f"the canvas must render (B, 3, H, W), got {tuple(picture.shape)}; add the batch, and "
            "put the colours first."
        )
    what = "the picture before the first step"
    check_finite(picture, what, "start from finite parameters.", NumericalError)


def _check_loss(rows: Tensor, picture: Tensor) -> None:
    if rows.shape != picture.shape[:1]:
        raise ShapeError(
            f"the loss must give one number for each of the {len(picture)} pictures, got "
            f"{tuple(rows.shape)}; take the mean over everything but the batch."
        )
    if not rows.requires_grad:
        raise ConfigError(
            "the loss does not depend on the canvas, so nothing can change; compute it from the "
            "picture with torch, and without torch.no_grad()."
        )
    fix = "look at the loss, or start from another canvas."
    check_finite(rows, "the loss before the first step", fix, NumericalError)
