"""How noisy the input of a denoiser is, from the scheduler of diffusers that made it.

Every input is `x = a x0 + s noise`, as the denoiser sees it. Four rules cover the schedulers:

| rule | what is known | schedulers |
|---|---|---|
| table | `a^2 = alphas_cumprod[t]` | DDIM, DDPM, PNDM, LCM, TCD |
| scaled | x0 + sigma noise, over `sqrt(sigma^2 + 1)` before the denoiser | Euler, Heun, LMS |
| solver | `sigma = s / a`; or `a = 1 - sigma` with flow sigmas | DPM-Solver, UniPC, DEIS |
| edm | x0 + sigma noise, over `sqrt(sigma^2 + sigma_data^2)` | EDM |
| flow | `a = 1 - sigma`, `s = sigma` | flow matching |

`a^2 + s^2 = 1` in the first three. x0 of EDM is a mix of input and prediction (Karras et al. 2022,
arXiv:2206.00364, table 1). The tests hold each against what the scheduler itself takes for x0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, did_you_mean
from ecliptic.guidance.parametrisations import Parametrisation

NoiseRule = Literal["table", "scaled", "solver", "edm", "flow"]
_NEAR = 1e-3  # how far the scale of a scheduler may be from the one that its sigma means
SCHEDULERS: dict[str, NoiseRule] = {
    "DDIMScheduler": "table",
    "DDIMParallelScheduler": "table",
    "DDPMScheduler": "table",
    "DDPMParallelScheduler": "table",
    "PNDMScheduler": "table",
    "LCMScheduler": "table",
    "TCDScheduler": "table",
    "EulerDiscreteScheduler": "scaled",
    "EulerAncestralDiscreteScheduler": "scaled",
    "HeunDiscreteScheduler": "scaled",
    "LMSDiscreteScheduler": "scaled",
    "KDPM2DiscreteScheduler": "scaled",
    "KDPM2AncestralDiscreteScheduler": "scaled",
    "DPMSolverMultistepScheduler": "solver",
    "DPMSolverSinglestepScheduler": "solver",
    "UniPCMultistepScheduler": "solver",
    "DEISMultistepScheduler": "solver",
    "SASolverScheduler": "solver",
    "EDMEulerScheduler": "edm",
    "EDMDPMSolverMultistepScheduler": "edm",
    "FlowMatchEulerDiscreteScheduler": "flow",
    "FlowMatchHeunDiscreteScheduler": "flow",
    "FlowMatchLCMScheduler": "flow",
}
PREDICTIONS: dict[str, Parametrisation] = {
    "epsilon": "eps",
    "v_prediction": "v",
    "sample": "x0",
    "original_sample": "x0",  # an older name, in Euler's
    "flow_prediction": "flow",
}
_MIDDLES: dict[str, Callable[[Any], Any]] = {  # sigma in the second half of a step
    "KDPM2DiscreteScheduler": lambda own: own.sigmas_interpol[own.step_index],
    "KDPM2AncestralDiscreteScheduler": lambda own: own.sigmas_interpol[own.step_index - 1],
}


@dataclass(frozen=True)
class NoiseLevel:
    """What the input of the denoiser holds, and how its prediction means x0."""

    kind: Parametrisation
    a: float  # share of x0 in the input
    s: float  # share of the noise
    skip: float = 0.0  # kind "x0": x0 = skip input + out prediction
    out: float = 1.0


def check_scheduler(scheduler: Any, kinds: tuple[Parametrisation, ...]) -> Parametrisation:
    """What the denoiser predicts, as its scheduler says.

    Args:
        scheduler: of a pipeline.
        kinds: what the denoiser of this family can predict.

    Raises:
        ConfigError: an unknown scheduler or prediction type, or a pair that makes no sense.
    """
    name = type(scheduler).__name__
    if name not in SCHEDULERS:
        hint = f"; {found}" if (found := did_you_mean(name, SCHEDULERS)) else "."
        raise ConfigError(
            f"the noise levels of {name} are not known, so its steps cannot be guided{hint} Known "
            f"are {', '.join(SCHEDULERS)}: pipe.scheduler = "
            "DPMSolverMultistepScheduler.from_config(pipe.scheduler.config), for example."
        )
    rule, config = SCHEDULERS[name], scheduler.config
    if rule == "flow":
        if config.get("invert_sigmas"):
            raise ConfigError(f"{name} with invert_sigmas counts noise the other way round; unset.")
        return _check_kind("flow", "flow matching", kinds)
    given = config.get("prediction_type")
    if given not in PREDICTIONS:
        raise ConfigError(
            f"the prediction_type {given!r} of {name} is not known, and guidance with a wrong one "
            f"gives noise; known are {', '.join(PREDICTIONS)}."
        )
    kind = PREDICTIONS[given]
    _check_pair(rule, kind, name, bool(config.get("use_flow_sigmas")))
    return _check_kind(kind, given, kinds)


def _check_kind(
    kind: Parametrisation, given: str, kinds: tuple[Parametrisation, ...]
) -> Parametrisation:
    if kind not in kinds:
        raise ConfigError(
            f"the scheduler says that the denoiser predicts {given!r}, but that of this pipeline "
            "predicts the flow; use FlowMatchEulerDiscreteScheduler, or a solver with "
            'prediction_type="flow_prediction" and use_flow_sigmas=True.'
        )
    return kind


def _check_pair(rule: NoiseRule, kind: Parametrisation, name: str, flow_sigmas: bool) -> None:
    """Refuse predictions that contradict the noise levels."""
    if kind == "flow" and not (rule == "solver" and flow_sigmas):
        raise ConfigError(
            f"{name} predicts the flow, which needs noise levels of a flow; set "
            "use_flow_sigmas=True in a solver that has it, or use FlowMatchEulerDiscreteScheduler."
        )
    if kind == "v" and rule == "solver" and flow_sigmas:
        raise ConfigError(
            f"{name} has prediction_type='v_prediction' with use_flow_sigmas, but v needs "
            "a^2 + s^2 = 1; unset use_flow_sigmas, or set prediction_type='flow_prediction'."
        )
    if kind == "x0" and rule == "edm":
        raise ConfigError(f"{name} knows no prediction_type 'sample'; use 'epsilon'.")


def read_noise(scheduler: Any, kind: Parametrisation, timestep: Tensor) -> NoiseLevel:
    """The noise of the input that the denoiser has now.

    Args:
        scheduler: in the middle of a run; `check_scheduler` knows it.
        kind: what `check_scheduler` said.
        timestep: as the scheduler has it, one number or one for each sample.

    Raises:
        ConfigError: the scheduler scales its input by another factor than its sigma means.
    """
    name, t = type(scheduler).__name__, timestep.flatten()[0]
    rule = SCHEDULERS[name]
    if rule == "table":
        square = float(scheduler.alphas_cumprod[int(t)])
        return NoiseLevel(kind, square**0.5, (1 - square) ** 0.5)
    sigma = _read_sigma(scheduler, name, t)
    if rule == "flow" or (rule == "solver" and scheduler.config.use_flow_sigmas):
        return NoiseLevel(kind, 1 - sigma, sigma)
    data = float(scheduler.config.sigma_data) if rule == "edm" else 1.0
    length = (sigma**2 + data**2) ** 0.5
    if rule != "solver":
        _check_scale(scheduler, t, 1 / length)
    if rule == "edm":
        out = (sigma if kind == "eps" else -sigma) * data / length
        return NoiseLevel("x0", 1 / length, sigma / length, skip=data**2 / length, out=out)
    return NoiseLevel(kind, 1 / length, sigma / length)


def _read_sigma(scheduler: Any, name: str, t: Tensor) -> float:
    """The noise over the image at this call; some schedulers have another in mid-step."""
    if name in _MIDDLES and not scheduler.state_in_first_order:
        return float(_MIDDLES[name](scheduler))
    index = scheduler.step_index
    if index is None:
        index = scheduler.begin_index
    if index is None:
        index = scheduler.index_for_timestep(t.to(scheduler.timesteps.device))
    return float(scheduler.sigmas[int(index)])


def _check_scale(scheduler: Any, t: Tensor, wanted: float) -> None:
    found = float(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), t))
    if abs(found - wanted) > _NEAR * wanted:
        raise ConfigError(
            f"{type(scheduler).__name__} scales its input by {found:.4g}, but its noise level "
            f"means {wanted:.4g}; this version of diffusers is not known here, please report it."
        )
