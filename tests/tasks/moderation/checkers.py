"""Random safety checkers of diffusers, saved in the ways in which they are found."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecliptic.inputs import ImageSpec, Preprocess
from tests import peers, tiny

E = 32
VISION = {
    "image_size": tiny.VIT.image_size,
    "patch_size": tiny.VIT.patch_size,
    "hidden_size": tiny.VIT.width,
    "num_hidden_layers": tiny.VIT.depth,
    "num_attention_heads": tiny.VIT.heads,
    "intermediate_size": tiny.VIT.mlp,
    "hidden_act": "quick_gelu",
    "projection_dim": E,
}
PROCESSOR = {
    "do_resize": True,
    "do_center_crop": True,
    "size": {"shortest_edge": tiny.VIT.image_size},
    "crop_size": {"height": tiny.VIT.image_size, "width": tiny.VIT.image_size},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "resample": 3,
}


def stable_diffusion(seed: int = 0) -> nn.Module:
    """A checker of Stable Diffusion, which flags about half of `noise()`."""
    peers.diffusers()
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    module = _make(StableDiffusionSafetyChecker, seed)
    with torch.no_grad():
        vectors = module.visual_projection(module.vision_model(pixels(noise()))[1])
        ways = vectors - vectors.mean(dim=0)  # the pictures differ by these
        cosines = nn.functional.normalize(vectors) @ nn.functional.normalize(ways).T
        limits = cosines.quantile(0.95, dim=0)
        module.concept_embeds.data, module.concept_embeds_weights.data = ways[:17], limits[:17]
        module.special_care_embeds.data = ways[17:20].clone()
        module.special_care_embeds_weights.data = limits[17:20].clone()
    return module


def deepfloyd(seed: int = 0) -> nn.Module:
    """A checker of DeepFloyd IF, each of whose heads flags half of `noise()`."""
    peers.diffusers()
    from diffusers.pipelines.deepfloyd_if.safety_checker import IFSafetyChecker

    module = _make(IFSafetyChecker, seed)
    with torch.no_grad():
        vectors = module.vision_model(pixels(noise()))[0]
        ways = vectors - vectors.mean(dim=0)
        for way, head in zip(ways, (module.p_head, module.w_head), strict=False):
            head.weight.data = 10 * way[None] / way.square().sum()
            head.bias.data = 0.5 - (vectors @ head.weight[0]).median()[None] + 0.01
    return module


def noise(count: int = 24) -> list[np.ndarray]:
    """Pictures of coarse random squares."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [one.repeat(10, axis=0).repeat(10, axis=1) for one in coarse]


def pixels(images: list[np.ndarray]) -> Tensor:
    """The pixels of pictures, as a checker without an image processor prepares them."""
    prepare = Preprocess(ImageSpec(size=tiny.VIT.image_size))
    return torch.stack([torch.from_numpy(prepare(image)) for image in images])


def _make(kind: type[nn.Module], seed: int) -> nn.Module:
    from transformers import CLIPConfig

    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    module = kind(CLIPConfig(projection_dim=E, vision_config=VISION, text_config=text))
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5
    return module.eval()


def save(module: nn.Module, folder: Path, *, levels: int, pickled: bool = False) -> Path:
    """Save with one or two levels of `vision_model.`, as safetensors or as a pickle."""
    module.save_pretrained(folder)
    file = folder / "model.safetensors"
    state = {}
    for name, tensor in load_file(file).items():
        bare = re.sub(r"^(vision_model\.)+", "", name)
        moved = name != bare and not bare.startswith("visual_projection")
        state["vision_model." * levels + bare if moved else name] = tensor
    if not pickled:
        save_file(state, file, {"format": "pt"})
        return folder
    file.unlink()
    state["vision_model." * levels + "embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(state, folder / "pytorch_model.bin")  # with the buffer, as before 4.31
    return folder


def add_processor(folder: Path) -> None:
    """The file of the image processor."""
    folder.mkdir(exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
