"""open_clip with the same weights gives the same vectors, layers, logits and gradients."""

import pytest
import torch
import torch.nn.functional as F

from ecliptic.checkpoints import openai_keys
from ecliptic.model import Activation, ModifiedResNet, ViTConfig, resize_positions
from ecliptic.train.losses import InfoNCE
from tests import peers, tiny, twins
from tests.twins import check_relative, check_unit, gradients, outputs, split_qkv

EVERY = pytest.mark.parametrize(("kind", "activation"), twins.OPEN_CLIP)
VITS = pytest.mark.parametrize(
    ("kind", "activation"), [pair for pair in twins.OPEN_CLIP if pair[0] != "resnet"]
)


@EVERY
@torch.no_grad()
def test_vectors_of_both_towers_are_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation), twins.open_clip(kind, activation)
    checkpoint = tiny.checkpoint(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint, 4), tiny.tokens(checkpoint)
    check_unit(model.encode_image(pixels), peer.encode_image(pixels))
    check_unit(model.encode_text(tokens), peer.encode_text(tokens))


@EVERY
@torch.no_grad()
def test_logits_and_temperature_are_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation), twins.open_clip(kind, activation)
    checkpoint = tiny.checkpoint(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint, 4), tiny.tokens(checkpoint)
    logits, per_text = peer.get_logits(pixels, tokens)
    check_relative(model(pixels, tokens), logits)
    check_relative(model(pixels, tokens).T, per_text)
    assert torch.equal(1 / model.temperature, peer.logit_scale.exp())


@VITS
@torch.no_grad()
def test_every_text_layer_is_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation).text_tower, twins.open_clip(kind, activation)
    tokens = tiny.tokens(tiny.checkpoint(kind, activation))
    with outputs([*peer.transformer.resblocks, peer.ln_final]) as wanted:
        peer.encode_text(tokens)
    states = model.states(tokens)
    check_relative(states.hidden[0], peer.token_embedding(tokens) + peer.positional_embedding)
    for layer, hidden in enumerate(wanted[:-1], start=1):
        check_relative(states.hidden[layer], hidden, f"layer {layer}")
        check_relative(model.sequence(tokens, layer=layer, final_norm=False), hidden)
        check_relative(model.sequence(tokens, layer=layer), peer.ln_final(hidden))
    check_relative(states.last, wanted[-1])
    check_relative(model.sequence(tokens), wanted[-1])


@VITS
@torch.no_grad()
def test_every_image_layer_is_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation).image_tower, twins.open_clip(kind, activation)
    pixels = tiny.pixels(tiny.checkpoint(kind, activation))
    visual = peer.visual
    with outputs([visual.ln_pre, *visual.transformer.resblocks]) as wanted:
        peer.encode_image(pixels)
    states = model.states(pixels)
    assert len(states.hidden) == len(wanted)
    for layer, hidden in enumerate(wanted):
        check_relative(states.hidden[layer], hidden, f"layer {layer}")
        check_relative(model.sequence(pixels, layer=layer), visual.ln_post(hidden))
        check_relative(model.sequence(pixels, layer=layer, final_norm=False), hidden)
    check_relative(states.pooled, visual.ln_post(wanted[-1])[:, 0])


@VITS
@torch.no_grad()
def test_patch_features_are_the_tokens_open_clip_gives_out(
    kind: str, activation: Activation
) -> None:
    model, peer = twins.ours(kind, activation).image_tower, twins.open_clip(kind, activation)
    pixels = tiny.pixels(tiny.checkpoint(kind, activation))
    found = peer.visual.forward_intermediates(
        pixels, normalize_intermediates=True, output_fmt="NLC", stop_early=False
    )
    wanted = found["image_intermediates"]
    for layer, patches in enumerate(wanted, start=1):
        check_relative(model.patches(pixels, layer=layer).flatten(1, 2), patches)
    projected = model.patches(pixels, project=True).flatten(1, 2)
    check_relative(projected, wanted[-1] @ peer.visual.proj)


@torch.no_grad()
def test_every_stage_of_a_resnet_is_equal() -> None:
    model, peer = twins.ours("resnet", "gelu").image_tower, twins.open_clip("resnet", "gelu")
    assert isinstance(model, ModifiedResNet)
    pixels = tiny.pixels(tiny.checkpoint("resnet", "gelu"))
    visual = peer.visual
    with outputs([visual.avgpool, visual.layer1, visual.layer2, visual.layer3, visual.layer4]) as o:
        peer.encode_image(pixels)
    for stage, wanted in enumerate(o):
        check_relative(model.feature_map(pixels, layer=stage), wanted, f"stage {stage}")
        check_relative(model.states(pixels).hidden[stage], wanted, f"stage {stage}")
    check_relative(model.patches(pixels), o[-1].permute(0, 2, 3, 1))


@EVERY
def test_gradients_of_the_contrastive_loss_are_equal(kind: str, activation: Activation) -> None:
    checkpoint = tiny.checkpoint(kind, activation)
    model, peer = twins.ours(kind, activation), twins.open_clip(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint, 3), tiny.tokens(checkpoint)
    model.requires_grad_(True).zero_grad()
    peer.requires_grad_(True).zero_grad()
    vectors = model.encode_image(pixels), model.encode_text(tokens)
    unit = (F.normalize(v, dim=-1) for v in vectors)
    loss = InfoNCE()(*unit, model.logit_scale)
    wanted = peers.open_clip().ClipLoss()(*peer(pixels, tokens))
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-6)
    loss.backward()
    wanted.backward()
    found = split_qkv(gradients(model))
    theirs = split_qkv(openai_keys(checkpoint.config).to_native(gradients(peer)).weights)
    assert theirs.keys() == found.keys()
    for name, value in found.items():
        if name.endswith(("qkv.bias k", "key.bias")):
            # Softmax ignores a value that all keys share, so this gradient is rounding error.
            assert value.abs().max() < 1e-5, name
        else:
            check_relative(value, theirs[name], name)


@pytest.mark.parametrize("size", [16, 24, 40, 64])
def test_positions_for_another_size_are_open_clips(size: int) -> None:
    from open_clip.model import resize_pos_embed

    peer = twins.open_clip("vit", "gelu")
    weights = tiny.checkpoint("vit", "gelu").weights["image.positions"]
    config = tiny.CONFIGS["vit"].image
    assert isinstance(config, ViTConfig)
    grid = size // config.patch_size
    state = {"visual.positional_embedding": weights.clone()}
    visual = peer.visual
    original = visual.grid_size
    try:
        visual.grid_size = (grid, grid)
        resize_pos_embed(state, peer)
    finally:
        visual.grid_size = original
    found = resize_positions(weights, grid)
    torch.testing.assert_close(found, state["visual.positional_embedding"], rtol=0, atol=1e-6)


@torch.no_grad()
def test_unit_vectors_do_not_depend_on_the_scale_of_raw_ones() -> None:
    model = twins.ours("vit", "gelu")
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 3, 32, generator=generator)
    wanted = model.logit_scale.exp() * F.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(model.logits(7 * image, 0.1 * text), wanted)
