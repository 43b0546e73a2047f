"""One guided run of a pipeline: what its denoiser answers, step by step.

Classifier-free guidance is part of what is differentiated: the gradient passes through the
prediction that the pipeline makes of both halves of the batch, `u + w (c - u)`, rescaled if it asks
for that. The guided prediction is then put into both halves, so that the pipeline's own mixture,
whose weights add up to 1, gives exactly that.
B images, C channels of the latents, h and w their size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import NumericalError, SamplingStoppedError
from ecliptic.guidance.guiding import Through, guided
from ecliptic.guidance.losses.weighted import ImageLoss, name_of, tell_noise
from ecliptic.guidance.parametrisations import Level, Parametrisation
from ecliptic.guidance.pipelines.decoding import Decoder
from ecliptic.guidance.pipelines.families import DenoiserRow
from ecliptic.guidance.pipelines.hooking import frozen, usable, widened
from ecliptic.guidance.pipelines.noise import NoiseLevel, read_noise
from ecliptic.guidance.pipelines.precision import keep_gradient


@dataclass(frozen=True)
class GuidedStep:
    """What guidance saw at a step; nothing here has a gradient."""

    number: int  # of the call of the denoiser, from 1
    steps: int  # calls of the run; some schedulers have two in a step
    loss: Tensor  # (B,)
    x0: Tensor  # the image as it is predicted without guidance, in latents of the pipeline
    images: Tensor  # (B, 3, H, W) the same as the loss saw it, about 0..1


StepWatch = Callable[[GuidedStep], object]


@dataclass(frozen=True)
class Steering:
    """How a run is guided; the fields are arguments of `guided_pipeline`."""

    scale: Level
    during: tuple[float, float]
    every: int
    through: Through
    clamp: float | None
    save_memory: bool
    watch: StepWatch | None

    def guides(self, number: int, steps: int) -> bool:
        """Whether call `number`, from 0, is guided."""
        first, last = self.during
        inside = first <= number / steps < last
        return inside and number % self.every == 0 and bool(torch.as_tensor(self.scale).any())


class GuidedRun:
    """Answers the calls of the denoiser in one run of a pipeline.

    Args:
        pipe: the pipeline, whose guidance scale, scheduler and number of steps are read.
        row: how it calls its denoiser.
        kind: what the denoiser predicts.
        loss: of images.
        decoder: latents to images.
        steering: how strongly, and when.
    """

    def __init__(
        self,
        pipe: Any,
        row: DenoiserRow,
        kind: Parametrisation,
        loss: ImageLoss,
        decoder: Decoder,
        steering: Steering,
    ) -> None:
        self.pipe, self.row, self.kind = pipe, row, kind
        self.loss, self.decoder, self.steering = loss, decoder, steering
        self.number = 0  # calls that are done
        self.reached: Tensor | None = None  # the last x0

    def answer(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The answer of the denoiser to a call of the pipeline."""
        steps = int(self.pipe.num_timesteps)
        number, self.number = self.number, self.number + 1
        try:
            if self.steering.guides(number, steps):
                # in guided steps only: PyTorch may choose other kernels for frozen weights
                with frozen(getattr(self.pipe, self.row.denoiser), self.decoder.vae):
                    return (self._guide(_Call(self, forward, args, kwargs), steps),)
            found = forward(*args, **kwargs)
            if not torch.isfinite(found[0]).all():
                raise NumericalError("the denoiser gave NaN or infinity.")
            return found
        except NumericalError as error:
            raise SamplingStoppedError(
                f"step {number + 1} of {steps} stopped: {error} A smaller scale, a clamp, or "
                "bfloat16 in place of float16 may help; `.reached` of this error is the last "
                "prediction of the latents before.",
                number,
                self.reached,
            ) from None

    def _guide(self, call: "_Call", steps: int) -> Tensor:
        noise, how = read_noise(self.pipe.scheduler, self.kind, call.timestep), self.steering
        loss, seen = _Heard(self.loss), _Seen()

        def predict(x: Tensor, _: Tensor) -> Tensor:
            found = call.predict(x)
            return noise.skip * x + noise.out * found if noise.skip else found

        def decode(x0: Tensor) -> Tensor:
            seen.x0 = x0.detach()
            images = self.decoder(self._unpack(x0, call))
            seen.images = images.detach()
            return images

        denoise = guided(
            predict,
            loss,
            how.scale,
            noise.kind,
            alphas=lambda _: noise.a,
            sigmas=lambda _: noise.s,
            decode=decode,
            through=how.through,
            clamp=how.clamp,
            save_memory=how.save_memory,
        )
        found = denoise(call.x, call.x.new_zeros(len(call.x)))
        found = self._finish(found, call, noise)
        self.reached = seen.x0
        if how.watch is not None and seen.x0 is not None and seen.images is not None:
            how.watch(GuidedStep(self.number, steps, loss.value, seen.x0, seen.images))
        return found

    def _finish(self, found: Tensor, call: "_Call", noise: NoiseLevel) -> Tensor:
        """The guided prediction as the pipeline takes it: its precision, for both halves."""
        if noise.skip:
            found = (found - noise.skip * call.x) / noise.out
        found = found.to(call.dtype)
        if not torch.isfinite(found).all():
            raise NumericalError(f"the gradient of the loss gave NaN or infinity in {call.dtype}.")
        return torch.cat([found, found]) if call.doubled else found

    def _unpack(self, x: Tensor, call: "_Call") -> Tensor:
        """(B, h w / 4, 4 C) of FLUX -> (B, C, h, w); others as they are."""
        if not self.row.packed:
            return x
        height, width = (int(end) + 1 for end in call.kwargs["img_ids"][:, 1:].amax(dim=0))
        squares = x.reshape(len(x), height, width, -1, 2, 2)
        return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(x), -1, 2 * height, 2 * width)


