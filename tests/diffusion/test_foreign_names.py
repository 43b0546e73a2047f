"""Names of arguments that are not ours are answered with what to write instead."""

from functools import cache
from typing import Any

import pytest

from ecliptic.diffusion import Conditioner, conditioner
from ecliptic.diffusion.foreign_names import ANSWERS, OF_PIPELINES
from ecliptic.errors import ConfigError
from tests.diffusion import pipelines


@cache
def make() -> Conditioner:
    return conditioner("sdxl", pipelines.encoders("sdxl"), any_size=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negative_prompt", "negative_prompt is negative= here"),
        ("negative_prompt_2", "is negative_2= here"),
        ("num_images_per_prompt", "is images_per_prompt= here"),
        ("num_inference_steps", "is steps= here"),
        ("original_size", r"is sizes=Sizes\(...\) here"),
        ("prompt_embeds", r"is what a call makes; .* to_diffusers\(\)"),
        ("guidance_scale", "belongs to the pipeline, not to the conditioner; pass it there"),
        ("guidance_rescale", "belongs to the pipeline"),
        ("height", "belongs to the pipeline"),
        ("negativ", "did you mean 'negative'"),
        ("promt_2", "did you mean 'prompt_2'"),
        ("dialekt", "did you mean 'dialect'"),
    ],
)
def test_an_argument_of_a_call_is_answered(name: str, message: str) -> None:
    given: Any = {name: "x"}
    with pytest.raises(ConfigError, match=message):
        make()("a cat", **given)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch_dtype", "torch_dtype is precision= here"),
        ("tokenizer", "is read with its encoder"),
        ("text_encoder", "is encoders= here"),
        ("text_encoder_3", "is t5= here"),
        ("local_files_only", "is offline= here"),
        ("variant", "belongs to the pipeline"),
        ("force_zeros", "is force_zeros_for_empty_prompt= here"),
        ("any_sise", "did you mean 'any_size'"),
    ],
)
def test_an_argument_of_the_constructor_is_answered(name: str, message: str) -> None:
    given: Any = {name: "x"}
    with pytest.raises(ConfigError, match=message):
        conditioner("sdxl", pipelines.encoders("sdxl"), **given)


def test_zeros_for_the_empty_prompt_are_a_choice() -> None:
    with pytest.raises(ConfigError, match="force_zeros_for_empty_prompt must be True, False or N"):
        conditioner("sdxl", "nowhere", force_zeros_for_empty_prompt="no")  # type: ignore[arg-type]


def test_no_name_is_in_both_lists() -> None:
    assert not OF_PIPELINES & ANSWERS.keys()
