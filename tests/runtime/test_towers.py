"""The fast paths give the same numbers as the model."""

from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError
from ecliptic.model import Activation, ClipConfig, ResNetConfig, TextConfig, ViTConfig, random_model
from tests.runtime.lone import encode_image, encode_text

TEXT = TextConfig(vocabulary=60, context=16, width=32, depth=3, heads=4, mlp=96, end_of_text=59)
VIT = ViTConfig(image_size=32, patch_size=8, width=48, depth=3, heads=4, mlp=100)


def tokens(rows: int) -> torch.Tensor:
    """Random ids with ends of text at various places, and random ids after them."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 59, (rows, 16), generator=generator)
    ends = torch.randint(1, 11, (rows,), generator=generator)
    ids[torch.arange(rows), ends] = 59
    ids[torch.arange(rows), ends + 2] = 59  # a second one must not be pooled
    return ids


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("depth", [1, 3])
def test_text_equals_the_model(activation: Activation, depth: int) -> None:
    config = TextConfig(**{**vars(TEXT), "activation": activation, "depth": depth})
    model = random_model(ClipConfig(embed=24, image=None, text=config))
    ids = tokens(9)
    with torch.inference_mode():
        wanted = model.encode_text(ids)
    torch.testing.assert_close(encode_text(model.text_tower, ids), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lengths", [(16, 16, 16), (15, 16, 16), (2, 16, 9), (1, 1, 2), (5,)])
def test_texts_of_any_mixture_of_lengths_equal_the_model(lengths: tuple[int, ...]) -> None:
    model = random_model(ClipConfig(embed=24, image=None, text=TEXT))
    ids = torch.randint(0, 59, (len(lengths), 16), generator=torch.Generator().manual_seed(3))
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 59
    with torch.inference_mode():
        wanted = model.encode_text(ids)
    torch.testing.assert_close(encode_text(model.text_tower, ids), wanted, rtol=1e-5, atol=1e-6)


def test_padding_is_not_computed() -> None:
    """NaN in the positions after the end of each text changes no vector."""
    model = random_model(ClipConfig(embed=24, image=None, text=TEXT))
    ids = torch.zeros(2, 16, dtype=torch.long)
    ids[0, 3] = ids[1, 15] = 59
    wanted = encode_text(model.text_tower, ids)[0]
    ids[0, 4:] = 58
    model.text_tower.token_embedding.weight.data[58] = torch.nan
    found = encode_text(model.text_tower, ids)[0]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("depth", [1, 3])
def test_images_equal_the_model(activation: Activation, depth: int) -> None:
    config = ViTConfig(**{**vars(VIT), "activation": activation, "depth": depth})
    model = random_model(ClipConfig(embed=24, image=config, text=None))
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(
        encode_image(model.image_tower, pixels), wanted, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_a_resnet_equals_the_model(block: Any) -> None:
    config = ResNetConfig(image_size=64, width=8, depths=(1, 1, 2, 1), heads=4, block=block)
    model = random_model(ClipConfig(embed=24, image=config, text=None))
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(encode_image(model.image_tower, pixels), wanted)


def test_a_resnet_in_train_mode_is_refused_and_left_alone() -> None:
    config = ResNetConfig(image_size=64, width=8, depths=(1, 1, 2, 1), heads=4)
    model = random_model(ClipConfig(embed=24, image=config, text=None)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"clip\.model\.eval\(\)"):
        encode_image(model.image_tower, torch.zeros(3, 3, 64, 64))
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    encode_image(model.eval().image_tower, torch.zeros(3, 3, 64, 64))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    model = random_model(ClipConfig(embed=24, image=VIT, text=TEXT))
    ids = tokens(4)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    wanted = [encode_text(model.text_tower, ids), encode_image(model.image_tower, pixels)]
    model = model.to(dtype)
    found = [
        encode_text(model.text_tower, ids),
        encode_image(model.image_tower, pixels.to(dtype)),
    ]
    for a, b in zip(wanted, found, strict=True):
        assert b.dtype == dtype
        assert torch.cosine_similarity(a, b.float()).min() > 0.999


def test_no_gradient_is_kept() -> None:
    model = random_model(ClipConfig(embed=24, image=None, text=TEXT))
    assert not encode_text(model.text_tower, tokens(2)).requires_grad
