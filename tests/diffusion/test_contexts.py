"""Encoders of different contexts side by side: LongCLIP's 248 tokens beside bigG's 77."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion import Conditioner, conditioner
from tests.diffusion import pipelines
from tests.diffusion.parity import cut

SHORT, LONG = "a cat on a mat", "a cat and a dog on a mat , " * 12  # 108 tokens


@cache
def make(family: str = "sdxl") -> Conditioner:
    encoders = [pipelines.encoder("l-long"), pipelines.encoder("g")]
    return conditioner(family, encoders, any_size=True, t5=False)


def theirs(kind: str, *texts: str) -> Tensor:
    """(T, D) hidden layer -2 of the texts in transformers, one after the other."""
    tokenizer, model = pipelines.tokenizer(kind), pipelines.text_model(kind)
    context = {"l-long": 248}.get(kind, 77)
    with torch.no_grad():
        ids = tokenizer(
            list(texts), padding="max_length", max_length=context, return_tensors="pt"
        ).input_ids
        assert ids.shape[1] == context
        found: Tensor = model(ids, output_hidden_states=True).hidden_states[-2]
    return found.flatten(0, 1)


def same(found: Tensor | None, *wanted: Tensor) -> None:
    """Each encoder's channels equal what is `wanted`, cut to the common length."""
    assert found is not None
    joined = torch.cat([one[: found.shape[1]] for one in wanted], dim=-1)
    torch.testing.assert_close(found[0], joined, atol=2e-5, rtol=0)


def test_the_shorter_is_lengthened_with_the_empty_prompt_and_cut() -> None:
    found = make()(SHORT, negative="bad")
    assert found.tokens is not None
    assert found.tokens.shape[1] == 248
    same(found.tokens, theirs("l-long", SHORT), theirs("g", SHORT, "", "", ""))
    assert found.negative is not None
    same(found.negative.tokens, theirs("l-long", "bad"), theirs("g", "bad", "", "", ""))
    same(make().each([SHORT])[0].tokens, theirs("l-long", SHORT), theirs("g", SHORT, "", "", ""))


def test_each_encoder_reads_chunks_of_its_own_context() -> None:
    first = "a cat and a dog on a mat , " * 8  # 72 tokens, then a cut at 75
    found = make()(LONG, long="compel-brutal")
    chunks = (first + "a cat and", "a dog on a mat , " + "a cat and a dog on a mat , " * 3, "", "")
    same(found.tokens, theirs("l-long", LONG), theirs("g", *chunks))


def test_a_long_prompt_beside_a_short_one_is_whole_chunks_for_the_shorter_context() -> None:
    many = "a cat and a dog on a mat , " * 40  # 360 tokens: 5 chunks of 75, 2 of 246
    found = make()([many, SHORT], long="compel-brutal", compat="kohya")
    assert found.tokens is not None
    assert found.tokens.shape[1] == 2 * 248
    wanted = theirs("l-long", SHORT, ""), theirs("g", SHORT, *[""] * 6)
    same(found.tokens[1:], *wanted)


def test_words_that_only_the_longer_context_reads_are_named() -> None:
    found = cut(lambda: make()(LONG), "on a mat")
    assert found.tokens.shape[1] == 248
    assert {row.encoder for row in found.ledger.dropped} == {"clip_g"}


@pytest.mark.parametrize("compat", ["diffusers", "a1111", "comfyui", "kohya"])
@pytest.mark.parametrize("long", ["truncate", "a1111", "comfyui", "compel", "kohya", "lpw"])
def test_every_layout_gives_both_sides_one_length(compat: str, long: Any) -> None:
    how: Any = {"long": long, "compat": compat}
    if compat == "comfyui" and long != "truncate":
        pytest.skip("repeating needs a common multiple, and says so")
    if long == "truncate":
        found = cut(lambda: make()([LONG, SHORT], negative="bad", **how), "mat")
    else:
        found = make()([LONG, SHORT], negative="bad", **how)
    assert found.negative is not None
    assert found.tokens.shape == found.negative.tokens.shape
    assert bool(found.tokens.isfinite().all())


def test_sd3_too_joins_two_contexts() -> None:
    found = make("sd3")(SHORT)
    assert found.tokens is not None
    assert found.tokens.shape[1] == 248 + 256
