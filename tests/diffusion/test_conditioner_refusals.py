"""What a conditioner refuses, and what it says about it."""

import warnings
from typing import Any

import pytest
import torch

from ecliptic.diffusion import conditioner
from ecliptic.errors import ConfigError, EclipticError, InputError, NumericalError, TextError
from tests.diffusion import pipelines
from tests.diffusion.test_conditioner import made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialekt": "a1111"}, "did you mean 'dialect'"),
        ({"dialect": "midjourney"}, "dialect must be one of plain"),
        ({"emphasis": "loud"}, "there is no emphasis 'loud'"),
        ({"long": "wrap"}, "long must be one of chunk, truncate"),
        ({"compat": "comfy"}, "did you mean 'comfyui'"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"images_per_prompt": 0}, "at least 1"),
        ({"prompt_2": "b"}, "one text encoder, so prompt_2 means nothing"),
        ({"images": ["a.jpg"]}, "no image encoder"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made("sd1")("a cat", **options)


@pytest.mark.parametrize(
    ("prompt", "negative", "message"),
    [
        (None, None, "pass one"),
        ([], None, "at least one"),
        (["a", 3], None, "at least one"),
        (["a", "b"], ["c"], "1 texts in negative do not go with 2"),
    ],
)
def test_prompts_that_are_none_are_refused(prompt: Any, negative: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made("sd1")(prompt, negative=negative)


def test_a_prompt_that_its_dialect_refuses_says_where() -> None:
    with pytest.raises(TextError, match="2"):
        made("sd1")("(a:1.2.3)", dialect="a1111")
    with pytest.raises(ConfigError, match="sum to 0"):
        made("sd1")('("a", "b").blend(1, -1)', dialect="compel")


def test_wrong_encoders_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'sdxl'"):
        conditioner("sdlx", encoders=pipelines.encoders("sdxl"))
    with pytest.raises(ConfigError, match="clip_l and clip_g, got 3"):
        conditioner("sdxl", encoders=[*pipelines.encoders("sdxl"), "x"])
    with pytest.raises(ConfigError, match="no text projection"):
        conditioner("sdxl", encoders=[pipelines.encoder("l"), pipelines.encoder("l")])
    with pytest.raises(ConfigError, match="reads no text"):
        conditioner("svd", encoders=pipelines.encoders("svd"))("a cat")


def test_numbers_that_are_none_never_leave() -> None:
    broken = conditioner("sd1", encoders=pipelines.encoders("sd1"))
    tower = broken.encoders[0].tower
    tower.positions = torch.nn.Parameter(torch.full_like(tower.positions, float("nan")))
    with pytest.raises(NumericalError, match="NaN or infinity for 'a cat'"):
        broken("a cat")


def test_any_prompt_gives_numbers_or_our_error() -> None:
    hard = [
        "(" * 300,
        "[a:b",
        "a\\",
        "(a:1e999)",
        "((a:-9):-9)",
        "\ud800",
        "!" * 500,
        "\x00",
        "AND",
    ]
    for dialect in ("plain", "a1111", "comfyui", "compel"):
        for text in hard:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = made("sdxl")(text, dialect=dialect, long="chunk", steps=5)  # type: ignore[arg-type]
                except EclipticError:
                    continue
            assert found.tokens is not None
            assert bool(found.tokens.isfinite().all())
