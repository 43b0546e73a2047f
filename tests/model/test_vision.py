"""The vision transformer checks its pixels; positions are resized for another size."""

import re
from dataclasses import replace

import pytest
import torch

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import (
    ClipConfig,
    ModifiedResNet,
    VisionTransformer,
    ViTConfig,
    random_model,
    resize_positions,
)
from tests import tiny, twins

CONFIG = ViTConfig(image_size=32, patch_size=8, width=48, depth=3, heads=4, mlp=100)


def tower() -> VisionTransformer:
    model = random_model(ClipConfig(embed=24, image=CONFIG, text=None)).image_tower
    assert isinstance(model, VisionTransformer)
    return model


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (2, 32, 32, 3), (2, 1, 32, 32), (2, 3, 40, 40), (2, 3, 32, 24)]
)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_pixels_of_another_shape_are_refused_with_the_right_one(
    kind: str, shape: tuple[int, ...]
) -> None:
    model = twins.ours(kind, "gelu")
    size = model.image_tower.config.image_size
    wanted = f"pixels must be (batch, 3, {size}, {size}), got {shape}"
    with pytest.raises(ShapeError, match=re.escape(wanted) + r".*preprocess.*image_size=N"):
        model.encode_image(torch.zeros(shape))


@torch.no_grad()
def test_an_image_does_not_depend_on_its_companions() -> None:
    model, pixels = twins.ours("vit", "gelu"), tiny.pixels(tiny.checkpoint("vit", "gelu"), 5)
    together = model.encode_image(pixels)
    for row in range(5):
        alone = model.encode_image(pixels[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_layers_are_counted_from_both_ends() -> None:
    model = tower()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    hidden = model.states(pixels).hidden
    assert len(hidden) == CONFIG.depth + 1
    for layer, wanted in enumerate(hidden):
        for index in (layer, layer - len(hidden)):
            assert torch.equal(model.sequence(pixels, layer=index, final_norm=False), wanted)
    with pytest.raises(ConfigError, match="layer 4 does not exist"):
        model.sequence(pixels, layer=4)


@torch.no_grad()
def test_patches_lie_where_they_are_in_the_image() -> None:
    """Row 2, column 1 of the grid changes most when that patch of the image changes."""
    model = tower()
    pixels = torch.zeros(1, 3, 32, 32)
    changed = pixels.clone()
    changed[:, :, 16:24, 8:16] = 2.0
    difference = (model.patches(changed, layer=0) - model.patches(pixels, layer=0)).norm(dim=-1)
    assert difference.shape == (1, 4, 4)
    assert difference[0].argmax() == 2 * 4 + 1
    assert (difference > 0).sum() == 1  # layer 0 has not mixed anything yet


@torch.no_grad()
def test_the_positions_of_the_same_grid_are_kept_and_the_class_token_always_is() -> None:
    positions = torch.randn(17, 48, generator=torch.Generator().manual_seed(0))
    assert resize_positions(positions, 4) is positions
    larger = resize_positions(positions, 6)
    assert larger.shape == (37, 48)
    assert torch.equal(larger[0], positions[0])
    constant = resize_positions(torch.ones(17, 8), 7)
    torch.testing.assert_close(constant, torch.ones(50, 8))


def test_half_precision_positions_are_resized_in_float32() -> None:
    positions = torch.randn(17, 48, generator=torch.Generator().manual_seed(0)).half()
    larger = resize_positions(positions, 6)
    assert larger.dtype == torch.float16
    torch.testing.assert_close(larger, resize_positions(positions.float(), 6).half())


def test_positions_that_form_no_square_are_refused() -> None:
    with pytest.raises(ShapeError, match="16 position embeddings are not one class token and a sq"):
        resize_positions(torch.zeros(16, 8), 5)


def test_patches_that_do_not_fill_the_image_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"30 leaves 6 pixels over.*use 24"):
        replace(CONFIG, image_size=30)


@torch.no_grad()
def test_a_resnet_in_eval_mode_neither_uses_nor_changes_batch_statistics() -> None:
    model = tiny.model(tiny.checkpoint("resnet", "gelu"))
    tower, pixels = model.image_tower, tiny.pixels(tiny.checkpoint("resnet", "gelu"), 4)
    assert isinstance(tower, ModifiedResNet)
    assert not any(module.training for module in tower.modules())
    kept = {name: buffer.clone() for name, buffer in tower.named_buffers()}
    assert len(kept) == 3 * sum(isinstance(m, torch.nn.BatchNorm2d) for m in tower.modules())
    together = tower(pixels)
    torch.testing.assert_close(tower(pixels[:1]), together[:1], rtol=1e-5, atol=1e-5)
    for name, buffer in tower.named_buffers():
        assert torch.equal(buffer, kept[name]), name


@torch.no_grad()
def test_projected_patches_of_a_resnet_average_to_the_pool_of_equal_attention() -> None:
    """With keys of zero, the pool averages the places of `patches(project=True)`."""
    model = tiny.model(tiny.checkpoint("resnet_image"))
    tower, pixels = model.image_tower, tiny.pixels(tiny.checkpoint("resnet_image"))
    assert isinstance(tower, ModifiedResNet)
    tower.pool.key = torch.nn.Linear(tower.config.features, tower.config.features)
    torch.nn.init.zeros_(tower.pool.key.weight)
    places = tower.patches(pixels, project=True).flatten(1, 2)  # (B, G*G, E)
    tokens = tower.pool.tokens(tower.feature_map(pixels))[:, :1]
    mean = tower.pool.out(tower.pool.value(tokens))  # (B, 1, E), the place of the mean
    wanted = torch.cat([mean, places], dim=1).mean(dim=1)
    torch.testing.assert_close(tower(pixels), wanted, rtol=1e-4, atol=1e-4)
