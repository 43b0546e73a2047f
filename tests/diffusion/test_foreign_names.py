"""Names of arguments that are not ours are answered with what to write instead."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ecliptic.diffusion import Conditioner, conditioner
from ecliptic.diffusion.foreign_names import ANSWERS, answer, names_of
from ecliptic.diffusion.options import Options
from ecliptic.diffusion.recognition.pipeline_arguments import OF_PIPELINES
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


@cache
def diffusers() -> Path:
    found = find_spec("diffusers")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def names_of_pipelines() -> Iterator[str]:
    """The arguments of all pipelines, read from their source: some cannot be imported."""
    methods = {"__init__", "__call__", "encode_prompt"}
    for file in sorted(diffusers().glob("pipelines/**/pipeline_*.py")):
        classes = [one for one in ast.parse(file.read_text()).body if isinstance(one, ast.ClassDef)]
        for one in classes:
            for method in one.body if "Pipeline" in one.name else ():
                if isinstance(method, ast.FunctionDef) and method.name in methods:
                    given = method.args
                    yield from (each.arg for each in (*given.args[1:], *given.kwonlyargs))
    for file in ("pipelines/pipeline_utils.py", "loaders/single_file.py"):
        yield from re.findall(r'kwargs\.pop\("(\w+)"', (diffusers() / file).read_text())


def test_every_argument_of_diffusers_pipelines_is_known() -> None:
    ours = {*names_of(Conditioner.__call__), *names_of(conditioner), *Options.__annotations__}
    found = set(names_of_pipelines())
    assert len(found) > 500
    known = ours | {"prompt"}
    assert sorted(one for one in found - ours if answer(one, known).startswith("unknown")) == []


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_answer_names_only_arguments_that_are_there(name: str) -> None:
    ours = {*names_of(Conditioner.__call__), *names_of(conditioner), *Options.__annotations__}
    for named in re.findall(r"(?<!_)\b(\w+)=", ANSWERS[name]):
        assert named in ours
    assert name not in names_of(Conditioner.__call__)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((name, "belongs to the pipeline") for name in ("callback", "callback_on_step_end")),
        *((name, "belongs to the pipeline") for name in ("pag_scale", "fps", "motion_scale")),
        *((name, "belongs to the pipeline") for name in ("attention_kwargs", "motion_bucket_id")),
        ("negative_prompt_embeds_2", "is what a call makes"),
        ("prompt_attention_mask", "is what a call makes"),
        ("num_videos_per_prompt", "is images_per_prompt= here"),
        ("neg_prompt", "is negative= here"),
        ("device", "is chosen when the conditioner is made"),
        ("ip_adapter_image", "is images= here"),
    ],
)
def test_names_of_video_and_older_pipelines_are_answered(name: str, words: str) -> None:
    given: Any = {name: "x"}
    with pytest.raises(ConfigError, match=words):
        make()("a cat", **given)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cache_dir", "HF_HOME"),
        ("revision", "download"),
        ("token", "HF_TOKEN"),
        ("use_safetensors", "is not needed"),
        ("safety_checker", "belongs to the pipeline"),
        ("tokenizer_4", "belongs to the pipeline"),
    ],
)
def test_names_of_from_pretrained_are_answered(name: str, words: str) -> None:
    given: Any = {name: "x"}
    with pytest.raises(ConfigError, match=words):
        conditioner("sdxl", pipelines.encoders("sdxl"), **given)
