"""What cannot be guided is refused by name, before the first step."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError, MissingExtraError, ShapeError
from ecliptic.guidance import GuidedStep, guided_pipeline
from tests import peers
from tests.diffusion.pipelines import quiet
from tests.guidance.pipelines.tiny_pipelines import clip, draw, pipe


def begin(made: Any, *args: Any, **settings: Any) -> None:
    """Enter the block, and call nothing."""
    args = args or (clip(), "a red fox")
    with guided_pipeline(made, *args, **{"scale": 1.0} | settings):
        raise AssertionError("the block began")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": float("inf")}, "scale must be finite"),
        ({"through": "unet"}, 'through must be "denoiser" or "x0"'),
        ({"through": "x0", "save_memory": True}, "save_memory has no effect"),
        ({"clamp": -1.0}, "clamp must be above 0"),
        ({"guide_every": 0}, "guide_every must be at least 1"),
        ({"during": (0.5, 0.5)}, "during must be 0 <= begin < end <= 1"),
        ({"during": 0.5}, "during must be where guidance begins and ends"),
        ({"during": (0.0, "1")}, "during must be a number"),
        ({"weights": [1.0, 2.0]}, "2 weights for 1 prompts"),
        (
            {"loss": lambda x: x},
            "clip, prompts of guided_pipeline would have no effect beside loss",
        ),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        begin(pipe("sd1"), **settings)


def test_settings_of_cutouts_have_no_effect_beside_a_loss() -> None:
    with pytest.raises(ConfigError, match="cutouts, seed of guided_pipeline would have no effect"):
        begin(pipe("sd1"), None, None, loss=lambda x: x, cutouts=4, seed=1)


def test_a_loss_that_is_no_function() -> None:
    with pytest.raises(ConfigError, match="loss must be a function of images, got 5"):
        begin(pipe("sd1"), None, None, loss=5)


def test_neither_a_loss_nor_prompts() -> None:
    with pytest.raises(ConfigError, match="needs clip and prompts"):
        begin(pipe("sd1"), None, None)


def test_a_pipeline_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match=r"SimpleNamespace is no pipeline .*FluxPipeline"):
        begin(SimpleNamespace())


def test_a_pipeline_with_other_steps_is_not_known_though_it_inherits() -> None:
    made = pipe("sd1")

    class Other(type(made)):  # type: ignore[misc]
        def __call__(self) -> None: ...

    class Named(type(made)):  # type: ignore[misc]
        """Has the steps of its parent."""

    made.__class__ = Other
    with pytest.raises(ConfigError, match="Other is no pipeline whose steps are known"):
        begin(made)
    made.__class__ = Named
    with guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0) as guided:
        draw(guided, "sd1")


def test_a_pipeline_without_its_vae() -> None:
    made = pipe("sd1")
    made.vae = None
    with pytest.raises(ConfigError, match="the pipeline has no vae"):
        begin(made)


def test_offloading() -> None:
    made = pipe("sd1")
    made.unet._hf_hook = SimpleNamespace()
    with pytest.raises(ConfigError, match=r"unet .* has hooks \(SimpleNamespace\) of offloading"):
        begin(made)


def test_a_scheduler_that_is_not_known_at_the_beginning_and_later() -> None:
    made, other = pipe("sd1"), peers.diffusers().IPNDMScheduler()
    with guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0) as guided:
        draw(guided, "sd1")
        made.scheduler = other
        with pytest.raises(ConfigError, match="noise levels of IPNDMScheduler are not known"):
            guided("a fox")
    with pytest.raises(ConfigError, match="noise levels of IPNDMScheduler are not known"):
        begin(made)


def test_flux_with_a_negative_prompt() -> None:
    with guided_pipeline(pipe("flux"), clip(), "a fox", scale=1.0, cutouts=0) as guided:
        with pytest.raises(ConfigError, match=r"true_cfg_scale=4.0 of FLUX cannot be guided"):
            guided("a fox", negative_prompt="rain", true_cfg_scale=4.0)
        draw(guided, "flux", true_cfg_scale=1.0)


def test_sd3_with_layers_that_are_skipped() -> None:
    with guided_pipeline(pipe("sd3"), clip(), "a fox", scale=1.0, cutouts=0) as guided:
        with pytest.raises(ConfigError, match=r"skip_guidance_layers=.0. of SD3 cannot be guided"):
            guided("a fox", skip_guidance_layers=[0])
        draw(guided, "sd3", skip_guidance_layers=None)


def test_a_call_after_the_block() -> None:
    with guided_pipeline(pipe("sd1"), clip(), "a fox", scale=1.0, cutouts=0) as guided:
        draw(guided, "sd1")
    with pytest.raises(ConfigError, match="the block of guided_pipeline has ended"):
        guided("a fox")


def test_a_block_without_a_guided_call_warns() -> None:
    made = pipe("sd1")
    with (
        pytest.warns(UserWarning, match="`guided` was never called"),
        guided_pipeline(made, clip(), "a fox", scale=1.0),
    ):
        draw(made, "sd1")


def test_a_guided_call_in_the_middle_of_one() -> None:
    made = pipe("sd1")

    def again(step: GuidedStep) -> None:
        guided("a boat")

    with (
        guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0, watch=again) as guided,
        pytest.raises(ConfigError, match="in the middle of a guided run"),
    ):
        draw(guided, "sd1")


def test_a_scale_for_other_images() -> None:
    scale = torch.ones(3)
    with (
        guided_pipeline(pipe("sd1"), clip(), "a fox", scale=scale, cutouts=0) as guided,
        pytest.raises(ShapeError, match="scale must be one number or one for each of the 2"),
    ):
        draw(guided, "sd1", 2)


def test_without_diffusers_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = pipe("sd1")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with quiet(), pytest.raises(MissingExtraError, match="pip install diffusers transformers"):
        begin(made)
