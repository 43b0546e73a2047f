"""Size ids and their sinusoids equal those of diffusers' pipelines and UNet."""

import inspect
import math
from importlib import import_module
from typing import Any

import pytest
import torch

from ecliptic.diffusion.micro_conditioning import (
    AESTHETIC,
    Sizes,
    sinusoid,
    size_ids,
    vector_y,
    video_ids,
)
from ecliptic.errors import ConfigError, ShapeError
from tests import peers
from tests.diffusion import pipelines

SIZES = [
    ((1024, 1024), (0, 0), (1024, 1024)),
    ((600, 900), (12, 34), (768, 1152)),
    ((1, 2), (3, 4), (5, 6)),
]


@pytest.mark.parametrize(("original", "crop", "target"), SIZES)
def test_base_sizes_equal_the_pipelines_height_first(original: Any, crop: Any, target: Any) -> None:
    width = pipelines.ENCODERS["g"].config.embed
    with pipelines.with_unet("sdxl", pipelines.xl_unet(6)) as pipe:
        wanted = pipe._get_add_time_ids(original, crop, target, torch.float32, width)
    assert torch.equal(size_ids("sdxl", original, crop, target), wanted)


@pytest.mark.parametrize(("original", "crop", "target"), SIZES)
def test_refiner_scores_equal_the_pipelines_for_both_prompts(
    original: Any, crop: Any, target: Any
) -> None:
    sizes, scores = (original, crop, target), (AESTHETIC[False], AESTHETIC[True])
    width = pipelines.ENCODERS["g"].config.embed
    with pipelines.with_unet("sdxl-refiner", pipelines.xl_unet(5)) as pipe:
        wanted, unwanted = pipe._get_add_time_ids(*sizes, *scores, *sizes, torch.float32, width)
    assert torch.equal(size_ids("refiner", original, crop, target), wanted)
    assert torch.equal(size_ids("refiner", original, crop, target, negative=True), unwanted)
    assert wanted[0, -1] == 6.0
    assert unwanted[0, -1] == 2.5
    stated = size_ids("refiner", original, crop, aesthetic_score=7.5, negative=True)
    assert stated[0, -1] == 7.5


def test_scores_are_the_defaults_of_the_refiner_pipeline() -> None:
    call = inspect.signature(type(pipelines.peer("sdxl-refiner")).__call__).parameters
    assert AESTHETIC[False] == call["aesthetic_score"].default
    assert AESTHETIC[True] == call["negative_aesthetic_score"].default


def test_target_size_is_the_original_size_unless_stated() -> None:
    assert size_ids("sdxl", (600, 900)).tolist() == [[600, 900, 0, 0, 600, 900]]


def test_sizes_keep_a_score_for_each_side_and_repeat_for_every_prompt() -> None:
    sizes = Sizes((600, 900), crop=(1, 2), aesthetic=7.0, negative_aesthetic=1.0)
    assert sizes.ids("sdxl", 2).tolist() == [[600, 900, 1, 2, 600, 900]] * 2
    assert sizes.ids("refiner", 1).tolist() == [[600, 900, 1, 2, 7]]
    assert sizes.ids("refiner", 1, negative=True).tolist() == [[600, 900, 1, 2, 1]]


def test_sizes_of_the_negative_are_those_of_the_prompt_unless_stated() -> None:
    sizes = Sizes((600, 900), (1, 2), negative_original=(64, 48), negative_crop=(3, 4))
    assert sizes.ids("sdxl", 1).tolist() == [[600, 900, 1, 2, 600, 900]]
    assert sizes.ids("sdxl", 1, negative=True).tolist() == [[64, 48, 3, 4, 64, 48]]
    wide = Sizes((600, 900), target=(5, 6), negative_target=(7, 8))
    assert wide.ids("sdxl", 1, negative=True).tolist() == [[600, 900, 0, 0, 7, 8]]


@pytest.mark.parametrize("fps", [7, 25])
def test_video_ids_count_one_frame_less(fps: int) -> None:
    with pipelines.with_unet("svd", pipelines.video_unet()) as pipe:
        wanted = pipe._get_add_time_ids(fps - 1, 127, 0.02, torch.float32, 1, 1, False)
    assert torch.equal(video_ids(fps), wanted)


@pytest.mark.parametrize("width", [2, 16, 256, 7])
def test_sinusoid_equals_the_timestep_embedding(width: int) -> None:
    peers.diffusers()
    numbers = torch.tensor([0.0, 1.0, 6.0, 127.0, 1024.0, 0.02])
    wanted = import_module("diffusers.models.embeddings").get_timestep_embedding(
        numbers, width, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    torch.testing.assert_close(sinusoid(numbers, width), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [1, 3])
def test_vector_y_is_what_the_unet_embeds(rows: int) -> None:
    unet = pipelines.xl_unet(6)
    pooled = torch.randn(rows, pipelines.ENCODERS["g"].config.embed)
    ids = size_ids("sdxl", (600, 900), (12, 34), (768, 1152))
    seen: list[torch.Tensor] = []
    hook = unet.add_embedding.register_forward_pre_hook(lambda _m, given: seen.append(given[0]))
    added = {"text_embeds": pooled, "time_ids": ids.repeat(rows, 1)}
    with torch.no_grad():
        unet(torch.randn(rows, 4, 8, 8), 5, torch.randn(rows, 7, 72), added_cond_kwargs=added)
    hook.remove()
    torch.testing.assert_close(vector_y(pooled, ids, 16), seen[0], atol=1e-6, rtol=0)


def test_vector_y_has_the_released_widths() -> None:
    pooled = torch.zeros(2, 1280)
    assert vector_y(pooled, size_ids("sdxl")).shape == (2, 2816)
    assert vector_y(pooled, size_ids("refiner")).shape == (2, 2560)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: size_ids("base"), "rule must be one of sdxl, refiner, got 'base'"),  # type: ignore[arg-type]
        (lambda: size_ids("sdxl", (1024,)), "original_size must be two whole numbers"),  # type: ignore[arg-type]
        (lambda: size_ids("sdxl", crop_top_left=(0, -1)), "crop_top_left must be two whole"),
        (lambda: size_ids("sdxl", target_size=(1.5, 2)), "target_size must be two whole"),  # type: ignore[arg-type]
        (lambda: size_ids("refiner", aesthetic_score=math.nan), "score must be finite, got nan"),
        (lambda: video_ids(fps=math.inf), r"must be finite, got \(inf, "),
        (lambda: sinusoid(torch.zeros(1), 1), "width must be at least 2, got 1"),
    ],
)
def test_numbers_that_are_no_sizes_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_vector_y_refuses_sizes_of_other_prompts() -> None:
    with pytest.raises(ShapeError, match=r"pooled \(3, 4\) must be \(B, E\) and sizes \(2, 6\)"):
        vector_y(torch.zeros(3, 4), torch.zeros(2, 6))
