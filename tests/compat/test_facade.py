import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.compat.facade import OpenAIModel, OpenClipModel
from ecliptic.errors import ShapeError
from tests import tiny
from tests.compat.twins import twin

KINDS = ["vit", "resnet"]


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any, Tensor, Tensor]:
    """(our open_clip facade, open_clip's model, pixels, tokens) on the same weights."""
    held = tiny.checkpoint(request.param)
    ours = OpenClipModel(copy.deepcopy(tiny.model(held))).eval()  # tests may change its weights
    return ours, twin(held), tiny.pixels(held), tiny.tokens(held)


def test_both_facades_give_open_clips_vectors(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, pixels, tokens = pair
    old = OpenAIModel(ours.towers).eval()
    for normalize in (False, True):
        wanted = theirs.encode_image(pixels, normalize=normalize)
        close(ours.encode_image(pixels, normalize=normalize), wanted)
        wanted = theirs.encode_text(tokens, normalize=normalize)
        close(ours.encode_text(tokens, normalize=normalize), wanted)
    close(old.encode_image(pixels), theirs.encode_image(pixels))
    close(old.encode_text(tokens), theirs.encode_text(tokens))


def test_forward_gives_what_open_clips_forward_gives(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    ours, theirs, pixels, tokens = pair
    for found, wanted in zip(ours(pixels, tokens), theirs(pixels, tokens), strict=True):
        close(found, wanted)
    for found, wanted in zip(
        ours.get_logits(pixels, tokens), theirs.get_logits(pixels, tokens), strict=True
    ):
        close(found, wanted)
    assert ours(image=pixels)[1] is None
    ours.output_dict = theirs.output_dict = True
    found, wanted = ours(pixels, tokens), theirs(pixels, tokens)
    assert found.keys() == wanted.keys()
    close(found["image_features"], wanted["image_features"])


def test_openai_forward_gives_scaled_cosines_both_ways(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    ours, theirs, pixels, tokens = pair
    per_image, per_text = OpenAIModel(ours.towers).eval()(pixels, tokens)
    close(per_image, theirs.get_logits(pixels, tokens)[0])
    assert torch.equal(per_image.T, per_text)


def test_sequence_embeddings_by_hand_with_open_clips_names(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    """A script from many repositories, run on both models."""

    def script(model: Any, text: Tensor) -> tuple[Tensor, Tensor]:
        cast_dtype = model.transformer.get_cast_dtype()
        x = model.token_embedding(text).to(cast_dtype)
        x = x + model.positional_embedding.to(cast_dtype)
        x = model.transformer(x, attn_mask=model.attn_mask)
        x = model.ln_final(x)
        return x, x[torch.arange(x.shape[0]), text.argmax(dim=-1)] @ model.text_projection

    ours, theirs, _, tokens = pair
    for found, wanted in zip(script(ours, tokens), script(theirs, tokens), strict=True):
        close(found, wanted)
    close(script(ours, tokens)[1], ours.encode_text(tokens))


def test_sequence_embeddings_by_hand_with_openais_names(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    """The body of openai/CLIP's own `encode_text`, which scripts copy."""
    ours, theirs, _, tokens = pair
    model = OpenAIModel(ours.towers).eval()
    x = model.token_embedding(tokens).type(model.dtype)
    x = x + model.positional_embedding.type(model.dtype)
    x = x.permute(1, 0, 2)  # NLD -> LND
    x = model.transformer(x)
    x = x.permute(1, 0, 2)  # LND -> NLD
    x = model.ln_final(x).type(model.dtype)
    x = x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ model.text_projection
    close(x, theirs.encode_text(tokens))


def test_blocks_can_be_run_one_by_one(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    """The text encoder of Stable Diffusion 2 does this, to stop one block early."""
    ours, theirs, _, tokens = pair

    def script(model: Any) -> Tensor:
        x = model.token_embedding(tokens) + model.positional_embedding
        for i, block in enumerate(model.transformer.resblocks):
            if i == len(model.transformer.resblocks) - 1:
                break
            x = block(x, attn_mask=model.attn_mask)
        return x  # type: ignore[no-any-return]

    close(script(ours), script(theirs))


def test_the_image_tower_can_be_run_by_hand() -> None:
    held = tiny.checkpoint("vit")
    pixels = tiny.pixels(held)

    def script(visual: Any, *, tokens_first: bool) -> Tensor:
        x = visual.conv1(pixels).flatten(2).permute(0, 2, 1)
        first = visual.class_embedding + torch.zeros(len(x), 1, x.shape[-1])
        x = torch.cat([first, x], dim=1) + visual.positional_embedding
        x = visual.ln_pre(x)
        x = (
            visual.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
            if tokens_first
            else (visual.transformer(x))
        )
        return visual.ln_post(x[:, 0]) @ visual.proj  # type: ignore[no-any-return]

    wanted = twin(held).encode_image(pixels)
    towers = tiny.model(held)
    close(script(OpenClipModel(towers).visual, tokens_first=False), wanted)
    close(script(OpenAIModel(towers).visual, tokens_first=True), wanted)


def test_stages_of_a_resnet_have_their_old_names() -> None:
    held = tiny.checkpoint("resnet")
    visual, theirs = OpenAIModel(tiny.model(held)).eval().visual, twin(held).visual
    x = torch.randn(2, visual.conv3.out_channels, 16, 16)
    close(visual.layer1(x), theirs.layer1(x))
    close(visual.bn1.weight, theirs.bn1.weight)
    features = visual.layer4(visual.layer3(visual.layer2(visual.layer1(x))))
    assert features.shape[1] == held.config.image.features  # type: ignore[union-attr]


def test_weights_go_in_and_out_under_released_names(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    ours, theirs, _, _ = pair
    found, wanted = ours.state_dict(), theirs.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    doubled = {name: t * 2 if t.is_floating_point() else t for name, t in wanted.items()}
    ours.load_state_dict(doubled)
    assert torch.equal(ours.ln_final.bias, 2 * wanted["ln_final.bias"])
    theirs.load_state_dict(ours.state_dict())


def test_parameters_are_named_and_counted_as_in_open_clip(
    pair: tuple[Any, Any, Tensor, Tensor],
) -> None:
    ours, theirs, _, _ = pair
    named = {name: parameter.shape for name, parameter in ours.named_parameters()}
    assert named == {name: parameter.shape for name, parameter in theirs.named_parameters()}
    assert len(list(ours.parameters())) == len(named)


def test_a_wrapped_facade_prefixes_its_names() -> None:
    held = tiny.checkpoint("vit")
    wrapped = torch.nn.ModuleDict({"module": OpenAIModel(tiny.model(held))})
    assert "module.visual.proj" in wrapped.state_dict()


def test_strict_loading_complains_of_unknown_names() -> None:
    facade = OpenAIModel(tiny.model(tiny.checkpoint("vit")))
    with pytest.raises(RuntimeError, match="mystery"):
        facade.load_state_dict({**facade.state_dict(), "mystery": torch.zeros(1)})


def test_gradients_flow_to_the_same_parameters(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, pixels, tokens = pair
    for model in (ours, theirs):
        logits, _ = model.get_logits(pixels, tokens[: len(pixels)])
        F.cross_entropy(logits, torch.arange(len(pixels))).backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        largest = wanted[name].grad.abs().max()
        difference = (parameter.grad - wanted[name].grad).abs().max()
        assert difference <= 1e-4 * largest + 1e-6, name


def test_replacing_a_part_by_its_old_name_replaces_it_in_the_towers() -> None:
    held = tiny.checkpoint("vit")
    facade = OpenAIModel(tiny.model(held)).eval()
    tokens = tiny.tokens(held)
    before = facade.encode_text(tokens)
    facade.positional_embedding = torch.nn.Parameter(torch.zeros_like(facade.positional_embedding))
    facade.visual.proj = torch.nn.Parameter(torch.zeros_like(facade.visual.proj))
    assert facade.towers.text.positions is facade.positional_embedding
    assert not torch.allclose(facade.encode_text(tokens), before)
    assert not facade.encode_image(tiny.pixels(held)).any()


def test_moving_and_casting_go_through_to_the_towers() -> None:
    held = tiny.checkpoint("vit")
    facade = OpenAIModel(tiny.model(held)).eval().bfloat16()
    assert facade.dtype == torch.bfloat16
    assert facade.encode_image(tiny.pixels(held)).dtype == torch.bfloat16
    assert facade.encode_text(tiny.tokens(held)).dtype == torch.bfloat16
    facade.float().train()
    assert facade.towers.image.training
    assert facade.dtype == torch.float32


def test_the_mask_is_open_clips(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, _, _ = pair
    assert torch.equal(ours.attn_mask, theirs.attn_mask)


def test_a_mask_that_is_not_causal_is_refused() -> None:
    facade = OpenClipModel(tiny.model(tiny.checkpoint("vit")))
    x = torch.zeros(1, 4, facade.transformer.width)
    with pytest.raises(ShapeError, match="not the causal mask"):
        facade.transformer(x, attn_mask=torch.zeros(4, 4))


def test_what_scripts_ask_about_is_there(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, _, _ = pair
    for name in ("context_length", "vocab_size"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.visual.output_dim == theirs.visual.output_dim
    assert ours.visual.image_size == theirs.visual.image_size
    assert OpenAIModel(ours.towers).visual.input_resolution == ours.towers.config.image.image_size
    assert ours.transformer.width == theirs.transformer.width
    assert ours.logit_scale.exp() == theirs.logit_scale.exp()
    with pytest.raises(AttributeError, match="nonsense"):
        ours.nonsense  # noqa: B018
