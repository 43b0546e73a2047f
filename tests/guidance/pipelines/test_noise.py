"""What guidance takes for x0 is what the scheduler takes for it, for every scheduler that is known.

The scale is so small that it moves nothing; what `watch` gets is held against what the scheduler
returns, or makes of the prediction on its way.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.guidance import GuidedStep, guided_pipeline
from ecliptic.guidance.pipelines.families import PIPELINE_ROWS
from ecliptic.guidance.pipelines.noise import SCHEDULERS, NoiseLevel, check_scheduler, read_noise
from tests import peers
from tests.guidance.pipelines.tiny_pipelines import draw, make_scheduler, pipe

# of diffusers' own NumPy, in KDPM2
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
TINY = 1e-12
UNETS = PIPELINE_ROWS["StableDiffusionPipeline"].kinds
FLOWS = [name for name in SCHEDULERS if name.startswith("FlowMatch")]
OTHERS = [name for name in SCHEDULERS if name not in FLOWS]
TYPES = {"PNDMScheduler": ("epsilon", "v_prediction")} | dict.fromkeys(
    (
        "EulerAncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
    ),
    ("epsilon", "v_prediction"),  # they say that they have no others
)
ALL = ("epsilon", "v_prediction", "sample")
CASES = [(n, given) for n in OTHERS if "Parallel" not in n for given in TYPES.get(n, ALL)]


def mean(images: Tensor) -> Tensor:
    return images.flatten(1).mean(dim=1)


def follow(made: Any, family: str, **given: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """x0 of each step as guidance saw it, as the scheduler had it, and the final latents."""
    seen: list[Tensor] = []
    theirs: list[Tensor] = []
    listen(made.scheduler, theirs)

    def watch(step: GuidedStep) -> None:
        seen.append(step.x0)

    with guided_pipeline(made, loss=mean, scale=TINY, watch=watch) as guided:
        latents = draw(guided, family, output_type="latent", **given)
    return seen, theirs, latents


def listen(scheduler: Any, into: list[Tensor]) -> None:
    """Keep what the scheduler computes as x0."""
    step, convert = scheduler.step, getattr(scheduler, "convert_model_output", None)

    def heard_step(output: Tensor, t: Tensor, sample: Tensor, **given: Any) -> Any:
        found = step(output, t, sample, **given | {"return_dict": True})
        if convert is None and (x0 := getattr(found, "pred_original_sample", None)) is not None:
            into.append(x0)
        return (found.prev_sample,)

    def heard_convert(output: Tensor, *args: Any, sample: Tensor, **given: Any) -> Any:
        found = convert(output, *args, sample=sample, **given)  # type: ignore[misc]
        if scheduler.config.get("algorithm_type") in (None, "dpmsolver++", "data_prediction"):
            into.append(found)
        return found

    scheduler.step = heard_step
    if convert is not None:
        scheduler.convert_model_output = heard_convert


def closeness(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference over the largest value."""
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)


SILENT = {  # they give no x0, so only their noise levels are checked
    "PNDMScheduler",
    "LCMScheduler",
    "TCDScheduler",
    "DEISMultistepScheduler",
}


@pytest.mark.parametrize(("name", "given"), [c for c in CASES if c[0] not in SILENT])
def test_x0_is_that_of_the_scheduler(name: str, given: str) -> None:
    seen, theirs, _ = follow(pipe("sd1", name=name, prediction_type=given), "sd1")
    assert len(seen) >= 4
    assert closeness(seen, theirs) < 1e-6


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_a_solver_of_a_flow_is_followed(name: str) -> None:
    config = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    seen, theirs, _ = follow(pipe("sd3", name=name, **config), "sd3")
    assert closeness(seen, theirs) < 1e-6


@pytest.mark.parametrize("name", FLOWS)
def test_the_last_step_of_a_flow_ends_at_x0(name: str) -> None:
    """Its noise is 0, so the latents are x0 as it was predicted."""
    seen, _, latents = follow(pipe("sd3", name=name), "sd3")
    torch.testing.assert_close(seen[-1], latents, rtol=1e-5, atol=1e-5)


