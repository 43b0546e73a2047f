"""Pixels -> vectors beside open_clip and transformers: `python -m benchmarks.image [ARCH ...]`.

The images are already decoded and prepared (`benchmarks.preprocess` times that), 8 and 32 at a
time.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks.models import sizes, written
from benchmarks.timing import report, timed_in_turns
from ecliptic.checkpoints import openai_keys, read
from ecliptic.model import ImageConfig, ViTConfig
from tests import peers

Encode = Callable[[Tensor], Tensor]


def ours(name: str) -> Encode:
    return ecliptic.load(written(name, "ecliptic", "image")).encode_image


def open_clip(name: str) -> Encode:
    library, config = peers.open_clip(), sizes(name, "image")
    table = library.get_model_config(name)
    tower = library.model._build_vision_tower(config.embed, table["vision_cfg"]).eval()
    weights = read(written(name, "ecliptic", "image")).weights
    theirs = openai_keys(config).from_native(weights)
    tower.load_state_dict({key.removeprefix("visual."): value for key, value in theirs.items()})
    return lambda pixels: F.normalize(tower(pixels), dim=-1)


def transformers(name: str) -> Encode:
    path = written(name, "transformers", "image")
    tower = peers.transformers().CLIPVisionModelWithProjection.from_pretrained(path).eval()
    return lambda pixels: F.normalize(tower(pixel_values=pixels).image_embeds, dim=-1)


def contenders(config: ImageConfig) -> dict[str, Callable[[str], Encode]]:
    """Who has such a tower; transformers' CLIP has no ResNet."""
    found = {"ecliptic": ours, "open_clip": open_clip}
    return found | ({"transformers": transformers} if isinstance(config, ViTConfig) else {})


def main(names: list[str], repeats: int) -> None:
    """Print images per second of each contender."""
    for name in names:
        config = sizes(name, "image").image
        assert config
        pixels = torch.randn(32, 3, config.image_size, config.image_size)
        encoders = {label: make(name) for label, make in contenders(config).items()}
        with torch.inference_mode():
            vectors = [encode(pixels[:2]) for encode in encoders.values()]
            for other in vectors[1:]:
                torch.testing.assert_close(other, vectors[0], rtol=0, atol=1e-5)
            for batch in (8, 32):
                fed = {
                    label: lambda encode=encode, some=pixels[:batch]: encode(some)
                    for label, encode in encoders.items()
                }
                seconds = timed_in_turns(fed, repeats, warmup=1)
                report(f"image_{name}_batch_{batch}", seconds, batch, "images", "ecliptic")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ViT-B-32", "RN50"], repeats=8)