class _Call:
    """One call of the denoiser: x_t once, and all other arguments as they came."""

    def __init__(
        self,
        run: GuidedRun,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.forward, pipe, name = forward, run.pipe, run.row.latents
        self.args, self.kwargs = usable(args[1:]), usable(kwargs)
        x = usable(args[0] if args else self.kwargs.pop(name)).detach()
        self.name = None if args else name
        self.timestep: Tensor = usable(args[1] if len(args) > 1 else kwargs["timestep"])
        self.dtype = x.dtype
        self.doubled = run.row.doubled and bool(pipe.do_classifier_free_guidance)
        self.x = widened(x.chunk(2)[0] if self.doubled else x)  # (B, ...)
        self.weight = float(pipe.guidance_scale) if self.doubled else 1.0
        self.rescale = float(getattr(pipe, "guidance_rescale", 0.0) or 0.0)

    def predict(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...) the prediction that the pipeline will use, with a gradient."""
        return keep_gradient(self._predict, x, self.dtype)

    def _predict(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if self.doubled:
            x = torch.cat([x, x])
        kwargs = self.kwargs if self.name is None else self.kwargs | {self.name: x}
        args = (x, *self.args) if self.name is None else self.args
        found = widened(self.forward(*args, **kwargs)[0])
        if not self.doubled:
            return found
        without, given = found.chunk(2)
        return combine(without, given, self.weight, self.rescale)


def combine(without: Tensor, given: Tensor, weight: float, rescale: float) -> Tensor:
    """Classifier-free guidance, and its rescaling.

    Args:
        without: (B, ...) prediction for the negative prompt.
        given: (B, ...) prediction for the prompt.
        weight: `guidance_scale` of the pipeline.
        rescale: `guidance_rescale`, 0 to 1: how much of the prediction gets the standard deviation
            of `given`.

    Source: Ho and Salimans 2022, arXiv:2207.12598; Lin et al. 2023, arXiv:2305.08891, section 3.4.
    """
    mixed = without + weight * (given - without)
    if not rescale:
        return mixed
    axes = tuple(range(1, mixed.ndim))
    ratio = given.std(dim=axes, keepdim=True) / mixed.std(dim=axes, keepdim=True)
    return rescale * mixed * ratio + (1 - rescale) * mixed


class _Seen:
    """What went through the decoder."""

    x0: Tensor | None = None
    images: Tensor | None = None


class _Heard:
    """A loss that remembers its last value."""

    def __init__(self, loss: ImageLoss) -> None:
        self.loss, self.__name__ = loss, name_of(loss)
        self.value = torch.empty(0)

    def __call__(self, images: Tensor) -> Tensor:
        loss = self.loss(images)
        self.value = loss.detach()
        return loss

    def at(self, noise: float) -> None:
        tell_noise(self.loss, noise)
