"""`to_diffusers()` of every family: a pipeline paints the same as from the prompt itself."""

import inspect
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ecliptic.diffusion import FAMILIES, ConditioningWarning, Sizes
from ecliptic.errors import ConfigError
from tests import peers
from tests.diffusion import pipelines
from tests.diffusion.parity import check, ours, sides
from tests.diffusion.pipelines import quiet
from tests.diffusion.test_text_encoder import PIXEL, tiny_vae
from tests.engine.models import draw as draw_image

PROMPT, NEGATIVE = ["a cat!", "two dogs"], ["blurry", ""]


def paint(pipe: Any, **options: Any) -> np.ndarray:
    """The pictures of a pipeline in two steps, always from the same noise."""
    size = {"num_inference_steps": 2, "output_type": "np"}
    with quiet():
        pipe.set_progress_bar_config(disable=True)
        found = pipe(generator=torch.Generator().manual_seed(3), **size, **options)
    return np.asarray(found[0])


def same_picture(pipe: Any, given: dict[str, Any], wanted: dict[str, Any], **options: Any) -> None:
    """`given`, ours, paints what `wanted` does, and without its last argument something else."""
    expected = paint(pipe, **wanted, **options)
    assert expected.std() > 0.01  # something is painted
    rounding = PIXEL * max(1.0, float(np.abs(expected).max()) / 10)  # a prior paints vectors
    assert np.abs(paint(pipe, **given, **options) - expected).max() <= rounding
    less = dict(list(wanted.items())[:-1])
    assert np.abs(paint(pipe, **less, **options) - expected).max() > rounding  # it does reach it


@cache
def whole(family: str) -> Any:
    """The peer with a tiny denoiser, VAE and scheduler."""
    library, pipe = peers.diffusers(), pipelines.peer(family)
    discrete = library.FlowMatchEulerDiscreteScheduler()
    made: dict[str, Any] = {"scheduler": discrete, "vae": tiny_vae(4)}
    if family in ("sdxl", "sdxl-refiner"):
        made["scheduler"] = library.EulerDiscreteScheduler()
        made["unet"] = pipelines.xl_unet(*{"sdxl": (6, 72), "sdxl-refiner": (5, 40)}[family])
    elif family == "sd3":
        made |= {"vae": tiny_vae(4, shift=0.1), "transformer": pipelines.sd3_transformer()}
    elif family == "flux":
        made |= {"vae": tiny_vae(1, shift=0.1), "transformer": _flux_transformer()}
    elif family == "cascade":
        made = {"prior": _cascade_prior(), "scheduler": library.DDPMWuerstchenScheduler()}
    with quiet():
        return type(pipe)(
            **{**pipe.components, **made}, **dict(pipelines.PIPELINES[family].options)
        )


def _flux_transformer() -> Any:
    torch.manual_seed(13)
    return peers.diffusers().FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=pipelines.T5_WIDTH,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )


def _cascade_prior() -> Any:
    torch.manual_seed(14)
    return (
        peers.diffusers()
        .StableCascadeUNet(
            conditioning_dim=16,
            block_out_channels=(16, 16),
            num_attention_heads=(2, 2),
            down_num_layers_per_block=(1, 1),
            up_num_layers_per_block=(1, 1),
            clip_image_in_channels=24,
            clip_text_in_channels=40,
            clip_text_pooled_in_channels=40,
            dropout=(0.1, 0.1),
            in_channels=4,
            out_channels=4,
            patch_size=1,
            timestep_ratio_embedding_dim=8,
            switch_level=(False,),
        )
        .eval()
    )


SIZES = Sizes(
    (600, 900),
    (1, 2),
    (768, 1152),
    aesthetic=7.0,
    negative_aesthetic=1.0,
    negative_original=(64, 48),
    negative_target=(32, 80),
)
STATED: dict[str, Any] = {
    "original_size": (600, 900),
    "crops_coords_top_left": (1, 2),
    "target_size": (768, 1152),
    "negative_original_size": (64, 48),
    "negative_crops_coords_top_left": (1, 2),
    "negative_target_size": (32, 80),
}
TEXTS: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": NEGATIVE}


