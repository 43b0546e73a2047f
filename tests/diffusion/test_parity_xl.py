"""SDXL and its refiner: our conditioning equals their `encode_prompt`."""

import inspect
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion import ConditioningWarning
from ecliptic.diffusion.micro_conditioning import Sizes
from tests.diffusion import pipelines
from tests.diffusion.parity import LONG, MANY, PROMPTS, SINGLE, XL_FIELDS, check, cut, ours

BASES = ["sdxl", "sdxl-unforced"]
ROWS = [*BASES, "sdxl-refiner"]


def condition(row: str, prompt: Any, **options: Any) -> Any:
    """Our result; encoders alone have no pipeline config that says what None means."""
    if row == "sdxl-unforced":
        return ours("sdxl", row=row, force_zeros_for_empty_prompt=False)(prompt, **options)
    return ours(row)(prompt, **options)


def peer(row: str, prompt: Any, **options: Any) -> dict[str, Tensor]:
    names = {
        "negative": "negative_prompt",
        "negative_2": "negative_prompt_2",
        "images_per_prompt": "num_images_per_prompt",
    }
    given = {names.get(name, name): value for name, value in options.items()}
    with torch.no_grad(), pipelines.quiet():
        found = pipelines.peer(row).encode_prompt(prompt, device="cpu", **given)
    return dict(zip(XL_FIELDS, found, strict=True))


def same(row: str, prompt: Any, **options: Any) -> None:
    check(condition(row, prompt, **options), peer(row, prompt, **options))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt(row: str, name: str) -> None:
    same(row, PROMPTS[name])


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", SINGLE)
def test_any_negative(row: str, name: str) -> None:
    same(row, "a cat", negative=PROMPTS[name])


@pytest.mark.parametrize("row", BASES)
@pytest.mark.parametrize(
    ("prompt_2", "negative", "negative_2"),
    [*product([None, "", "in oil!"], [None, "", "blurry!"], [None, "", "x!"])],
)
def test_every_pair_of_wordings(
    row: str, prompt_2: str | None, negative: str | None, negative_2: str | None
) -> None:
    how = {"prompt_2": prompt_2, "negative": negative, "negative_2": negative_2}
    if row == "sdxl" and negative is None and negative_2 is not None:
        with pytest.warns(ConditioningWarning, match="negative_2 had no effect: without negative"):
            same(row, "a cat!", **how)
    else:
        same(row, "a cat!", **how)


def test_a_second_negative_alone_is_ignored_where_none_means_zeros() -> None:
    with pytest.warns(ConditioningWarning, match="negative_2 had no effect"):
        found = condition("sdxl", "a cat", negative_2="x")
    assert not found.negative.tokens.any()
    assert not found.negative.pooled.any()
    found = condition("sdxl-unforced", "a cat", negative_2="x")
    assert found.negative.tokens.any()
    assert found.negative.pooled.any()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("negative", "clip_skip", "count"), [*product([None, "bad!"], [None, 1, 2], [1, 2])]
)
def test_every_option_of_one_prompt(
    row: str, negative: str | None, clip_skip: int | None, count: int
) -> None:
    same(row, "a cat!", negative=negative, clip_skip=clip_skip, images_per_prompt=count)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("negative", "clip_skip", "count"),
    [*product([None, "bad!", ["", "blurry", "x!"]], [None, 1], [1, 2])],
)
def test_every_option_of_many_prompts(
    row: str, negative: Any, clip_skip: int | None, count: int
) -> None:
    same(row, MANY, negative=negative, clip_skip=clip_skip, images_per_prompt=count)


@pytest.mark.parametrize("row", BASES)
def test_many_prompts_in_two_wordings(row: str) -> None:
    wordings: dict[str, Any] = {"prompt_2": ["in oil", "!", "x"], "negative": ["a", "", "b!"]}
    same(row, MANY, **wordings, negative_2=["", "c", "d!"])


@pytest.mark.parametrize("row", ROWS)
def test_long_prompts_are_cut_there_and_the_loss_is_quoted(row: str) -> None:
    options: dict[str, Any] = {"negative": "b " * 75 + "the end"}
    lost = ["a fox", "the end"]
    if row in BASES:
        options["prompt_2"] = "c " * 75 + "also lost"
        lost.append("also lost")
    found = cut(lambda: condition(row, LONG, **options), *lost)
    check(found, peer(row, LONG, **options))


@pytest.mark.parametrize("row", ROWS)
def test_a_saved_pipeline_gives_the_same_and_says_what_none_stands_for(row: str) -> None:
    family = "sdxl" if row in BASES else row
    for negative in (None, "bad!"):
        found = ours(family, "folder", row)(MANY, negative=negative)
        check(found, peer(row, MANY, negative=negative))


@pytest.mark.parametrize("row", ROWS)
def test_the_pipeline_takes_our_keywords(row: str) -> None:
    pipe, found = pipelines.peer(row), condition(row, MANY, negative="bad!")
    embeds = found.to_diffusers()
    call = inspect.signature(type(pipe).__call__).parameters
    assert set(embeds) <= set(call)
    if row in BASES:  # the refiner's own check does not know pooled vectors
        pipe.check_inputs(None, None, 64, 64, None, **embeds)
    back = pipe.encode_prompt(None, device="cpu", **embeds)
    check(found, dict(zip(XL_FIELDS, back, strict=True)))


def test_the_pooled_vector_reads_the_last_layer_whatever_is_skipped() -> None:
    plain, skipped = condition("sdxl", "a cat"), condition("sdxl", "a cat", clip_skip=1)
    check(skipped, {"pooled": plain.pooled})
    assert float((plain.tokens - skipped.tokens).abs().max()) > 0.1


@pytest.mark.parametrize("row", ROWS)
def test_an_exclamation_mark_is_padding_in_diffusers_alone(row: str) -> None:
    """Otherwise the prompts above could be some that all tools read in the same way."""
    theirs, others = condition(row, "a cat!"), condition(row, "a cat!", compat="comfyui")
    assert float((theirs.tokens - others.tokens).abs().max()) > 0.1


@pytest.mark.parametrize("row", ["sdxl", "sdxl-refiner"])
def test_sizes_stand_beside_both_prompts(row: str) -> None:
    sizes = Sizes((600, 900), (1, 2), (768, 1152), aesthetic=7.0)
    idle = {"sdxl": "aesthetic", "sdxl-refiner": "target"}[row]
    with pytest.warns(ConditioningWarning, match=f"^{idle} of sizes had no effect"):
        found = ours(row)(["a", "b"], sizes=sizes, images_per_prompt=2)
    last = {"sdxl": ([768, 1152], [768, 1152]), "sdxl-refiner": ([7.0], [2.5])}[row]
    for side, end in zip((found, found.negative), last, strict=True):
        assert side.size_ids.tolist() == [[600, 900, 1, 2, *end]] * 4


@pytest.mark.parametrize(("precision", "relative"), [("bf16", 0.03), ("fp16", 0.004)])
def test_half_precision_gives_tensors_of_the_encoders_dtype(
    precision: str, relative: float
) -> None:
    found = ours("sdxl", precision=precision)("a cat!", negative="bad!")
    exact = peer("sdxl", "a cat!", negative="bad!")
    for name, tensor in found.tensors().items():
        if name.endswith("size_ids"):
            continue
        assert tensor.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        difference = float((tensor.float() - exact[name]).abs().max())
        assert 0 < difference <= relative * float(exact[name].abs().max()), name
