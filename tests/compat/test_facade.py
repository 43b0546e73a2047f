import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.compat import clip, open_clip
from ecliptic.errors import ConfigError, ShapeError, WeightsMismatchError
from tests import tiny
from tests.compat.twins import twin

KINDS = ["vit", "resnet"]


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=tolerance)


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any, Tensor, Tensor]:
    """(our open_clip facade, open_clip's model, pixels, tokens) on the same weights."""
    held = tiny.checkpoint(request.param)
    ours = open_clip.CLIP(copy.deepcopy(tiny.model(held))).eval()  # tests may change its weights
    return ours, twin(held), tiny.pixels(held), tiny.tokens(held)


def test_both_facades_give_open_clips_vectors(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, pixels, tokens = pair
    old = clip.model.CLIP.of(ours.towers).eval()
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
    per_image, per_text = clip.model.CLIP.of(ours.towers).eval()(pixels, tokens)
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
    model = clip.model.CLIP.of(ours.towers).eval()
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
    close(script(open_clip.CLIP(towers).visual, tokens_first=False), wanted)
    close(script(clip.model.CLIP.of(towers).visual, tokens_first=True), wanted)


def test_stages_of_a_resnet_have_their_old_names() -> None:
    held = tiny.checkpoint("resnet")
    visual, theirs = clip.model.CLIP.of(tiny.model(held)).eval().visual, twin(held).visual
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
    wrapped = torch.nn.ModuleDict({"module": clip.model.CLIP.of(tiny.model(held))})
    assert "module.visual.proj" in wrapped.state_dict()


def test_strict_loading_complains_of_unknown_names() -> None:
    facade = clip.model.CLIP.of(tiny.model(tiny.checkpoint("vit")))
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
    facade = clip.model.CLIP.of(tiny.model(held)).eval()
    tokens = tiny.tokens(held)
    before = facade.encode_text(tokens)
    facade.positional_embedding = torch.nn.Parameter(torch.zeros_like(facade.positional_embedding))
    facade.visual.proj = torch.nn.Parameter(torch.zeros_like(facade.visual.proj))
    assert facade.towers.text.positions is facade.positional_embedding
    assert not torch.allclose(facade.encode_text(tokens), before)
    assert not facade.encode_image(tiny.pixels(held)).any()


def test_moving_and_casting_go_through_to_the_towers() -> None:
    held = tiny.checkpoint("vit")
    facade = clip.model.CLIP.of(tiny.model(held)).eval().bfloat16()
    assert facade.dtype == torch.bfloat16
    assert facade.encode_image(tiny.pixels(held)).dtype == torch.bfloat16
    assert facade.encode_text(tiny.tokens(held)).dtype == torch.bfloat16
    facade.float().train()
    assert facade.towers.image.training
    assert facade.dtype == torch.float32


def test_the_mask_is_open_clips(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, _, _ = pair
    assert torch.equal(ours.attn_mask, theirs.attn_mask)


def test_any_attention_mask_is_honoured(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, _, tokens = pair
    x, T = ours.token_embedding(tokens), tokens.shape[1]
    for mask in (torch.randn(T, T), torch.ones(T, T, dtype=torch.bool).triu(5), None):
        close(ours.transformer(x, attn_mask=mask), theirs.transformer(x, attn_mask=mask))


def test_the_towers_follow_whatever_still_fits_them() -> None:
    held = tiny.checkpoint("vit")
    model = open_clip.CLIP(tiny.model(held))
    model.load_state_dict({name: 2 * t for name, t in model.state_dict().items()}, assign=True)
    model.visual.proj.requires_grad_(False)
    close(model.towers.encode_image(tiny.pixels(held)), model.encode_image(tiny.pixels(held)))
    assert model.towers.image.projection is model.visual.proj
    assert not model.visual.proj.requires_grad
    assert model.ln_final.weight.requires_grad
    copied = copy.deepcopy(model)
    assert copied.towers.text.positions is copied.positional_embedding
    assert copied.positional_embedding is not model.positional_embedding


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: setattr(m.visual, "proj", None), "image.projection"),
        (lambda m: setattr(m, "transformer", torch.nn.Identity()), "text.blocks.0"),
        (lambda m: setattr(m.transformer, "resblocks", m.transformer.resblocks[:-1]), "text.bl"),
        (lambda m: setattr(m, "head", torch.nn.Linear(2, 2)), "head.weight"),
        (
            lambda m: setattr(m, "positional_embedding", torch.nn.Parameter(torch.zeros(9, 64))),
            "text.positions",
        ),
    ],
)
def test_a_model_that_was_cut_or_extended_has_no_native_towers(change: Any, named: str) -> None:
    model = open_clip.CLIP(tiny.model(tiny.checkpoint("vit")))
    change(model)
    with pytest.raises(WeightsMismatchError, match=f"added, removed or resized.*{named}"):
        model.towers  # noqa: B018


def test_settings_that_nothing_would_read_are_refused() -> None:
    model = open_clip.CLIP(tiny.model(tiny.checkpoint("vit")))
    for part, name, value in (
        (model, "text_pool_type", "last"),
        (model.visual, "attn_pool", torch.nn.Identity()),
        (model.visual, "final_ln_after_pool", True),
        (model.transformer, "batch_first", False),
    ):
        usual = getattr(part, name)
        setattr(part, name, usual)
        with pytest.raises(ConfigError, match=f"{name} is always {usual!r}"):
            setattr(part, name, value)
    for name, value in (("towers", tiny.model(tiny.checkpoint("vit"))), ("dtype", torch.half)):
        with pytest.raises(ConfigError, match=f"{name} is computed"):
            setattr(model, name, value)
    model.visual.pool_type = "max"
    with pytest.raises(ConfigError, match="'tok', 'avg' or 'none'"):
        model.encode_image(tiny.pixels(tiny.checkpoint("vit")))


