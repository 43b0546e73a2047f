"""SD 1.x and 2.x: our conditioning equals `StableDiffusionPipeline.encode_prompt`."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.diffusion import pipelines
from tests.diffusion.parity import LONG, MANY, PROMPTS, SINGLE, check, cut, ours

FAMILIES = ["sd1", "sd2"]
ONE = ["a cat!", LONG]


def peer(family: str, prompt: Any, negative: Any = None, **options: Any) -> dict[str, Tensor]:
    count = options.pop("images_per_prompt", 1)
    with torch.no_grad(), pipelines.quiet():
        positive, none = pipelines.peer(family).encode_prompt(
            prompt, "cpu", count, True, negative_prompt=negative, **options
        )
    return {"tokens": positive, "negative.tokens": none}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt(family: str, name: str) -> None:
    check(ours(family)(PROMPTS[name]), peer(family, PROMPTS[name]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", SINGLE)
def test_any_negative(family: str, name: str) -> None:
    negative = PROMPTS[name]
    check(ours(family)("a cat", negative=negative), peer(family, "a cat", negative))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("negative", "clip_skip", "count"),
    [*product([None, "", "blurry! bad"], [None, 1, 2], [1, 2])],
)
def test_every_option_of_one_prompt(
    family: str, negative: str | None, clip_skip: int | None, count: int
) -> None:
    options: dict[str, Any] = {"clip_skip": clip_skip, "images_per_prompt": count}
    found = ours(family)("a cat!", negative=negative, **options)
    check(found, peer(family, "a cat!", negative, **options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("negative", "clip_skip", "count"),
    [*product([None, ["", "blurry", "x!"]], [None, 1, 2], [1, 2])],
)
def test_every_option_of_many_prompts(
    family: str, negative: list[str] | None, clip_skip: int | None, count: int
) -> None:
    options: dict[str, Any] = {"clip_skip": clip_skip, "images_per_prompt": count}
    found = ours(family)(MANY, negative=negative, **options)
    check(found, peer(family, MANY, negative, **options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("clip_skip", [None, 1])
def test_long_prompts_are_cut_there_and_the_loss_is_quoted(
    family: str, clip_skip: int | None
) -> None:
    negative = "b " * 75 + "the end"
    found = cut(
        lambda: ours(family)(LONG, negative=negative, clip_skip=clip_skip), "a fox", "the end"
    )
    check(found, peer(family, LONG, negative, clip_skip=clip_skip))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_token_above_the_room_is_lost(family: str) -> None:
    check(ours(family)("a " * 75), peer(family, "a " * 75))  # no warning: warnings are errors
    found = cut(lambda: ours(family)("a " * 75 + "last"), "last")
    check(found, peer(family, "a " * 75 + "last"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_pipeline_gives_the_same(family: str) -> None:
    found = ours(family, "folder")(MANY, negative="bad!", clip_skip=1)
    check(found, peer(family, MANY, ["bad!"] * 3, clip_skip=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_takes_our_keywords(family: str) -> None:
    pipe, found = pipelines.peer(family), ours(family)(MANY, negative="bad!")
    keywords = found.to_diffusers()
    pipe.check_inputs(None, 64, 64, None, **keywords)
    back = pipe.encode_prompt(None, "cpu", 1, True, **keywords)
    check(found, {"tokens": back[0], "negative.tokens": back[1]})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skipped_layer_changes_the_positive_alone(family: str) -> None:
    """As in diffusers; otherwise equal layers could explain the equal numbers above."""
    plain, skipped = ours(family)("a cat"), ours(family)("a cat", clip_skip=1)
    assert float((plain.tokens - skipped.tokens).abs().max()) > 0.1
    check(skipped, {"negative.tokens": plain.negative.tokens})
