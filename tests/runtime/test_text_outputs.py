"""Sequences and vectors of the fast path: the model's numbers, less work, no gradient.

`tests/model/test_text_outputs.py` runs both paths and compares them with transformers, over masks,
splices, norms and activations.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import (
    Activation,
    ClipConfig,
    ResNetConfig,
    TextOutputs,
    TextTower,
    VisionTransformer,
    ViTConfig,
    random_model,
)
from tests.model.test_text_outputs import CONFIG, END, check, ids, tower, vectors_of
from tests.runtime.lone import encode_text, image_sequence, text_outputs

VIT = ViTConfig(image_size=32, patch_size=8, width=48, depth=3, heads=4, mlp=100)


def record_shapes(module: nn.Module) -> list[tuple[int, ...]]:
    """Return a list to which each call of `module` appends the shape of its input."""
    shapes: list[tuple[int, ...]] = []
    module.register_forward_pre_hook(lambda _m, args: shapes.append(tuple(args[0].shape)))
    return shapes


def pad(ends: list[int]) -> Tensor:
    tokens = torch.full((len(ends), 16), END)
    for row, end in enumerate(ends):
        tokens[row, :end] = torch.arange(end) + row
    return tokens


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("layer", [None, 0, 1, 2, 3, -1, -2, -3, -4])
@pytest.mark.parametrize("ends", [[15, 15, 15], [3, 9, 15], [1, 2, 3], [4]])
@torch.no_grad()
def test_every_mixture_of_lengths_and_layers_equals_the_model(
    activation: Activation, layer: int | None, ends: list[int]
) -> None:
    model, tokens = tower(activation), pad(ends)
    for normed in (True, False):
        wanted = model.outputs(tokens, layer=layer, final_norm=normed)
        check(text_outputs(model, tokens, layer=layer, final_norm=normed), wanted)


@pytest.mark.parametrize("layer", [None, 0, 1])
@torch.no_grad()
def test_one_block_is_enough(layer: int | None) -> None:
    config = ClipConfig(embed=24, image=None, text=replace(CONFIG, depth=1))
    model = random_model(config).text_tower
    check(text_outputs(model, ids(), layer=layer), model.outputs(ids(), layer=layer))


def test_vectors_are_those_of_encode_text() -> None:
    found = text_outputs(tower(), ids(), layer=-2).vectors
    assert found is not None
    torch.testing.assert_close(found, encode_text(tower(), ids()).clone(), rtol=0, atol=2e-6)


def test_blocks_above_the_wanted_layer_are_not_run() -> None:
    model = tower()
    inputs = [record_shapes(block.ln_1) for block in model.blocks]
    text_outputs(model, ids(), layer=-2, pooled=False)
    assert [len(shapes) for shapes in inputs] == [1, 1, 0]


def test_above_the_wanted_layer_only_the_end_of_text_is_computed() -> None:
    """The last block's MLP sees one token a row, its keys none after the longest text."""
    model, tokens = tower(), pad([2, 5, 7])
    keys, mlp = record_shapes(model.blocks[2].ln_1), record_shapes(model.blocks[2].ln_2)
    text_outputs(model, tokens, layer=-2)
    assert keys == [(3, 8, 32)]
    assert mlp == [(3, 32)]


def test_equal_rows_are_computed_once_and_each_gets_its_own_result() -> None:
    model, tokens = tower(), ids(3)[[0, 1, 0, 2, 1, 0]]
    shapes = record_shapes(model.blocks[0].ln_1)
    found = text_outputs(model, tokens)
    assert shapes == [(3, 16, 32)]
    with torch.no_grad():
        check(found, model.outputs(tokens))
    assert found.sequence is not None
    found.sequence[0] = 0  # no two rows share memory
    assert float(found.sequence[2].abs().max()) > 0


def test_equal_ids_with_different_vectors_or_masks_are_not_one_row() -> None:
    model, tokens = tower(), ids(1).repeat(2, 1)
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    mask[1, 1] = False
    for found in (
        text_outputs(model, tokens, embedded=vectors_of(tokens)),
        text_outputs(model, tokens, mask=mask),
    ):
        assert found.vectors is not None
        assert float((found.vectors[0] - found.vectors[1]).abs().max()) > 1e-4