def test_what_a_resnet_cannot_do_is_refused() -> None:
    model = open_clip.CLIP(tiny.model(tiny.checkpoint("resnet")))
    with pytest.raises(ConfigError, match="output_tokens is always False"):
        model.visual.output_tokens = True
    with pytest.raises(ConfigError, match="cannot be locked in part"):
        model.lock_image_tower(unlocked_groups=1)
    with pytest.raises(ConfigError, match="freeze_layer_norm=False"):
        model.lock_text_tower(freeze_layer_norm=False)


def test_a_bias_of_the_logits_is_honoured(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, pixels, tokens = pair
    for model in (ours, theirs):
        model.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    close(ours.get_logits(pixels, tokens)[0], theirs.get_logits(pixels, tokens)[0])
    for found, wanted in zip(ours(pixels, tokens), theirs(pixels, tokens), strict=True):
        close(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_another_size_are_refused_kindly(kind: str) -> None:
    held = tiny.checkpoint(kind)
    for model in (clip.model.CLIP.of(tiny.model(held)), open_clip.CLIP(tiny.model(held))):
        with pytest.raises(ShapeError, match="interpolate `positional_embedding`"):
            model.encode_image(torch.zeros(1, 3, 96, 96))


def test_unusual_sizes_have_facades_too() -> None:
    held = tiny.checkpoint("odd")
    towers, pixels, tokens = tiny.model(held), tiny.pixels(held), tiny.tokens(held)
    for model in (clip.model.CLIP.of(towers), open_clip.CLIP(towers)):
        close(model.encode_image(pixels), towers.encode_image(pixels))
        close(model.encode_text(tokens), towers.encode_text(tokens))


def test_texts_shorter_than_the_context_are_encoded() -> None:
    held = tiny.checkpoint("vit")
    towers, tokens = tiny.model(held), tiny.tokens(held)[:2, :9]
    for model in (clip.model.CLIP.of(towers), open_clip.CLIP(towers)):
        close(model.encode_text(tokens), towers.encode_text(tokens))


LONGEST = 8  # tokens of the longest of the two texts below, in a context of more


def _patch_block(model: Any) -> None:
    block = model.transformer.resblocks[0]
    block.forward = block.forward


def _see_everything(model: Any) -> None:
    for module in (model, *model.transformer.resblocks):
        if hasattr(module, "attn_mask"):
            module.attn_mask = torch.zeros_like(module.attn_mask)


CHANGES: dict[str, Any] = {
    "a forward hook": lambda m: m.transformer.resblocks[0].register_forward_hook(lambda *_: None),
    "a hook of the norm": lambda m: m.ln_final.register_forward_pre_hook(lambda *_: None),
    "a backward hook": lambda m: m.transformer.register_full_backward_hook(lambda *_: None),
    "a function": _patch_block,
    "another part": lambda m: setattr(m.transformer.resblocks[0], "ln_1", torch.nn.Identity()),
    "a missing block": lambda m: setattr(m.transformer, "resblocks", m.transformer.resblocks[:1]),
    "another mask": _see_everything,
}


@pytest.mark.parametrize("make", [clip.model.CLIP.of, open_clip.CLIP], ids=["clip", "open_clip"])
@pytest.mark.parametrize("change", CHANGES)
def test_padding_is_left_out_until_something_changes(make: Any, change: str) -> None:
    held = tiny.checkpoint("vit")
    towers, tokens = copy.deepcopy(tiny.model(held)), torch.zeros(2, 16, dtype=torch.long)
    tokens[:, 0], tokens[0, 3] = 1, held.config.text.end_of_text
    tokens[1, LONGEST - 1] = held.config.text.end_of_text
    model, seen = make(towers).eval(), []
    read = torch.nn.functional.layer_norm

    def record(x: Tensor, *more: Any) -> Tensor:
        seen.append(max(x.shape[:2]))
        return read(x, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "layer_norm", record)
        close(model.encode_text(tokens), towers.encode_text(tokens))
        assert LONGEST in seen
        seen.clear()
        CHANGES[change](model)
        model.encode_text(tokens)
        assert 16 in seen


def test_a_copy_and_a_cast_model_leave_padding_out_too() -> None:
    model = open_clip.CLIP(copy.deepcopy(tiny.model(tiny.checkpoint("vit"))))
    for one in (model, copy.deepcopy(model), copy.deepcopy(model).half(), model.train()):
        assert one._is_as_made()


def test_what_scripts_ask_about_is_there(pair: tuple[Any, Any, Tensor, Tensor]) -> None:
    ours, theirs, _, _ = pair
    for name in ("context_length", "vocab_size"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.visual.output_dim == theirs.visual.output_dim
    assert ours.visual.image_size == theirs.visual.image_size
    old = clip.model.CLIP.of(ours.towers)
    assert old.visual.input_resolution == ours.towers.config.image.image_size
    assert ours.transformer.width == theirs.transformer.width
    assert ours.logit_scale.exp() == theirs.logit_scale.exp()
    with pytest.raises(AttributeError, match="nonsense"):
        ours.nonsense  # noqa: B018
