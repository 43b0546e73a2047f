"""A small random Stable Diffusion, a small random CLIP, and two ways to guide the one by the other.

`community` does per step what `clip_guided_stable_diffusion.py` of diffusers (examples/community,
commit 00d5a51) does: a second call of the UNet with a gradient, for one half of the batch, and all
cutouts through CLIP in one batch, whose activations are kept. It is written from its description,
and uses our cutouts and our CLIP, so that only the way of guiding differs.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ecliptic
from benchmarks.guidance import STEPS
from benchmarks.models import CACHE
from ecliptic.checkpoints import Checkpoint, write
from ecliptic.engine import Clip
from ecliptic.guidance import ClipLoss, Cutouts, guided_pipeline, spherical_distance
from ecliptic.guidance.losses.clip_loss import encode_pixels
from ecliptic.inputs import ImageSpec
from ecliptic.model import ClipConfig, ViTConfig, random_model
from tests import peers

SIDE, WIDTH, SCALE = 32, 64, 100.0  # latents, text width, guidance
_VIT = ViTConfig(image_size=224, patch_size=32, width=256, depth=6, heads=4, mlp=1024)


def make_pipeline() -> Any:
    """SD 1 with a small UNet and a VAE of 8 x 8 pixels a latent; it is given text vectors."""
    library = peers.diffusers()
    torch.manual_seed(0)
    unet = library.UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        sample_size=SIDE,
    )
    vae = library.AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=8,
        latent_channels=4,
    )
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    parts = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    scheduler = library.DDIMScheduler(clip_sample=False, **noise)
    made = library.StableDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=scheduler,
        requires_safety_checker=False,
        **parts,
    )
    made.set_progress_bar_config(disable=True)
    return made


def make_clip() -> Clip:
    """An image tower of 6 layers of width 256 at 224 pixels."""
    path = CACHE / "guidance-clip.safetensors"
    if not path.exists():
        config = ClipConfig(embed=128, image=_VIT, text=None)
        weights = random_model(config).state_dict()
        weights.pop("logit_scale", None)
        part = path.with_name(f"{os.getpid()}-{path.name}")
        part.parent.mkdir(exist_ok=True)
        write(
            Checkpoint(config, weights, ImageSpec(size=224), None, name="guidance"),
            part,
            "ecliptic",
        )
        part.rename(path)
    return ecliptic.load(path)


def given() -> dict[str, Any]:
    """Arguments of a run of the pipeline."""
    random = torch.Generator().manual_seed(1)
    texts = torch.randn(2, 1, 8, WIDTH, generator=random)
    return {
        "prompt_embeds": texts[0],
        "negative_prompt_embeds": texts[1],
        "num_inference_steps": STEPS,
        "output_type": "latent",
        "generator": random,
    }


def wanted() -> Tensor:
    """The vector of a prompt."""
    return torch.randn(128, generator=torch.Generator().manual_seed(2))


def unguided() -> Callable[[int], object]:
    """The pipeline alone."""
    made = make_pipeline()
    return lambda _: made(**given())


def ours(cutouts: int, at_once: int, **settings: Any) -> Callable[[int], object]:
    """`guided_pipeline`."""
    made, loss = make_pipeline(), ClipLoss(make_clip(), wanted(), cutouts=cutouts, at_once=at_once)

    block = guided_pipeline(made, loss=loss, scale=SCALE, **settings)
    guided = block.__enter__()  # it lasts as long as the process

    def run(_: int) -> None:
        assert block
        guided(**given())

    return run


def community(cutouts: int) -> Callable[[int], object]:
    """What the community pipeline does."""
    made, clip = make_pipeline(), make_clip()
    target = torch.nn.functional.normalize(wanted(), dim=0)
    for module in (made.unet, made.vae):
        module.requires_grad_(False)

    def run(_: int) -> None:
        arguments = given()
        texts = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
        made.scheduler.set_timesteps(STEPS)
        x = torch.randn(1, 4, SIDE, SIDE, generator=arguments["generator"])
        for t in made.scheduler.timesteps:
            with torch.no_grad():
                without, with_text = made.unet(torch.cat([x, x]), t, texts).sample.chunk(2)
            eps = without + 7.5 * (with_text - without)
            product = made.scheduler.alphas_cumprod[t]
            slope = _slope(made, clip, x, t, texts[:1], target, cutouts)
            x = made.scheduler.step(eps + (1 - product).sqrt() * slope, t, x).prev_sample

    return run


def _slope(
    made: Any, clip: Clip, x: Tensor, t: Tensor, text: Tensor, target: Tensor, cutouts: int
) -> Tensor:
    """Gradient of the scaled loss: one graph from the latents to all cutouts."""
    x = x.detach().requires_grad_()
    product = made.scheduler.alphas_cumprod[t]
    share = (1 - product).sqrt()
    x0 = (x - share * made.unet(x, t, text).sample) / product.sqrt()
    images = made.vae.decode((x0 * share + x * (1 - share)) / made.vae.config.scaling_factor).sample
    images = (images / 2 + 0.5).clamp(0, 1)
    random = torch.Generator().manual_seed(int(t))
    cuts = Cutouts(cutouts).plan(images.shape[2], images.shape[3], 224, random)
    found = encode_pixels(clip, torch.cat([cut.take(images, 224) for cut in cuts]))
    loss = SCALE * spherical_distance(found, target).mean()
    return torch.autograd.grad(loss, x)[0]
