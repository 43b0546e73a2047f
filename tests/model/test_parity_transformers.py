"""transformers with the same weights computes the same, forwards and backwards.

Vectors, layers, attention, logits, and the gradients of the contrastive loss.
"""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from ecliptic.checkpoints.layouts.transformers import TABLE
from ecliptic.model import Activation, VisionTransformer
from ecliptic.train.losses import InfoNCE
from tests import peers, tiny, twins
from tests.runtime.lone import encode_image, image_sequence
from tests.twins import check_gradients, check_relative, check_unit, gradients

EVERY = pytest.mark.parametrize(("kind", "activation"), twins.TRANSFORMERS)
LOOK: dict[str, Any] = {"output_hidden_states": True, "output_attentions": True}


@EVERY
@torch.no_grad()
def test_vectors_logits_and_temperature_are_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation), twins.transformers(kind, activation)
    checkpoint = tiny.checkpoint(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint, 4), tiny.tokens(checkpoint)
    wanted = peer(input_ids=tokens, pixel_values=pixels)
    check_unit(model.encode_image(pixels), wanted.image_embeds)
    check_unit(model.encode_text(tokens), wanted.text_embeds)
    check_relative(model(pixels, tokens), wanted.logits_per_image)
    assert torch.equal(1 / model.temperature, peer.logit_scale.exp())


@EVERY
@torch.no_grad()
def test_raw_vectors_are_equal_before_any_normalisation(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation), twins.transformers(kind, activation)
    checkpoint = tiny.checkpoint(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint), tiny.tokens(checkpoint)
    image = peer.get_image_features(pixel_values=pixels).pooler_output
    text = peer.get_text_features(input_ids=tokens).pooler_output
    check_relative(model.encode_image(pixels), image)
    check_relative(model.encode_text(tokens), text)


@EVERY
@torch.no_grad()
def test_every_text_layer_and_attention_map_is_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation).text_tower, twins.transformers(kind, activation)
    tokens = tiny.tokens(tiny.checkpoint(kind, activation))
    states, wanted = model.states(tokens, look=True), peer.text_model(input_ids=tokens, **LOOK)
    check_layers(states.hidden, wanted.hidden_states)
    check_layers(states.attention, wanted.attentions)
    check_relative(states.last, wanted.last_hidden_state)  # after the final norm
    check_relative(states.pooled, wanted.pooler_output)
    for layer, hidden in enumerate(wanted.hidden_states):
        normed = peer.text_model.final_layer_norm(hidden)
        check_relative(model.sequence(tokens, layer=layer), normed, f"layer {layer}")
        back = layer - len(wanted.hidden_states)  # hidden_states[-2] is layer -2
        check_relative(model.sequence(tokens, layer=back, final_norm=False), hidden)


@EVERY
@torch.no_grad()
def test_every_image_layer_and_attention_map_is_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation).image_tower, twins.transformers(kind, activation)
    pixels = tiny.pixels(tiny.checkpoint(kind, activation))
    states = model.states(pixels, look=True)
    wanted = peer.vision_model(pixel_values=pixels, **LOOK)
    check_layers(states.hidden, wanted.hidden_states)
    check_layers(states.attention, wanted.attentions)
    check_relative(states.hidden[-1], wanted.last_hidden_state)  # before the final norm
    check_relative(states.pooled, wanted.pooler_output)
    patches = model.patches(pixels).flatten(1, 2)
    check_relative(patches, peer.vision_model.post_layernorm(wanted.last_hidden_state)[:, 1:])


@pytest.mark.parametrize("kind", ["vit", "odd"])
@torch.no_grad()
def test_image_conditioning_reads_what_the_projected_vision_class_gives(kind: str) -> None:
    """IP-Adapter "plus" takes hidden_states[-2] with no norm; SVD and unCLIP the image_embeds."""
    library, checkpoint = peers.transformers(), tiny.checkpoint(kind, "gelu")
    whole, pixels = twins.transformers(kind, "gelu"), tiny.pixels(checkpoint)
    config = library.CLIPVisionConfig(**whole.config.vision_config.to_dict())
    config.projection_dim = whole.config.projection_dim
    peer = library.CLIPVisionModelWithProjection(config).eval()
    state = {k: v for k, v in whole.state_dict().items() if k.startswith("vis")}
    peer.load_state_dict(state, strict=True)
    wanted = peer(pixel_values=pixels, output_hidden_states=True)
    tower = tiny.model(checkpoint).image_tower
    assert isinstance(tower, VisionTransformer)
    for layer, hidden in enumerate(wanted.hidden_states):
        back = layer - len(wanted.hidden_states)
        for run in (tower.sequence, partial(image_sequence, tower)):
            check_relative(run(pixels, layer=back, final_norm=False), hidden)
    assert image_sequence(tower, pixels).shape == (2, 17, tower.config.width)
    check_relative(image_sequence(tower, pixels), wanted.hidden_states[-2])
    for vectors in (tower(pixels), encode_image(tower, pixels)):
        check_relative(vectors, wanted.image_embeds)


def check_layers(found: Any, wanted: Any) -> None:
    assert len(found) == len(wanted)
    for layer, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        check_relative(ours, theirs, f"layer {layer}")


@EVERY
def test_gradients_of_the_contrastive_loss_are_equal(kind: str, activation: Activation) -> None:
    model, peer = twins.ours(kind, activation), twins.transformers(kind, activation)
    checkpoint = tiny.checkpoint(kind, activation)
    pixels, tokens = tiny.pixels(checkpoint, 3), tiny.tokens(checkpoint)
    model.requires_grad_(True).zero_grad()
    peer.requires_grad_(True).zero_grad()
    vectors = model.encode_image(pixels), model.encode_text(tokens)
    unit = (F.normalize(v, dim=-1) for v in vectors)
    loss = InfoNCE()(*unit, model.logit_scale)
    wanted = peer(input_ids=tokens, pixel_values=pixels, return_loss=True).loss
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-6)
    loss.backward()
    wanted.backward()
    check_gradients(gradients(model), TABLE.to_native(gradients(peer)).weights)


@torch.no_grad()
def test_looking_at_attention_changes_nothing() -> None:
    model = twins.ours("odd", "gelu")
    checkpoint = tiny.checkpoint("odd", "gelu")
    for tower, inputs in (
        (model.text_tower, tiny.tokens(checkpoint)),
        (model.image_tower, tiny.pixels(checkpoint)),
    ):
        plain, looked = tower.states(inputs), tower.states(inputs, look=True)
        assert plain.attention == ()
        check_relative(looked.vectors, plain.vectors)
        for weights in looked.attention:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
