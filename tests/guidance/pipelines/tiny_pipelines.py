"""Tiny random pipelines with all parts, one of each family, and a tiny CLIP beside them.

Text encoders and tokenizers are those of the tests of conditioning; denoisers and VAEs are made
here. Images are 16 x 16 pixels from latents of 8 x 8 (FLUX: 16 x 16 from its 4 x 4 squares).
"""

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ecliptic.engine import Clip
from tests import peers, tiny
from tests.diffusion import pipelines
from tests.engine.models import reload

FAMILIES = ("sd1", "sd2", "sdxl", "sd3", "flux")
STEPS = 4
SHIFTED = {"sd3", "flux"}  # VAEs with a shift


@cache
def clip() -> Clip:
    """A tiny CLIP."""
    return reload(tiny.checkpoint("vit"), pipelines.room() / "clip.safetensors")


def pipe(family: str, **scheduler: Any) -> Any:
    """A new pipeline of a family; its parts are new too, so that tests may change them."""
    held = pipelines.peer(family)
    row = pipelines.PIPELINES[family]
    parts = {name: part for name, part in held.components.items() if part is not None}
    parts |= {"scheduler": make_scheduler(family, **scheduler), "vae": make_vae(family)}
    name = "transformer" if family in SHIFTED else "unet"
    parts[name] = make_denoiser(family)
    made = type(held)(**dict.fromkeys(pipelines.arguments(type(held))) | parts | dict(row.options))
    made.set_progress_bar_config(disable=True)
    return made


def half_pipe(family: str, dtype: torch.dtype) -> Any:
    """The same in half precision, with text encoders of its own."""
    made = pipe(family)
    for name, part in made.components.items():
        if name.startswith("text_encoder") and part is not None:
            setattr(made, name, copy.deepcopy(part))
    return made.to(dtype=dtype)


def make_scheduler(family: str, name: str = "", **config: Any) -> Any:
    """The scheduler of a family, or another."""
    usual = {"sd1": "DDIMScheduler", "sd2": "DDIMScheduler", "sdxl": "EulerDiscreteScheduler"}
    library = peers.diffusers()
    name = name or usual.get(family, "FlowMatchEulerDiscreteScheduler")
    if name.startswith(("FlowMatch", "EDM")):
        return getattr(library, name)(**config)
    if family == "sd2":
        config = {"prediction_type": "v_prediction"} | config
    made = getattr(library, name)
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"} | config
    if name.startswith("DD"):
        config = {"clip_sample": False} | config
    return made(**config)


def make_vae(family: str) -> Any:
    """Two levels: one latent is 2 x 2 pixels."""
    shift = {"shift_factor": 0.06} if family in SHIFTED else {}
    torch.manual_seed(20)
    vae = peers.diffusers().AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
        scaling_factor=0.3 if family in SHIFTED else 0.18215,
        force_upcast=family == "sdxl",
        use_quant_conv=True,
        **shift,
    )
    return vae.eval()


def make_denoiser(family: str) -> Any:
    """A UNet or a transformer of one block."""
    library = peers.diffusers()
    torch.manual_seed(21)
    if family == "sdxl":
        return copy_of(pipelines.xl_unet(6))
    if family == "sd3":
        return copy_of(pipelines.sd3_transformer())
    if family == "flux":
        return library.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=pipelines.T5_WIDTH,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ).eval()
    return library.UNet2DConditionModel(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=32 if family == "sd1" else 40,
    ).eval()


def copy_of(module: Any) -> Any:
    made = type(module).from_config(module.config)
    made.load_state_dict(module.state_dict())
    return made.eval()


def sizes(family: str) -> dict[str, int]:
    return {"height": 16, "width": 16, "num_inference_steps": STEPS}


def generators(count: int = 1) -> list[torch.Generator]:
    """One of each image, so that an image does not depend on its batch."""
    return [torch.Generator().manual_seed(n) for n in range(count)]


def draw(call: Any, family: str, count: int = 1, **given: Any) -> Tensor:
    """(count, 3, 16, 16) images of a pipeline, or of the guided one; or latents."""
    arguments = {"output_type": "pt", "generator": generators(count)} | sizes(family)
    prompts = ["a fox", "a boat", "a tree"][:count]
    with pipelines.quiet():
        return call(prompts, **arguments | given).images