def test_the_last_step_of_flux_ends_at_x0() -> None:
    seen, _, latents = follow(pipe("flux"), "flux")
    torch.testing.assert_close(seen[-1], latents, rtol=1e-5, atol=1e-5)


def add_noise(scheduler: Any, x0: float, noise: float, t: Tensor) -> float:
    """What the denoiser gets for an image and a noise, by the scheduler's own functions."""
    image, added = torch.full((1, 1, 1, 1), x0), torch.full((1, 1, 1, 1), noise)
    if hasattr(scheduler, "scale_noise"):
        return float(scheduler.scale_noise(image, t[None], added))
    scheduler._step_index = None
    return float(scheduler.scale_model_input(scheduler.add_noise(image, added, t[None]), t))


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_the_shares_are_those_of_the_schedulers_own_noise(name: str, karras: bool) -> None:
    probe = make_scheduler("sd1", name)
    if karras and ("use_karras_sigmas" not in probe.config or name == "SASolverScheduler"):
        return  # its `add_noise` reads another table than its steps, which are checked above
    scheduler = make_scheduler("sd1", name, **({"use_karras_sigmas": True} if karras else {}))
    scheduler.set_timesteps(6)
    kind = check_scheduler(scheduler, UNETS)
    for t in scheduler.timesteps.unique():
        a, s = add_noise(scheduler, 1.0, 0.0, t), add_noise(scheduler, 0.0, 1.0, t)
        scheduler._step_index = None
        level = read_noise(scheduler, kind, t)
        assert (level.a, level.s) == pytest.approx((a, s), rel=1e-5, abs=1e-6)


def test_flow_sigmas_in_a_solver_are_shares_of_the_noise() -> None:
    config = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    scheduler = make_scheduler("sd3", "UniPCMultistepScheduler", **config)
    scheduler.set_timesteps(4)
    level = read_noise(scheduler, "flow", scheduler.timesteps[1])
    assert level == NoiseLevel("flow", pytest.approx(1 - level.s), float(scheduler.sigmas[1]))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("IPNDMScheduler", {}, "noise levels of IPNDMScheduler are not known.*DDIMScheduler, "),
        ("DDIMScheduler", {"prediction_type": "noise"}, "'noise' of DDIMScheduler.*epsilon, v_"),
        (
            "DDIMScheduler",
            {"prediction_type": "flow_prediction"},
            "DDIMScheduler predicts the flow, which needs noise levels of a flow",
        ),
        (
            "UniPCMultistepScheduler",
            {"prediction_type": "v_prediction", "use_flow_sigmas": True},
            "v needs a.2 . s.2 = 1; unset use_flow_sigmas",
        ),
        ("EDMEulerScheduler", {"prediction_type": "sample"}, "knows no prediction_type 'sample'"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "the other way round"),
    ],
)
def test_schedulers_that_are_not_known_are_refused_by_name(
    name: str, config: dict[str, Any], message: str
) -> None:
    if name == "IPNDMScheduler":
        scheduler = peers.diffusers().IPNDMScheduler()
    else:
        scheduler = make_scheduler("sd1", name, **config)
    with pytest.raises(ConfigError, match=message):
        check_scheduler(scheduler, UNETS)


def test_a_flow_model_with_a_scheduler_of_noise_is_refused() -> None:
    scheduler = make_scheduler("sd1", "DDIMScheduler")
    with pytest.raises(ConfigError, match="predicts 'epsilon', but that of this pipeline"):
        check_scheduler(scheduler, ("flow",))


def test_another_scale_than_that_of_the_noise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = make_scheduler("sd1", "EulerDiscreteScheduler")
    scheduler.set_timesteps(4)
    monkeypatch.setattr(scheduler, "scale_model_input", lambda x, t: x)
    with pytest.raises(ConfigError, match="scales its input by 1, but its noise level means"):
        read_noise(scheduler, "eps", scheduler.timesteps[0])
