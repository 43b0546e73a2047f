"""Guidance: a denoiser whose predictions are pulled towards a small loss.

`p(x0) exp(-scale L(x0))` is sampled in place of p(x0): `g = -scale grad_{x_t} L(x0(x_t))`, and the
prediction is steered by g (Dhariwal and Nichol 2021, arXiv:2105.05233; the gradient passes through
the denoiser, as in Ho et al. 2022, arXiv:2204.03458, and Bansal et al. 2023, arXiv:2302.07121).
B batch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ecliptic.checks import check_finite, check_number
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.guidance.losses.weighted import ImageLoss, name_of, tell_noise
from ecliptic.guidance.parametrisations import (
    Level,
    Parametrisation,
    check_levels,
    check_parametrisation,
    default_levels,
    level,
    steer,
    to_x0,
)

Denoiser = Callable[[Tensor, Tensor], Tensor]  # x (B, ...) and t -> prediction (B, ...)
Through = Literal["denoiser", "x0"]


def guided(
    denoise: Denoiser,
    loss: ImageLoss,
    scale: Level,
    parametrisation: Parametrisation,
    *,
    alphas: Callable[[Tensor], Level] | None = None,
    sigmas: Callable[[Tensor], Level] | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    through: Through = "denoiser",
    blend: bool = False,
    clamp: float | None = None,
    save_memory: bool = False,
) -> Denoiser:
    """A denoiser that is guided by a loss; call it in the place of `denoise`, in any sampler.

    Args:
        denoise: `denoise(x, t)` of x (B, ...) gives the prediction (B, ...).
        loss: of the images (B, ...) -> (B,), made smaller; such as `ClipLoss`. Row i must depend on
            image i alone.
        scale: strength, one number or one of each sample (B,). 0 calls `denoise` and nothing else;
            a negative one makes the loss larger.
        parametrisation: what `denoise` predicts: "eps", "x0", "v", "karras" or "flow".
        alphas: a(t), one number or (B,): `x_t = a x0 + s noise`. None for "karras" (1) and "flow"
            (1 - t).
        sigmas: s(t); None for "karras" and "flow" (t).
        decode: x0 to the images of the loss, with a gradient; None: x0 itself.
        through: "denoiser" takes the gradient through the denoiser. "x0" is cheaper and biased: it
            takes the gradient for x0, as if the data were white noise of variance 1.
        blend: the loss sees `x0 f + x_t (1 - f)` with f the share of noise (the x_in of the
            guided-diffusion notebooks): x_t itself counts more in late steps.
        clamp: most root mean square of g of a sample (Disco Diffusion's clamp, there 0.05).
        save_memory: compute the denoiser a second time in place of keeping its activations.

    Returns:
        A function of x and t, with the predictions of the same kind. At a time with a = 0 nothing
        of the image is left to be steered, so the prediction stays as it is.

    Raises:
        ConfigError: an unknown parametrisation, a missing schedule, a scale that is not finite.
    """
    kind = check_parametrisation(parametrisation)
    fix = "pass a finite number, such as 100, or one of each sample."
    if isinstance(scale, Tensor):
        check_finite(scale, "scale", fix, ConfigError)
    else:
        check_number("scale", scale, fix)
    if through not in ("denoiser", "x0"):
        raise ConfigError(f'through must be "denoiser" or "x0", got {through!r}.')
    if through == "x0" and save_memory:
        raise ConfigError('through="x0" keeps no activations, so save_memory has no effect.')
    if clamp is not None and not 0 < clamp < float("inf"):
        raise ConfigError(f"clamp must be above 0, got {clamp}; None sets no limit.")
    levels = default_levels(kind, alphas, sigmas)
    return _Guided(denoise, loss, scale, kind, *levels, decode, through, blend, clamp, save_memory)


@dataclass(frozen=True)
class _Guided:
    """The guided denoiser; the fields are the arguments of `guided`."""

    denoise: Denoiser
    loss: ImageLoss
    scale: Level
    kind: Parametrisation
    alphas: Callable[[Tensor], Level]
    sigmas: Callable[[Tensor], Level]
    decode: Callable[[Tensor], Tensor] | None
    through: Through
    blend: bool
    clamp: float | None
    save_memory: bool

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if not torch.as_tensor(self.scale).any():
            return check_prediction(self.denoise(x, t), x)
        with torch.inference_mode(False), torch.enable_grad():
            x, t = _usable(x), _usable(t)
            a, s = level(self.alphas(t), x, "alphas"), level(self.sigmas(t), x, "sigmas")
            check_levels(self.kind, a, s)
            prediction, slope = self._differentiate(x, t, a, s)
        g = -level(self.scale, x, "scale") * slope
        if self.clamp is not None:
            size = g.square().flatten(1).mean(dim=1).sqrt().reshape(a.shape)
            g = g * (self.clamp / size.clamp(min=self.clamp))
        found = torch.where(
            a > 0, steer(self.kind, prediction, g, a.clamp(min=1e-12), s), prediction
        )
        return found.to(prediction.dtype)

    def _differentiate(self, x: Tensor, t: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, and the gradient of the loss for x_t, both (B, ...)."""
        if self.through == "x0":
            with torch.no_grad():
                prediction = check_prediction(self.denoise(x, t), x)
                x0 = self._estimate(prediction, x, a, s)
            x0.requires_grad_()
            x = x.requires_grad_()  # a blend holds it too
            loss = self._measure(x0, x, a, s)
            for_x0, direct = torch.autograd.grad(loss.sum(), (x0, x), allow_unused=True)
            slope = for_x0 * (a / (a.square() + s.square()))
            return prediction, slope if direct is None else slope + direct
        x = x.requires_grad_()
        if self.save_memory:
            prediction = checkpoint(self.denoise, x, t, use_reentrant=False)
        else:
            prediction = self.denoise(x, t)
        check_prediction(prediction, x)
        loss = self._measure(self._estimate(prediction, x, a, s), x, a, s)
        (slope,) = torch.autograd.grad(loss.sum(), x)
        return prediction.detach(), slope

    def _estimate(self, prediction: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """x0; where a = 0 it does not matter what it is, but it must be finite."""
        return to_x0(self.kind, prediction, x, a.clamp(min=1e-4), s)

    def _measure(self, x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """(B,) loss of x0, or of its blend with x_t."""
        share = s / (a.square() + s.square()).sqrt()
        if self.blend:
            x0 = x0 * share + x * (1 - share)
        tell_noise(self.loss, float(share.max()))
        images = x0 if self.decode is None else self.decode(x0)
        loss = self.loss(images)
        if loss.shape != (len(x),):
            raise ShapeError(
                f"the loss {name_of(self.loss)} must give one number for each of the {len(x)} "
                f"samples, got the shape {tuple(loss.shape)}; take the mean of the other axes."
            )
        if not loss.requires_grad:
            raise ConfigError(
                f"the loss {name_of(self.loss)} has no gradient for the images; it, decode or the "
                "denoiser detaches them."
            )
        if not torch.isfinite(loss).all():
            raise NumericalError(f"the loss {name_of(self.loss)} gave NaN or infinity.")
        return loss


def check_prediction(prediction: Tensor, x: Tensor) -> Tensor:
    """`prediction`, if it has the shape of `x` and is finite.

    Raises:
        ShapeError: another shape, such as of a model that predicts the variance too.
        NumericalError: NaN or infinity.
    """
    if not isinstance(prediction, Tensor) or prediction.shape != x.shape:
        got = tuple(prediction.shape) if isinstance(prediction, Tensor) else type(prediction)
        raise ShapeError(
            f"the denoiser must return a tensor of the shape of x, {tuple(x.shape)}, got {got}; "
            "take `.sample` of a model of diffusers, and the first half of the channels of a model "
            "that predicts the variance too."
        )
    if not torch.isfinite(prediction).all():
        raise NumericalError("the denoiser gave NaN or infinity.")
    return prediction


def _usable(x: Tensor) -> Tensor:
    """A tensor that can be part of a gradient; those of inference mode cannot."""
    x = x.detach()
    return x.clone() if x.is_inference() else x
