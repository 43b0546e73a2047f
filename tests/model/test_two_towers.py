"""Both towers together: the temperature, missing towers, half precision, random weights."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.model import ClipConfig, TextConfig, ViTConfig, build, random_model
from tests import tiny, twins

CONFIG = ClipConfig(
    embed=8,
    image=ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2, mlp=32),
    text=TextConfig(vocabulary=20, context=6, width=16, depth=1, heads=2, mlp=32, end_of_text=19),
)


@torch.no_grad()
def test_the_temperature_divides_cosines() -> None:
    model = random_model(CONFIG)
    assert float(model.temperature) == pytest.approx(0.07)
    model.logit_scale.fill_(math.log(100))
    assert float(model.temperature) == pytest.approx(0.01)
    image, text = torch.randn(3, 8), torch.randn(2, 8)
    cosines = F.normalize(image) @ F.normalize(text).T
    torch.testing.assert_close(model.logits(image, text), cosines / model.temperature)
    assert model.logits(image, text).shape == (3, 2)


def test_a_missing_tower_is_named() -> None:
    text = tiny.model(tiny.checkpoint("text"))
    with pytest.raises(MissingTowerError, match="text encoder and has no image side"):
        text.encode_image(torch.zeros(1, 3, 32, 32))
    image = tiny.model(tiny.checkpoint("image"))
    with pytest.raises(MissingTowerError, match="image encoder and has no text side"):
        image.encode_text(torch.zeros(1, 16, dtype=torch.long))
    with pytest.raises(ConfigError, match="an image tower, a text tower, or both"):
        ClipConfig(image=None, text=None)


def test_building_takes_no_memory_and_no_random_numbers() -> None:
    state = torch.get_rng_state()
    model = build(ClipConfig())  # ViT-B/32
    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(parameter.numel() for parameter in model.parameters()) == 151_277_313


def test_building_is_quick_to_start() -> None:
    """Initialising an embedding on the meta device would import a compiler, two seconds of it."""
    program = (
        "import sys; from ecliptic.model import ClipConfig, build; build(ClipConfig()); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_equal_seeds_give_equal_weights() -> None:
    one, same, other = random_model(CONFIG, 1), random_model(CONFIG, 1), random_model(CONFIG, 2)
    for name, tensor in one.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    assert not torch.equal(other.image_tower.projection, one.image_tower.projection)


@pytest.mark.parametrize("kind", ["vit", "resnet", "basic", "odd"])
@pytest.mark.parametrize(("dtype", "cosine"), [(torch.float16, 0.9999), (torch.bfloat16, 0.995)])
@torch.no_grad()
def test_half_precision_stays_near_float32(kind: str, dtype: torch.dtype, cosine: float) -> None:
    wide = twins.ours(kind, "quick_gelu")
    checkpoint = tiny.checkpoint(kind)
    half = tiny.model(checkpoint).to(dtype)
    pixels, tokens = tiny.pixels(checkpoint, 4), tiny.tokens(checkpoint)
    image, text = half.encode_image(pixels.to(dtype)), half.encode_text(tokens)
    assert image.dtype == text.dtype == dtype
    assert F.cosine_similarity(image.float(), wide.encode_image(pixels)).min() > cosine
    assert F.cosine_similarity(text.float(), wide.encode_text(tokens)).min() > cosine
