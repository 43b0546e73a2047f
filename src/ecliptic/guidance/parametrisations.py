"""The five things that a diffusion model may predict, and what guidance adds to each.

`x_t = a x0 + s noise`. With `g = grad_{x_t} log p(y | x_t)`, the guided prediction is the one whose
x0 is `x0 + (s^2 / a) g` (Tweedie's formula), which gives for each kind:

| kind | the model predicts | guided prediction |
|---|---|---|
| eps | the noise | `eps - s g` (Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2) |
| x0 | the image | `x0 + (s^2 / a) g` |
| v | `a noise - s x0`, `a^2 + s^2 = 1` (Salimans and Ho 2022, arXiv:2202.00512) | `v - (s / a) g` |
| karras | the image, of `x0 + sigma noise` (Karras et al. 2022) | `x0 + sigma^2 g` |
| flow | `noise - x0`, `a + s = 1` (Liu et al. 2022, arXiv:2209.03003) | `u - (s / a) g` |

B batch; the other axes may be any.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError, did_you_mean

Parametrisation = Literal["eps", "x0", "v", "karras", "flow"]
Level = float | Tensor  # one number, or one of each sample (B,)
_NEAR = 1e-3  # how far a and s may be from the sum that v and flow ask for


def check_parametrisation(name: str) -> Parametrisation:
    """`name`, if it is one of the five.

    Raises:
        ConfigError: it is not; a wrong one would give noise, so none is guessed.
    """
    known = get_args(Parametrisation)
    if name not in known:
        fix = did_you_mean(str(name), known) or f"known are {', '.join(known)}."
        raise ConfigError(
            f"unknown parametrisation {name!r}: it says what the denoiser predicts, so it cannot "
            f"be guessed; {fix}"
        )
    return name  # type: ignore[return-value]


def default_levels(
    kind: Parametrisation,
    alphas: Callable[[Tensor], Level] | None,
    sigmas: Callable[[Tensor], Level] | None,
) -> tuple[Callable[[Tensor], Level], Callable[[Tensor], Level]]:
    """The functions a(t) and s(t); "karras" and "flow" have their own, the others need both.

    Raises:
        ConfigError: one is missing, or is given where the kind says what it is.
    """
    own: dict[str, tuple[Callable[[Tensor], Level], Callable[[Tensor], Level]]] = {
        "karras": (torch.ones_like, lambda t: t),
        "flow": (lambda t: 1 - t, lambda t: t),
    }
    if alphas is None and sigmas is None and kind in own:
        return own[kind]
    if alphas is None or sigmas is None:
        raise ConfigError(
            f"{kind!r} needs both alphas and sigmas: functions of the time t with "
            "x_t = alphas(t) x0 + sigmas(t) noise, such as those of `ecliptic.guidance.Schedule`."
        )
    return alphas, sigmas


def level(value: Level, x: Tensor, what: str) -> Tensor:
    """A number, or one of each sample, as (B, 1, ...) that multiplies `x` (B, ...).

    Raises:
        ShapeError: it is neither.
        NumericalError: it is not finite.
    """
    tensor = torch.as_tensor(value, device=x.device).detach()
    if tensor.numel() != 1 and tensor.shape != (len(x),):
        raise ShapeError(
            f"{what} must be one number or one for each of the {len(x)} samples, got the shape "
            f"{tuple(tensor.shape)}."
        )
    fix = "take a smaller one." if what == "scale" else "check the schedule."
    check_finite(tensor, what, fix)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return tensor.to(dtype).reshape(-1, *(1,) * (x.ndim - 1)).expand(len(x), *(1,) * (x.ndim - 1))


def check_levels(kind: Parametrisation, a: Tensor, s: Tensor) -> None:
    """Refuse numbers that contradict the definition of the kind.

    Raises:
        ConfigError: v without `a^2 + s^2 = 1`, flow without `a + s = 1`, karras without `a = 1`.
    """
    sums = {"v": ("a^2 + s^2", a.square() + s.square()), "flow": ("a + s", a + s)}
    sums["karras"] = ("a", a)
    if kind not in sums:
        return
    what, found = sums[kind]
    if float((found - 1).abs().max()) > _NEAR:
        raise ConfigError(
            f"{kind!r} needs {what} = 1, got {float(found.flatten()[0]):.4g} from alphas and "
            "sigmas (x_t = a x0 + s noise); check them, or the parametrisation."
        )


def to_x0(kind: Parametrisation, prediction: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The image without noise that a prediction means.

    Args:
        kind: what the prediction is.
        prediction: (B, ...) of the denoiser.
        x: (B, ...) with noise.
        a: (B, 1, ...) share of the image in `x`.
        s: (B, 1, ...) share of the noise.
    """
    if kind == "eps":
        return (x - s * prediction) / a
    if kind == "v":
        return a * x - s * prediction
    if kind == "flow":
        return x - s * prediction
    return prediction


def from_x0(kind: Parametrisation, x0: Tensor, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The prediction that means `x0`; the inverse of `to_x0`, with the same arguments."""
    if kind == "eps":
        return (x - a * x0) / s
    if kind == "v":
        return (a * x - x0) / s
    if kind == "flow":
        return (x - x0) / s
    return x0


def steer(kind: Parametrisation, prediction: Tensor, g: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """The guided prediction, as in the table above.

    Args:
        kind: what the prediction is.
        prediction: (B, ...) of the denoiser.
        g: (B, ...) gradient of log p(y | x_t) with respect to x_t.
        a: (B, 1, ...) share of the image in x_t, above 0.
        s: (B, 1, ...) share of the noise.
    """
    factor = {"eps": -s, "x0": s.square() / a, "v": -s / a, "karras": s.square(), "flow": -s / a}
    return prediction + factor[kind] * g
