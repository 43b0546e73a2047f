"""Prompts through a conditioner: options, behaviours of tools, lengths, errors."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion import (
    BEHAVIOURS,
    FAMILIES,
    Conditioner,
    ConditioningWarning,
    conditioner,
    skip_names,
)
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.inputs import TruncationWarning
from tests.diffusion import pipelines
from tests.diffusion.test_text_encoder import PIXEL, draw, theirs

LONG = "a cat and a dog on a mat, " * 20  # three chunks of 75 tokens
FAMILY_NAMES = [name for name, row in FAMILIES.items() if row.encoders]


@cache
def make(family: str) -> Conditioner:
    """A tiny conditioner; do not change it, it is shared."""
    encoders = pipelines.encoders(family)
    return conditioner(family, encoders=encoders, any_size=True, t5=False)


def same(found: Tensor | None, wanted: Tensor | None) -> None:
    assert found is not None
    assert wanted is not None
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


# --- what is returned --------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the weights of words had no effect")
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_batch_equals_its_prompts_alone(family: str) -> None:
    prompts = ["a (red:1.3) fox", "", "a [dog] in (snow:0.6)"]
    batch = make(family)(prompts, negative="blurry", dialect="a1111")
    for row, prompt in enumerate(prompts):
        alone = make(family)(prompt, negative="blurry", dialect="a1111")
        assert batch.tensors().keys() == alone.tensors().keys()
        for name, tensor in alone.tensors().items():
            torch.testing.assert_close(
                batch.tensors()[name][row : row + 1], tensor, atol=2e-5, rtol=0
            )


def test_each_gives_every_prompt_its_own_length() -> None:
    short, long = make("sdxl").each(["a cat", LONG], long="chunk")
    assert short.tokens is not None
    assert short.tokens.shape[1] == 77
    assert long.tokens is not None
    assert long.tokens.shape[1] == 3 * 77
    same(short.tokens, make("sdxl")("a cat").tokens)
    same(long.pooled, make("sdxl")(LONG, long="chunk").pooled)
    assert {row.prompt for row in long.ledger.rows} == {0}
    assert not long.ledger.dropped


def test_each_refuses_what_has_several_sets_of_tensors() -> None:
    with pytest.raises(ConfigError, match="more than one set of tensors"):
        make("sd1").each(["a [cat:dog:0.5]"], dialect="a1111", steps=10)


def test_a_weight_of_one_changes_nothing() -> None:
    for dialect, text in (("a1111", "a (red:1.0) fox"), ("comfyui", "a (red:1.0) fox")):
        same(make("sd1")(text, dialect=dialect).tokens, make("sd1")("a red fox").tokens)


def test_the_pooled_vector_is_of_the_words_without_their_weights() -> None:
    weighted = make("sdxl")("a (red:1.7) fox", dialect="a1111")
    same(weighted.pooled, make("sdxl")("a red fox").pooled)
    assert weighted.tokens is not None
    assert not torch.allclose(weighted.tokens, make("sdxl")("a red fox").tokens, atol=1e-3)


def test_a_gradient_reaches_the_weights_only_when_asked_for() -> None:
    fresh = conditioner("sdxl", encoders=pipelines.encoders("sdxl"), any_size=True)
    plain = fresh("a (red:1.3) fox", dialect="a1111")
    assert plain.tokens is not None
    assert not plain.tokens.requires_grad
    kept = fresh("a (red:1.3) fox", dialect="a1111", grad=True)
    assert kept.tokens is not None
    same(kept.tokens.detach(), plain.tokens)
    kept.tokens.square().sum().backward()
    for encoder in fresh.encoders:
        gradient = encoder.tower.positions.grad
        assert gradient is not None
        assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_pipeline_paints_the_same_image_from_our_tensors(family: str) -> None:
    """On a tiny random UNet and VAE, given `to_diffusers()` instead of the prompt."""
    pipe = theirs(family)
    ours = make(family)("a cat on a mat", negative="blurry").to_diffusers()
    wanted = draw(pipe, negative_prompt="blurry", guidance_scale=5.0)
    found = draw(pipe, None, guidance_scale=5.0, **ours)  # type: ignore[arg-type]
    assert abs(found - wanted).max() <= PIXEL


# --- lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compat", "long", "tail"),
    [
        ("a1111", "a1111", "last"),
        ("diffusers", "a1111", "last"),
        ("comfyui", "comfyui", "whole"),
        ("diffusers", "comfyui", "whole"),
        ("diffusers", "compel", "empty"),
        ("kohya", "a1111", "empty"),
    ],
)
def test_the_shorter_side_becomes_as_long_by_each_tools_rule(
    compat: str, long: Any, tail: str
) -> None:
    found = make("sd1")(LONG, negative="blurry", compat=compat, long=long)
    short = make("sd1")("blurry", compat=compat).tokens
    empty = make("sd1")("", compat=compat).tokens
    assert found.tokens is not None
    assert found.negative is not None
    assert short is not None
    assert found.tokens.shape[1] % 77 == 0
    assert found.tokens.shape[1] > 77
    negative = found.negative.tokens
    assert negative is not None
    assert negative.shape[:2] == found.tokens.shape[:2]
    more = negative.shape[1] - 77
    filled = {
        "last": short[:, -1:].expand(-1, more, -1),
        "whole": short.repeat(1, more // 77, 1),
        "empty": None if empty is None else empty.repeat(1, more // 77, 1),
    }
    same(negative, torch.cat([short, filled[tail]], dim=1))  # type: ignore[list-item]


def test_kohyas_layout_shares_start_and_end() -> None:
    found = make("sd1")(LONG, negative="blurry", compat="kohya", long="kohya")
    assert found.tokens is not None
    assert found.negative is not None
    assert found.tokens.shape[1] == 3 * 75 + 2
    assert found.negative.tokens is not None
    assert found.negative.tokens.shape == found.tokens.shape


def test_encoders_of_different_wording_are_levelled_with_empty_chunks() -> None:
    found = make("sdxl")(LONG, prompt_2="a cat", long="chunk").tokens
    short, empty = make("sdxl")("a cat").tokens, make("sdxl")("").tokens
    assert found is not None
    assert short is not None
    assert empty is not None
    width = make("sdxl").encoders[0].width
    assert found.shape[1] == 3 * 77
    same(found[:, :77, width:], short[..., width:])
    same(found[:, 77:154, width:], empty[..., width:])


def test_what_is_cut_is_quoted_for_both_sides() -> None:
    with pytest.warns(TruncationWarning, match="loses 'a dog on a mat") as caught:
        found = make("sdxl")(LONG, negative=LONG.replace("cat", "bird"))
    assert "bird" in str(caught[0].message)
    assert found.ledger.dropped
    assert found.negative is not None
    assert found.negative.ledger.dropped


# --- where tools disagree ----------------------------------------------------------------------


def test_no_negative_of_sdxl_is_what_each_tool_makes_of_it() -> None:
    encoded = make("sdxl")("x", negative="").negative
    assert encoded is not None
    for compat in BEHAVIOURS:
        for negative in (None, ""):
            found = make("sdxl")("x", negative=negative, compat=compat).negative
            assert found is not None
            assert found.tokens is not None
            assert found.pooled is not None
            zeros = compat == "a1111" or (compat == "diffusers" and negative is None)
            assert bool((found.tokens == 0).all()) == bool((found.pooled == 0).all()) == zeros
            if not zeros:
                same(found.tokens, encoded.tokens)


def test_force_zeros_can_be_passed_and_comes_from_the_pipeline() -> None:
    own = {"encoders": pipelines.encoders("sdxl"), "any_size": True}
    found = conditioner("sdxl", **own, force_zeros_for_empty_prompt=False)("x").negative
    assert found is not None
    assert found.tokens is not None
    assert bool((found.tokens != 0).any())
    folder = pipelines.folder("sdxl")
    for given in (folder, [folder]):
        made = conditioner("sdxl", encoders=given, any_size=True)
        assert made.force_zeros_for_empty_prompt


def test_clip_skip_moves_negatives_only_where_the_tool_moves_them() -> None:
    kept, moved = make("sd1")("x", clip_skip=1), make("sd1")("x", clip_skip=1, compat="a1111")
    plain = make("sd1")("x")
    assert kept.negative is not None
    assert moved.negative is not None
    assert plain.negative is not None
    same(kept.tokens, moved.tokens)
    same(kept.negative.tokens, plain.negative.tokens)
    same(moved.negative.tokens, make("sd1")("", clip_skip=1).tokens)


def test_a_tool_that_ignores_clip_skip_says_so() -> None:
    with pytest.warns(ConditioningWarning, match="a1111 ignores clip skip on Stable Diffusion XL"):
        found = make("sdxl")("x", clip_skip=1, compat="a1111")
    same(found.tokens, make("sdxl")("x").tokens)


def test_one_number_of_skipped_layers_has_the_names_of_all_tools() -> None:
    for k in (None, 1, 2):
        names = skip_names(k)
        assert names.diffusers == k
        assert names.a1111 == (k or 0) + 1 == -names.comfyui
        assert names.invokeai == (k or 0)
    assert skip_names(0).diffusers is None


@pytest.mark.parametrize(
    ("clip_skip", "message"),
    [(9, "at most 4"), (5, "has 5 layers"), (-1, "from 0"), (1.0, "from 0")],
)
def test_clip_skip_that_leads_nowhere_is_refused(clip_skip: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("sd1")("x", clip_skip=clip_skip)


def test_an_exclamation_mark_is_padding_in_diffusers_alone() -> None:
    ids = {
        compat: [r.id for r in make("sd2")("a cat!", compat=compat).ledger.rows]
        for compat in BEHAVIOURS
    }
    assert ids.pop("diffusers") == [320, 2368, 0]
    assert set(map(tuple, ids.values())) == {(320, 2368, 256)}


@pytest.mark.parametrize(
    ("compat", "tokens"), [("diffusers", 256), ("kohya", 77), ("a1111", 77), ("comfyui", 0)]
)
def test_sd3_without_t5_has_the_zeros_of_each_tool(compat: str, tokens: int) -> None:
    found = make("sd3")("a cat", compat=compat).tokens
    assert found is not None
    assert found.shape[1:] == (77 + tokens, 4096)
    assert not bool(found[:, 77:].any())
    width = sum(encoder.width for encoder in make("sd3").encoders)
    assert bool(found[:, :77, :width].all())
    assert not bool(found[:, :77, width:].any())


def test_t5_without_its_negative_is_said() -> None:
    t5 = torch.randn(1, 5, 112)
    with pytest.warns(ConditioningWarning, match="negative_t5"):
        found = make("sd3")("a cat", t5=t5)
    assert found.tokens is not None
    same(found.tokens[:, 77:], t5)
    with pytest.raises(ConfigError, match="Stable Diffusion XL base does not use T5"):
        make("sdxl")("a cat", t5=t5)
    with pytest.raises(ShapeError, match="for 2 prompt"):
        make("sd3")(["a", "b"], t5=torch.randn(3, 5, 112))


def test_batch_companions_matter_only_in_a1111() -> None:
    prompts = ["a (red:1.8) fox", "an (old:0.3) house with (blue:1.4) doors"]
    for compat in BEHAVIOURS:
        batch = make("sd1")(prompts, dialect="a1111", compat=compat).tokens
        alone = make("sd1")(prompts[0], dialect="a1111", compat=compat).tokens
        assert batch is not None
        assert alone is not None
        alike = torch.allclose(batch[:1], alone, atol=2e-5)
        assert alike == (compat != "a1111")
    whole, plain = make("sd1")(prompts, dialect="a1111", compat="a1111").tokens, []
    for text in ("a red fox", "an old house with blue doors"):
        plain.append(make("sd1")(text).tokens)
    assert whole is not None
    same(whole.mean(), torch.cat(plain).mean())  # type: ignore[arg-type]


def test_comfyui_gives_float32_whatever_it_computes_in() -> None:
    half = conditioner("sd1", encoders=pipelines.encoders("sd1"), any_size=True, precision="bf16")
    kept, widened = half("x").tokens, half("x", compat="comfyui").tokens
    assert kept is not None
    assert kept.dtype == torch.bfloat16
    assert widened is not None
    assert widened.dtype == torch.float32
