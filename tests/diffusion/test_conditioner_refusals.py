"""The inputs that a conditioner refuses, and its messages about them."""

import warnings
from typing import Any

import pytest
import torch

from ecliptic.diffusion import conditioner
from ecliptic.errors import (
    ConfigError,
    EclipticError,
    InputError,
    NumericalError,
    ShapeError,
    TextError,
)
from tests.diffusion import pipelines
from tests.diffusion.test_conditioner import make


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialekt": "a1111"}, "unknown option 'dialekt'; did you mean 'dialect'"),
        ({"dialect": "midjourney"}, "dialect must be one of plain"),
        ({"emphasis": "loud"}, "emphasis must be one of original, no-norm, .* got 'loud'"),
        ({"long": "wrap"}, "long must be one of chunk, truncate"),
        ({"compat": "comfy"}, "did you mean 'comfyui'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"images_per_prompt": 0}, "at least 1"),
        ({"prompt_2": "b"}, "one text encoder and cannot use prompt_2"),
        ({"images": ["a.jpg"]}, "no image encoder"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make("sd1")("a cat", **options)


@pytest.mark.parametrize(
    ("prompt", "negative", "message"),
    [
        (None, None, "pass one"),
        (5, None, "at least one"),
        ("a", [], "at least one"),
        ([], None, "at least one"),
        (["a", 3], None, "at least one"),
        (["a", "b"], ["c"], "negative has 1 texts, but prompt has 2"),
    ],
)
def test_prompts_that_are_none_are_refused(prompt: Any, negative: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make("sd1")(prompt, negative=negative)


def test_a_prompt_that_its_dialect_refuses_says_where() -> None:
    with pytest.raises(TextError, match="2"):
        make("sd1")("(a:1.2.3)", dialect="a1111")
    with pytest.raises(ConfigError, match="sum to 0"):
        make("sd1")('("a", "b").blend(1, -1)', dialect="compel")


def test_wrong_encoders_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'sdxl'"):
        conditioner("sdlx", encoders=pipelines.encoders("sdxl"))
    with pytest.raises(ConfigError, match="clip_l and clip_g, got 3"):
        conditioner("sdxl", encoders=[*pipelines.encoders("sdxl"), "x"])
    with pytest.raises(ConfigError, match="no text projection"):
        conditioner("sdxl", encoders=[pipelines.encoder("l"), pipelines.encoder("l")])
    with pytest.raises(ConfigError, match="Stable Video Diffusion has no text encoder"):
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
                    found = make("sdxl")(text, dialect=dialect, long="chunk", steps=5)  # type: ignore[arg-type]
                except EclipticError:
                    continue
            assert found.tokens is not None
            assert bool(found.tokens.isfinite().all())


def test_what_each_keeps_does_not_depend_on_companions() -> None:
    prompt, other = "a (b:1.3)", "a (zebra:1.1) red " * 40
    how: Any = {"dialect": "a1111", "compat": "a1111", "long": "chunk"}
    alone, beside = (
        make("sd1").each([prompt], **how)[0],
        make("sd1").each([prompt, other], **how)[0],
    )
    assert alone.tokens is not None
    torch.testing.assert_close(alone.tokens, beside.tokens, atol=2e-5, rtol=0)


def test_the_empty_prompt_stays_one_chunk_beside_long_ones() -> None:
    how: Any = {"dialect": "a1111", "compat": "a1111", "long": "chunk"}
    long = ["", "cat " * 100]
    found = make("sdxl")(long, prompt_2=["x", "dog " * 200], **how)
    assert found.tokens is not None
    assert found.tokens.shape[1] == 3 * 77


def test_t5_that_fits_no_guidance_is_refused() -> None:
    good = torch.zeros(1, 7, 112)
    with pytest.raises(ShapeError, match="pad both to one length"):
        make("sd3")("a", t5=good, negative_t5=torch.zeros(1, 5, 112))
    with pytest.raises(NumericalError, match="t5 must be finite"):
        make("sd3")("a", t5=good * float("nan"), negative_t5=good)
    with pytest.raises(ConfigError, match="tensor of floats"):
        make("sd3")("a", t5=good.long(), negative_t5=good)


def test_lengths_without_a_sensible_multiple_are_refused() -> None:
    with pytest.raises(ConfigError, match="no common multiple"):
        make("sd1")("cat " * 100, negative="a", long="kohya", compat="comfyui")
