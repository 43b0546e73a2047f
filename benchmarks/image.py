"""Pixels -> vectors, against open_clip and transformers: `python -m benchmarks.image [ARCH ...]`.

The input is pixels, in batches of 8 and 32; `benchmarks.preprocess` times decoding and preparing.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks.models import make_checkpoint, sizes
from benchmarks.timing import measure_in_turns, report
from ecliptic.checkpoints import openai_keys, read
from ecliptic.model import ImageConfig, ViTConfig
from tests import peers

Encode = Callable[[Tensor], Tensor]


def load_ours(name: str) -> Encode:
    return ecliptic.load(make_checkpoint(name, "ecliptic", "image")).encode_image


def load_open_clip(
    name: str, dtype: torch.dtype = torch.float32, *, compiled: bool = False
) -> Encode:
    library, config = peers.open_clip(), sizes(name, "image")
    table = library.get_model_config(name)
    tower = library.model._build_vision_tower(config.embed, table["vision_cfg"]).eval()
    weights = read(make_checkpoint(name, "ecliptic", "image")).weights
    theirs = openai_keys(config).from_native(weights)
    tower.load_state_dict({key.removeprefix("visual."): value for key, value in theirs.items()})
    tower.to(dtype)
    tower = torch.compile(tower) if compiled else tower
    return lambda pixels: F.normalize(tower(pixels.to(dtype)).float(), dim=-1)


def load_transformers(name: str) -> Encode:
    path = make_checkpoint(name, "transformers", "image")
    tower = peers.transformers().CLIPVisionModelWithProjection.from_pretrained(path).eval()
    return lambda pixels: F.normalize(tower(pixel_values=pixels).image_embeds, dim=-1)


def contenders(config: ImageConfig) -> dict[str, Callable[[str], Encode]]:
    """The libraries that have such a tower; transformers' CLIP has no ResNet."""
    found = {"ecliptic": load_ours, "open_clip": load_open_clip}
    return found | ({"transformers": load_transformers} if isinstance(config, ViTConfig) else {})


def main(names: list[str], repeats: int) -> None:
    """Print the images per second of each contender."""
    for name in names:
        config = sizes(name, "image").image
        assert config
        pixels = torch.randn(32, 3, config.image_size, config.image_size)
        encoders = {label: load(name) for label, load in contenders(config).items()}
        with torch.inference_mode():
            vectors = [encode(pixels[:2]) for encode in encoders.values()]
            for other in vectors[1:]:
                torch.testing.assert_close(other, vectors[0], rtol=0, atol=1e-5)
            for batch in (8, 32):
                fed = {
                    label: lambda encode=encode, some=pixels[:batch]: encode(some)
                    for label, encode in encoders.items()
                }
                seconds = measure_in_turns(fed, repeats, warmup=1)
                report(f"image_{name}_batch_{batch}", seconds, batch, "images", "ecliptic")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ViT-B-32", "RN50"], repeats=8)