def test_sdxl_reads_the_sizes_of_the_call() -> None:
    listed = replace(SIZES, original=[600, 900])  # type: ignore[arg-type]
    with pytest.warns(ConditioningWarning, match="aesthetic and negative_aesthetic of sizes"):
        given = ours("sdxl")(PROMPT, negative=NEGATIVE, sizes=listed).to_diffusers()
    assert {name: given[name] for name in STATED} == STATED
    same_picture(whole("sdxl"), given, TEXTS | STATED, height=16, width=16)


def test_the_refiner_reads_the_scores_of_the_call_too() -> None:
    with pytest.warns(ConditioningWarning, match="target of sizes had no effect"):
        given = ours("sdxl-refiner")(PROMPT, negative=NEGATIVE, sizes=SIZES).to_diffusers()
    scores = {"aesthetic_score": 7.0, "negative_aesthetic_score": 1.0}
    assert given | STATED | scores == given
    image = [Image.fromarray(np.full((16, 16, 3), 90, dtype=np.uint8))] * 2
    same_picture(whole("sdxl-refiner"), given, TEXTS | STATED | scores, image=image, strength=1.0)


@pytest.mark.parametrize("family", ["sdxl", "sdxl-refiner"])
def test_without_sizes_the_pipeline_takes_those_of_its_picture(family: str) -> None:
    found = ours(family)("a")
    assert found.size_ids is not None
    assert not set(STATED) & set(found.to_diffusers())
    assert not any("score" in name for name in found.to_diffusers())


def language(family: str) -> dict[str, Tensor]:
    pipe, found = pipelines.peer(family), []
    for texts in (PROMPT, NEGATIVE):
        with torch.no_grad(), quiet():
            found.append(pipe._get_t5_prompt_embeds(texts, device="cpu", max_sequence_length=16))
    return {"t5": found[0], "negative_t5": found[1]}


def test_sd3() -> None:
    given = ours("sd3")(PROMPT, negative=NEGATIVE, **language("sd3")).to_diffusers()
    same_picture(whole("sd3"), given, TEXTS, height=16, width=16, max_sequence_length=16)


def test_flux_with_a_negative_under_true_guidance() -> None:
    given = ours("flux")(PROMPT, negative=NEGATIVE, **language("flux")).to_diffusers()
    options = {"height": 16, "width": 16, "max_sequence_length": 16}
    same_picture(whole("flux"), given, TEXTS, **options, true_cfg_scale=4.0)


def test_flux_without_a_negative() -> None:
    given = ours("flux")(PROMPT, t5=language("flux")["t5"]).to_diffusers()
    assert sorted(given) == ["pooled_prompt_embeds", "prompt_embeds"]
    wanted = paint(whole("flux"), prompt=PROMPT, height=16, width=16, max_sequence_length=16)
    assert np.abs(paint(whole("flux"), **given, height=16, width=16) - wanted).max() <= PIXEL


def test_the_prior_of_cascade() -> None:
    given = ours("cascade")(PROMPT, negative=NEGATIVE).to_diffusers()
    same_picture(whole("cascade"), given, TEXTS, height=128, width=128)


def test_unclip_guides_away_from_its_own_empty_prompt() -> None:
    found, pipe = ours("unclip")(PROMPT), pipelines.peer("unclip")
    with torch.no_grad():
        wanted = pipe._encode_prompt(PROMPT, "cpu", 1, True)
        back = pipe._encode_prompt(None, "cpu", 1, True, **found.to_diffusers())
    for one, other in zip(back, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=pipelines.PARITY, rtol=0)
    names = ("pooled", "tokens", "mask")
    check(found, sides(**dict(zip(names, wanted, strict=True))))


def test_a_negative_that_unclip_would_lose_is_refused() -> None:
    with pytest.raises(ConfigError, match="UnCLIPPipeline encodes an empty negative"):
        ours("unclip")(PROMPT, negative=NEGATIVE).to_diffusers()
    assert ours("unclip")(PROMPT, negative=["", ""]).to_diffusers()
    with pytest.raises(ConfigError, match="zeros of force_zeros_for_empty_prompt"):
        ours("unclip", force_zeros_for_empty_prompt=True)(PROMPT).to_diffusers()


