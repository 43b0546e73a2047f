"""`guided_pipeline` on a tiny random pipeline of each family."""

from collections.abc import Iterator
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
WITHOUT = {"sd1": "guidance_scale", "sd2": "guidance_scale"}


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
    made, library = pipe(family), peers.diffusers()
    names = {"sd1": "StableDiffusion", "sdxl": "StableDiffusionXL", "sd3": "StableDiffusion3"}
    kind = getattr(library, names.get(family, "Flux") + "Img2ImgPipeline")
    with quiet():
        changed = kind(**made.components, **({"requires_safety_checker": False} if family == "sd1" else {}))
    changed.set_progress_bar_config(disable=True)
    call = {"image": torch.full((2, 3, 16, 16), 0.5), "strength": 0.75}
    if family.startswith("sd") and family != "sd3":
        call |= {"height": None, "width": None}
        call = {k: v for k, v in call.items() if v is not None}

    def make(scale: float) -> Tensor:
        with guided_pipeline(changed, clip(), WORDS, scale=scale, cutouts=4) as guided, quiet():
            return guided(["a fox"] * 2, generator=generators(2), output_type="pt", num_inference_steps=STEPS, **call, **({"height": 16, "width": 16} if family in ("sd3", "flux") else {})).images

    with quiet():
        plain = changed(["a fox"] * 2, generator=generators(2), output_type="pt", num_inference_steps=STEPS, **call, **({"height": 16, "width": 16} if family in ("sd3", "flux") else {})).images
    assert torch.equal(make(0.0), plain)
    assert similarity(make(-100.0)) < similarity(plain) < similarity(make(100.0))
