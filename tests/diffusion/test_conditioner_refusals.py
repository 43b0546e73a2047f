"""The inputs that a conditioner refuses, and its messages about them."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.checkpoints.identity.conform import native_shapes
from ecliptic.diffusion import FAMILIES, conditioner
from ecliptic.engine import Clip, load
from ecliptic.engine.loading import build_model, make_card
from ecliptic.errors import (
    ConfigError,
    EclipticError,
    InputError,
    NumericalError,
    ShapeError,
    TextError,
)
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig
from ecliptic.runtime import Runtime
from tests import tiny
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


def test_kernels_that_have_no_effect_are_refused() -> None:
    encoder = pipelines.encoder("l")
    with pytest.raises(ConfigError, match="kernels must be one of auto, plain, got 'compiled'"):
        conditioner("sd1", encoder, any_size=True, kernels="compiled")  # type: ignore[arg-type]
    loaded = load(encoder, part="text_encoder")
    with pytest.raises(ConfigError, match='loaded already, with kernels="auto"; load it with'):
        conditioner("sd1", loaded, any_size=True, kernels="plain")
    plain = load(encoder, part="text_encoder", kernels="plain")
    made = conditioner("sd1", plain, any_size=True, kernels="plain")
    assert made.encoders[0].clip.runtime.kernels == "plain"


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
        conditioner("sdlx", encoders=pipelines.encoders("sdxl"), any_size=True)
    with pytest.raises(ConfigError, match="clip_l and clip_g, got 3"):
        conditioner("sdxl", encoders=[*pipelines.encoders("sdxl"), "x"])
    with pytest.raises(ConfigError, match="no text projection"):
        conditioner("sdxl", encoders=[pipelines.encoder("l")] * 2, any_size=True)
    with pytest.raises(ConfigError, match="Stable Video Diffusion has no text encoder"):
        conditioner("svd", encoders=pipelines.encoders("svd"), any_size=True)("a cat")


@pytest.mark.parametrize("precision", ["int8", torch.int8, "fp8"])
def test_int8_is_refused_because_hidden_states_were_not_compared(precision: Any) -> None:
    with pytest.raises(ConfigError, match="not by the hidden states that a diffusion model reads"):
        conditioner("sd1", "mini", precision=precision)


@pytest.mark.parametrize("source", ["mini", "file"])
def test_one_encoder_does_not_stand_for_two(source: str, tmp_path: Path) -> None:
    if source == "file":
        write(tiny.checkpoint("vit"), tmp_path / "a.safetensors")
        source = str(tmp_path / "a.safetensors")
    for family, names in (("sdxl", "clip_l and clip_g"), ("sd3", "clip_l and clip_g")):
        for any_size in (False, True):
            with pytest.raises(ConfigError, match=f"{names}, but .* is a single encoder"):
                conditioner(family, source, any_size=any_size)


@pytest.mark.parametrize("family", [name for name, row in FAMILIES.items() if row.encoders])
def test_widths_that_no_released_model_has_are_refused(family: str) -> None:
    encoders = pipelines.encoders(family)
    with pytest.raises(ConfigError, match=r"wide, but released models have .* any_size=True"):
        conditioner(family, encoders=encoders)
    assert conditioner(family, encoders=encoders, any_size=True)


@pytest.mark.parametrize("family", ["svd", "ip-adapter-alone"])
def test_image_encoders_of_another_size_are_refused(family: str) -> None:
    row = family.removesuffix("-alone")
    with pytest.raises(ConfigError, match=r"vectors of 24 values, but released models of .* 1024"):
        conditioner(row, encoders=pipelines.encoders(family))


def test_an_encoder_in_the_place_of_another_is_named() -> None:
    wide = text_encoder(768)
    with pytest.raises(ConfigError, match=r"768 wide, as clip_l is, but .* clip_g here, 1280 wide"):
        conditioner("sdxl", encoders=[wide, wide])


def test_kandinsky_2_1_takes_its_own_encoder() -> None:
    assert conditioner("kandinsky2-prior", encoders=[text_encoder(768)]).encoders[0].width == 768


def test_a_t5_of_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match="12 wide, but the model reads 4096"):
        conditioner("flux", encoders=[text_encoder(768)])("a", t5=torch.zeros(1, 3, 12))


def text_encoder(width: int) -> Clip:
    """One block of a released width, with random weights."""
    sizes = {"width": width, "depth": 1, "heads": 1, "mlp": 8}
    text = TextConfig(**sizes, vocabulary=514, context=8, end_of_text=513)
    config = ClipConfig(embed=width, image=None, text=text)
    shapes = native_shapes(config).items()
    weights = {name: torch.zeros(tuple(shape)) for name, shape in shapes}
    spec = TokenizerSpec(merges=0, context=8)
    device = torch.device("cpu")
    checkpoint = Checkpoint(config, weights, image_spec=None, tokenizer_spec=spec, name="wide")
    runtime = Runtime(build_model(checkpoint, torch.float32, device), "fp32", device)
    return Clip(runtime, make_card(checkpoint, None, runtime), checkpoint, None)


def test_numbers_that_are_none_never_leave() -> None:
    broken = conditioner("sd1", encoders=pipelines.encoders("sd1"), any_size=True)
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


@pytest.mark.parametrize(("name", "given"), [("sizes", (512, 512)), ("hires", {"steps": 4})])
def test_numbers_in_place_of_a_class_are_refused(name: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be \w+\(...\) or None, got"):
        make("sdxl")("a", **{name: given})
