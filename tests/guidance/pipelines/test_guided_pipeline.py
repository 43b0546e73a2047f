"""`guided_pipeline` on a tiny random pipeline of each family."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.errors import SamplingStoppedError
from ecliptic.guidance import ClipLoss, Cutouts, GuidedStep, WeightedLoss, guided_pipeline
from tests import peers
from tests.diffusion.pipelines import quiet
from tests.guidance.pipelines.tiny_pipelines import (
    FAMILIES,
    STEPS,
    clip,
    draw,
    generators,
    pipe,
    sizes,
)

WORDS = "a red fox"


def guide(made: Any, family: str, count: int = 1, *, scale: float, **settings: Any) -> Tensor:
    """Images of a guided call; settings of `guided_pipeline`."""
    call = settings.pop("call", {})
    settings = {"cutouts": 4} | settings
    with guided_pipeline(made, clip(), WORDS, scale=scale, **settings) as guided:
        return draw(guided, family, count, **call)


def similarity(images: Tensor) -> float:
    return float(ClipLoss(clip(), WORDS).similarity(images.float()).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_scale_0_is_the_pipeline_to_the_last_bit(family: str) -> None:
    made = pipe(family)
    plain = draw(made, family, 2)
    assert torch.equal(guide(made, family, 2, scale=0.0), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_similarity_rises_with_the_scale(family: str) -> None:
    made = pipe(family)
    found = [similarity(guide(made, family, 3, scale=s)) for s in (-100.0, 0.0, 50.0, 200.0)]
    assert found == sorted(set(found)), found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_guided_as_each_image(family: str) -> None:
    made = pipe(family)
    prompt = {"prompt": ["a fox"] * 2}
    arguments = {"output_type": "pt"} | sizes(family)
    with guided_pipeline(made, clip(), WORDS, scale=100.0, cutouts=4) as guided, quiet():
        together = guided(**prompt, generator=generators(2), **arguments).images
        alone = [
            guided("a fox", generator=[generator], **arguments).images
            for generator in generators(2)
        ]
        several = guided(
            "a fox", num_images_per_prompt=2, generator=generators(2), **arguments
        ).images
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(several, together, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3"])
def test_without_classifier_free_guidance_it_guides_as_well(family: str) -> None:
    made = pipe(family)
    call = {"guidance_scale": 1.0}
    found = [similarity(guide(made, family, 2, scale=s, call=call)) for s in (-100.0, 0.0, 100.0)]
    assert found == sorted(set(found))


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux"])
def test_a_pipeline_from_images_is_guided(family: str) -> None:
    made = from_images(family)
    call = {"image": torch.full((2, 3, 16, 16), 0.5), "strength": 0.75}

    def make(call_it: Any) -> Tensor:
        given = call | (sizes(family) if family in ("sd3", "flux") else {})
        given |= {"num_inference_steps": STEPS, "output_type": "pt", "generator": generators(2)}
        with quiet():
            return call_it(["a fox"] * 2, **given).images

    found = []
    for scale in (-100.0, 0.0, 100.0):
        with guided_pipeline(made, clip(), WORDS, scale=scale, cutouts=4) as guided:
            found.append(make(guided))
    assert torch.equal(found[1], make(made))
    assert similarity(found[0]) < similarity(found[1]) < similarity(found[2])


def from_images(family: str) -> Any:
    """The pipeline of a family that begins with an image."""
    names = {"sd1": "StableDiffusion", "sdxl": "StableDiffusionXL", "sd3": "StableDiffusion3"}
    kind = getattr(peers.diffusers(), names.get(family, "Flux") + "Img2ImgPipeline")
    more = {"requires_safety_checker": False} if family == "sd1" else {}
    with quiet():
        made = kind(**pipe(family).components, **more)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    "name", ["PNDMScheduler", "LCMScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_other_schedulers_guide_as_well(name: str) -> None:
    made = pipe("sd1", name=name)
    found = [similarity(guide(made, "sd1", 2, scale=s)) for s in (-50.0, 0.0, 50.0)]
    assert found == sorted(set(found))


def test_edm_predictions_are_guided_as_well() -> None:
    made = pipe("sdxl", name="EDMEulerScheduler")
    found = [similarity(guide(made, "sdxl", 2, scale=s)) for s in (-100.0, 0.0, 100.0)]
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    "settings",
    [
        {"through": "x0"},
        {"save_memory": True},
        {"clamp": 0.5},
        {"decode": "tiled"},
        {"decode": "linear"},
        {"during": (0.0, 0.8)},
        {"guide_every": 2},
        {"cutouts": Cutouts(2, overview=1)},
        {"cutouts": 0},
        {"weights": [2.0]},
    ],
)
def test_each_setting_guides(settings: dict[str, Any]) -> None:
    made = pipe("sd1")
    plain = similarity(draw(made, "sd1", 2))
    assert similarity(guide(made, "sd1", 2, scale=100.0, **settings)) > plain


def test_saving_memory_changes_no_number() -> None:
    made = pipe("sd1")
    saved = guide(made, "sd1", scale=100.0, save_memory=True)
    assert torch.equal(saved, guide(made, "sd1", scale=100.0))


def test_a_run_is_repeated_exactly_and_other_cutouts_give_another() -> None:
    made = pipe("sd1")
    few = Cutouts(2, smallest=8)
    with guided_pipeline(made, clip(), WORDS, scale=100.0, cutouts=few) as guided:
        first, second = draw(guided, "sd1"), draw(guided, "sd1")
    assert torch.equal(first, second)
    assert not torch.equal(first, guide(made, "sd1", scale=100.0, cutouts=few, seed=1))


def test_a_loss_of_the_user_begins_again_with_each_call() -> None:
    made = pipe("sd1")
    loss = WeightedLoss(
        [(ClipLoss(clip(), WORDS, cutouts=Cutouts(2, smallest=8)), 1.0), (red, 0.1)]
    )
    with guided_pipeline(made, loss=loss, scale=100.0) as guided:
        first, second = draw(guided, "sd1"), draw(guided, "sd1")
    assert torch.equal(first, second)


def red(images: Tensor) -> Tensor:
    return -images[:, 0].mean(dim=(1, 2))


def test_any_loss_of_images_guides() -> None:
    made = pipe("sd1")
    with guided_pipeline(made, loss=red, scale=500.0) as guided:
        found = draw(guided, "sd1", 2)
    assert (red(found) < red(draw(made, "sd1", 2))).all()


def test_each_image_has_its_own_scale() -> None:
    made = pipe("sd1")
    plain, full = draw(made, "sd1", 2), guide(made, "sd1", 2, scale=100.0)
    mixed = guide(made, "sd1", 2, scale=torch.tensor([0.0, 100.0]))  # type: ignore[arg-type]
    torch.testing.assert_close(mixed, torch.stack([plain[0], full[1]]), rtol=1e-4, atol=1e-5)


def test_watch_sees_the_guided_steps() -> None:
    seen: list[GuidedStep] = []
    guide(pipe("sd1"), "sd1", 2, scale=10.0, guide_every=2, during=(0.0, 0.9), watch=seen.append)
    assert [(step.number, step.steps) for step in seen] == [(1, 4), (3, 4)]
    assert seen[0].x0.shape == (2, 4, 8, 8)
    assert seen[0].images.shape == (2, 3, 16, 16)
    assert seen[0].loss.shape == (2,)
    assert not any(x.requires_grad for x in (seen[0].x0, seen[0].images, seen[0].loss))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad, nullcontext])
def test_it_works_in_any_mode_of_gradients(mode: Any) -> None:
    made = pipe("sdxl")
    wanted = guide(made, "sdxl", scale=100.0)
    with mode():
        assert torch.equal(guide(made, "sdxl", scale=100.0), wanted)


class Everything:
    """All that a pipeline consists of: what it holds, and each module of its parts."""

    def __init__(self, made: Any) -> None:
        self.parts = {k: id(v) for k, v in vars(made).items() if not k.startswith("_")}
        self.scheduler = dict(made.scheduler.config)
        self.modules = {
            (part, name): (id(module), module.training, self.inside(module))
            for part, held in made.components.items()
            if isinstance(held, torch.nn.Module)
            for name, module in held.named_modules()
        }
        self.weights = {
            (part, name): (
                id(p),
                p.requires_grad,
                p.dtype,
                p.device,
                p.grad,
                float(p.detach().double().sum()),
            )
            for part, held in made.components.items()
            if isinstance(held, torch.nn.Module)
            for name, p in held.named_parameters()
        }

    @staticmethod
    def inside(module: torch.nn.Module) -> dict[str, int]:
        return {name: id(value) for name, value in vars(module).items() if name != "training"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fails", [False, True])
def test_the_pipeline_is_left_as_it_was(family: str, fails: bool) -> None:
    made = pipe(family)
    (made.unet if hasattr(made, "unet") else made.transformer).train()
    next(made.vae.parameters()).requires_grad_(False)
    draw(made, family)  # the first call of a pipeline leaves values of its own
    before = Everything(made)

    def stop(step: GuidedStep) -> None:
        if fails and step.number == 2:
            raise RuntimeError("the user stops it")

    expected = pytest.raises(RuntimeError, match="the user stops") if fails else nullcontext()
    with expected:
        guide(made, family, scale=10.0, watch=stop)
    assert vars(Everything(made)) == vars(before)


def test_nan_stops_at_its_step_and_keeps_what_was_reached() -> None:
    made, calls = pipe("sd1"), iter(range(99))
    seen: list[GuidedStep] = []

    def broken(images: Tensor) -> Tensor:
        return red(images) * (float("nan") if next(calls) == 2 else 1.0)

    before = Everything(made)
    with (
        pytest.raises(SamplingStoppedError, match="step 3 of 4 stopped: the loss broken gave") as e,
        guided_pipeline(made, loss=broken, scale=1.0, watch=seen.append) as guided,
    ):
        draw(guided, "sd1")
    assert e.value.step == 2
    assert torch.equal(e.value.reached, seen[1].x0)  # type: ignore[arg-type]
    assert vars(Everything(made))["modules"] == before.modules


def test_nan_of_the_denoiser_stops_unguided_steps_too() -> None:
    made = pipe("sd1")
    with torch.no_grad():
        next(made.unet.parameters()).fill_(float("nan"))
    with pytest.raises(SamplingStoppedError, match="step 1 of 4 stopped: the denoiser gave NaN"):
        guide(made, "sd1", scale=0.0)


def test_a_gradient_that_is_not_finite_is_named() -> None:
    def steep(images: Tensor) -> Tensor:
        return (images.mean(dim=(1, 2, 3)) * 0).sqrt()  # 0, with an infinite slope

    with (
        pytest.raises(SamplingStoppedError, match=r"gradient of the loss gave NaN .*float32"),
        guided_pipeline(pipe("sd1"), loss=steep, scale=1.0) as guided,
    ):
        draw(guided, "sd1")


def test_blocks_of_one_pipeline_may_lie_in_each_other() -> None:
    made = pipe("sd1")
    wanted = guide(made, "sd1", scale=100.0)
    with guided_pipeline(made, clip(), "a boat", scale=-50.0, cutouts=4) as outer:
        first = draw(outer, "sd1")
        assert torch.equal(guide(made, "sd1", scale=100.0), wanted)
        assert torch.equal(draw(outer, "sd1"), first)
        assert torch.equal(draw(made, "sd1"), draw(pipe("sd1"), "sd1"))  # itself is not guided