def test_a_row_without_end_of_text_is_refused_by_its_own_number() -> None:
    tokens = torch.cat([ids(3), ids(3)])
    tokens[4][tokens[4] == END] = 0
    with pytest.raises(ShapeError, match="row 4 of the tokens"):
        text_outputs(tower(), tokens)


def test_what_was_given_is_not_changed() -> None:
    model, tokens = tower(), ids()
    embedded, mask = vectors_of(tokens), torch.ones(tokens.shape, dtype=torch.bool)
    given = [tokens.clone(), embedded.clone(), mask.clone()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layer in (None, 0, -2, -1):
        text_outputs(model, tokens, layer=layer, embedded=embedded)
        text_outputs(model, tokens, layer=layer, embedded=embedded, mask=mask)
        text_outputs(model, tokens, layer=layer)
    for before, after in zip(given, [tokens, embedded, mask], strict=True):
        assert torch.equal(before, after)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("layer", [0, 1, -2])
def test_a_sequence_is_not_overwritten_by_the_blocks_above_it(layer: int) -> None:
    """Packing works in place but leaves the returned layer alone, in full and cut batches."""
    model = tower()
    for ends in ([15, 15], [3, 15], [3, 4]):
        tokens = pad(ends)
        alone = text_outputs(model, tokens, layer=layer, final_norm=False, pooled=False)
        both = text_outputs(model, tokens, layer=layer, final_norm=False)
        assert alone.sequence is not None
        assert both.sequence is not None
        assert torch.equal(alone.sequence, both.sequence)


def test_no_gradient_is_kept_but_what_follows_may_have_one() -> None:
    model, tokens = tower().requires_grad_(True), ids()
    embedded = vectors_of(tokens).requires_grad_(True)
    found = text_outputs(model, tokens, layer=-2, embedded=embedded)
    scale = torch.ones((), requires_grad=True)
    for tensor in (found.sequence, found.pooled, found.vectors):
        assert tensor is not None
        assert not tensor.requires_grad
        assert not tensor.is_inference()
        (tensor * scale).sum().backward()
    assert scale.grad is not None
    assert embedded.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(dtype: torch.dtype) -> None:
    tokens = ids()
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    mask[:, 12:] = False
    for given in (None, mask):
        wanted = text_outputs(tower("quick_gelu"), tokens, layer=-2, mask=given)
        found = text_outputs(tower("quick_gelu").to(dtype), tokens, layer=-2, mask=given)
        assert_near(found, wanted, dtype)


def assert_near(found: TextOutputs, wanted: TextOutputs, dtype: torch.dtype) -> None:
    for name in ("sequence", "pooled", "vectors"):
        a, b = getattr(found, name), getattr(wanted, name)
        assert a.dtype == dtype
        assert float(torch.cosine_similarity(a.float(), b, dim=-1).min()) > 0.999, name


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_image_sequences_equal_the_model(activation: Activation) -> None:
    config = ClipConfig(embed=24, image=replace(VIT, activation=activation), text=None)
    model = random_model(config).image_tower
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert isinstance(model, VisionTransformer)
    for layer in range(-4, 4):
        for normed in (True, False):
            wanted = model.sequence(pixels, layer=layer, final_norm=normed)
            found = image_sequence(model, pixels, layer=layer, final_norm=normed)
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    torch.testing.assert_close(
        image_sequence(model, pixels),
        model.sequence(pixels, layer=-2, final_norm=False),
        rtol=0,
        atol=2e-5,
    )


def test_a_resnet_has_no_sequence_and_says_so() -> None:
    config = ResNetConfig(image_size=64, width=8, depths=(1, 1, 2, 1), heads=4)
    model = random_model(ClipConfig(embed=24, image=config, text=None)).image_tower
    with pytest.raises(ConfigError, match="use a vision transformer"):
        image_sequence(model, torch.zeros(1, 3, 64, 64))


def test_layers_that_do_not_exist_are_refused() -> None:
    model: TextTower = tower()
    with pytest.raises(ConfigError, match="layer 4 does not exist"):
        text_outputs(model, ids(), layer=4)