@pytest.mark.parametrize("family", ["unclip", "kandinsky2-prior"])
def test_a_prompt_and_an_image_that_no_pipeline_takes_together_are_refused(family: str) -> None:
    with_image = ours(family, row="kandinsky2-prior")
    assert with_image(images=[draw_image(0)]).to_diffusers()
    with pytest.raises(ConfigError, match="but none takes both"):
        with_image("a cat", images=[draw_image(0)]).to_diffusers()


def test_kandinsky_gives_the_image_and_its_zero_to_the_decoder() -> None:
    images = [draw_image(0), draw_image(1)]
    found = ours("kandinsky2-prior")(images=images)
    given, pipe = found.to_diffusers(), pipelines.peer("kandinsky2-prior")
    with torch.no_grad():
        pixels = pipe.image_processor(images, return_tensors="pt").pixel_values
        wanted = pipe.image_encoder(pixels)["image_embeds"]
        zero = pipe.get_zero_embed(2)
    torch.testing.assert_close(given["image_embeds"], wanted, atol=pipelines.PARITY, rtol=0)
    torch.testing.assert_close(given["negative_image_embeds"], zero, atol=pipelines.PARITY, rtol=0)


def test_the_ip_adapter_of_flux_guides_away_from_a_black_image() -> None:
    images = [draw_image(0, 50, 43), draw_image(1, 64, 40)]
    given = ours("flux-ip-adapter", row="ip-adapter-alone")(images=images).to_diffusers()
    parts = dict.fromkeys(pipelines.arguments(peers.diffusers().FluxPipeline))
    parts |= {"image_encoder": pipelines.vision_model("vision")}
    parts |= {"feature_extractor": pipelines.processor("vision")}
    pipe = peers.diffusers().FluxPipeline(**parts)
    black = [np.zeros((24, 40, 3), dtype=np.uint8)] * 2
    for name, some in (("", images), ("negative_", black)):
        with torch.no_grad():
            wanted = pipe.encode_image(some, "cpu", 1)[None]  # as `prepare_...` makes it
        (found,) = given[f"{name}ip_adapter_image_embeds"]
        torch.testing.assert_close(found, wanted, atol=pipelines.PARITY, rtol=0)


CALLS = {
    "sd1": ("stable_diffusion", "StableDiffusionPipeline"),
    "sd2": ("stable_diffusion", "StableDiffusionPipeline"),
    "sdxl": ("stable_diffusion_xl", "StableDiffusionXLPipeline"),
    "sdxl-refiner": ("stable_diffusion_xl", "StableDiffusionXLImg2ImgPipeline"),
    "sd3": ("stable_diffusion_3", "StableDiffusion3Pipeline"),
    "flux": ("flux", "FluxPipeline"),
    "cascade": ("stable_cascade", "StableCascadePriorPipeline"),
    "unclip": ("deprecated.unclip", "UnCLIPPipeline"),
    "kandinsky5": ("kandinsky5", "Kandinsky5T2VPipeline"),
    "hunyuan-video": ("hunyuan_video", "HunyuanVideoPipeline"),
    "hidream": ("hidream_image", "HiDreamImagePipeline"),
    "ip-adapter": ("stable_diffusion", "StableDiffusionPipeline"),
    "flux-ip-adapter": ("flux", "FluxPipeline"),
}


class Everything:
    """A conditioning that has every tensor, so that no argument is left out."""

    tokens = pooled = mask = image = torch.ones(1)
    sizes = SIZES
    wordless = True
    negative: Any = None


@pytest.mark.parametrize("family", [n for n, row in FAMILIES.items() if row.takes == "pipeline"])
def test_every_argument_is_one_of_the_pipelines(family: str) -> None:
    home, name = CALLS[family]
    peers.diffusers()
    call = getattr(import_module(f"diffusers.pipelines.{home}"), name).__call__
    full = Everything()
    full.negative = Everything()
    if family == "unclip":
        full.image = None  # type: ignore[assignment]
    given = FAMILIES[family].arguments(full)
    assert given
    assert set(given) <= set(inspect.signature(call).parameters)
