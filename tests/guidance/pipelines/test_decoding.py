"""Latents to images: the VAE as its pipeline uses it, tiles, a linear map, and half precision."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.guidance import guided_pipeline
from ecliptic.guidance.pipelines.decoding import Decoder, decode_tiles, fit_linear
from ecliptic.guidance.pipelines.precision import keep_gradient
from tests.diffusion.pipelines import quiet
from tests.guidance.pipelines.tiny_pipelines import FAMILIES, clip, draw, half_pipe, make_vae, pipe


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_those_of_the_pipeline(family: str) -> None:
    made = pipe(family)
    seen = []
    with guided_pipeline(made, loss=mean, scale=1e-12, watch=seen.append) as guided:
        images = draw(guided, family, 2, output_type="pt")
    torch.testing.assert_close(seen[-1].images.clamp(0, 1), images, rtol=1e-4, atol=1e-4)


def mean(images: Tensor) -> Tensor:
    return images.flatten(1).mean(dim=1)


def test_the_mean_and_deviation_of_latents_are_undone() -> None:
    vae = make_vae("sd1")
    vae.register_to_config(latents_mean=[1.0, 2, 3, 4], latents_std=[2.0, 2, 2, 1])
    x = noise(1, 4, 8, 8)
    mean, std = (torch.tensor(v)[:, None, None] for v in ([1.0, 2, 3, 4], [2.0, 2, 2, 1]))
    with torch.no_grad():
        wanted = (vae.decode(x * std / 0.18215 + mean).sample + 1) / 2
        torch.testing.assert_close(Decoder(vae, "vae")(x), wanted)


def local(latents: Tensor) -> Tensor:
    """A decoder that looks at each latent alone, so that tiles change nothing."""
    return latents[:, :3].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).sin()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 11), (9, 33), (5, 40)])
def test_tiles_of_a_local_decoder_are_the_whole(height: int, width: int) -> None:
    x = noise(2, 4, height, width).requires_grad_()
    tiled = decode_tiles(local, x, 8, 3)
    torch.testing.assert_close(tiled, local(x))
    weight = noise(2, 3, 2 * height, 2 * width)
    (slope,) = torch.autograd.grad((tiled * weight).sum(), x)
    (wanted,) = torch.autograd.grad((local(x) * weight).sum(), x)
    torch.testing.assert_close(slope, wanted)


def test_each_tile_is_computed_again_in_place_of_being_kept() -> None:
    calls = []

    def counted(latents: Tensor) -> Tensor:
        calls.append(latents.shape)
        return local(latents)

    tiled = decode_tiles(counted, noise(1, 4, 16, 16).requires_grad_(), 8, 0)
    assert len(calls) == 4
    tiled.sum().backward()
    assert len(calls) == 8
    assert set(calls) == {(1, 4, 8, 8)}


def test_tiles_of_a_vae_are_near_the_whole() -> None:
    vae = make_vae("sd1")
    x = noise(1, 4, 24, 24)
    with torch.no_grad():
        whole, tiled = Decoder(vae, "vae")(x), Decoder(vae, "tiled", tile=16, overlap=8)(x)
        assert torch.equal(Decoder(vae, "tiled", tile=24)(x), whole)
    # norms of a VAE look at the whole tile, so they are not equal
    assert (tiled - whole).square().mean().sqrt() < 0.2 * whole.std()


def test_a_linear_decoder_is_found_exactly() -> None:
    matrix = torch.tensor([[0.1, 0.2, -0.3, 0.0], [0.0, 0.1, 0.1, 0.2], [0.3, 0.0, 0.0, -0.1]])
    add = torch.tensor([0.5, 0.4, 0.6])

    def linear(latents: Tensor) -> Tensor:
        small = torch.einsum("rc,bchw->brhw", matrix, latents) + add[:, None, None]
        return small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    found, error = fit_linear(linear, 4, make_vae("sd1"))
    torch.testing.assert_close(found, torch.cat([matrix, add[:, None]], dim=1))
    assert error < 1e-6


def test_the_linear_map_is_the_same_each_time_and_says_its_error() -> None:
    made = pipe("sd3")
    with guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0, decode="linear") as guided:
        draw(guided, "sd3")
    with guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0, decode="linear") as again:
        draw(again, "sd3")
    assert guided.decode_error is not None
    assert 0 < guided.decode_error < 1.5
    assert guided.decode_error == pytest.approx(again.decode_error)


def test_a_vae_has_no_error() -> None:
    with guided_pipeline(pipe("sd1"), clip(), "a fox", scale=0.0) as guided:
        draw(guided, "sd1")
    assert guided.decode_error is None


def test_an_unknown_way_to_decode_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="decode must be one of vae, tiled, linear, got 'tile'"),
        guided_pipeline(pipe("sd1"), clip(), "a fox", scale=1.0, decode="tile"),  # type: ignore[arg-type]
    ):
        pass


def similarities(family: str, dtype: torch.dtype) -> list[float]:
    made = half_pipe(family, dtype)
    found = []
    for scale in (-100.0, 0.0, 100.0):
        with guided_pipeline(made, clip(), "a red fox", scale=scale, cutouts=4) as guided:
            images = draw(guided, family, 2)
        assert made.vae.dtype == dtype
        found.append(float(guided.loss.similarity(images.float()).mean()))  # type: ignore[attr-defined]
    return found


HALF = [(family, torch.float16) for family in FAMILIES] + [("sdxl", torch.bfloat16)]


@pytest.mark.parametrize(("family", "dtype"), HALF)
def test_half_precision_is_guided(family: str, dtype: torch.dtype) -> None:
    found = similarities(family, dtype)
    assert found == sorted(set(found)), found


@pytest.mark.parametrize("decode", ["vae", "linear"])
def test_a_block_of_inference_mode_decodes_with_gradients(decode: Any) -> None:
    made = half_pipe("sdxl", torch.float16)
    settings = {"scale": 10.0, "cutouts": 0, "decode": decode}
    with torch.inference_mode(), guided_pipeline(made, clip(), "a fox", **settings) as guided:
        assert torch.isfinite(draw(guided, "sdxl")).all()


def test_a_vae_that_overflows_in_half_precision_is_copied() -> None:
    vae = make_vae("sdxl").half()
    decoder = Decoder(vae, "vae")
    assert decoder.vae is not vae
    assert decoder.vae.dtype == torch.float32
    assert not any(p.requires_grad for p in decoder.vae.parameters())
    assert vae.dtype == torch.float16
    assert Decoder(make_vae("sd1").half(), "vae").vae.dtype == torch.float16


def test_float16_guides_as_float32_does() -> None:
    found = []
    for dtype in (torch.float32, torch.float16):
        steps: list[Any] = []
        made = half_pipe("sd1", dtype)
        with guided_pipeline(made, clip(), "a fox", scale=50.0, watch=steps.append) as guided:
            draw(guided, "sd1")
        found.append(steps[-1].x0.float())
    assert (found[0] - found[1]).norm() < 0.05 * found[0].norm()


def test_saving_memory_in_float16_changes_no_number() -> None:
    found = []
    for save_memory in (False, True):
        settings = {"scale": 100.0, "cutouts": 2, "save_memory": save_memory}
        with guided_pipeline(
            half_pipe("sd1", torch.float16), clip(), "a fox", **settings
        ) as guided:
            found.append(draw(guided, "sd1"))
    assert torch.equal(*found)


def test_a_gradient_too_small_for_float16_is_kept() -> None:
    def half(x: Tensor) -> Tensor:
        return (x.half() * 2).float()

    x = torch.ones(8, requires_grad=True)
    (lost,) = torch.autograd.grad((half(x) * 1e-9).sum(), x)
    assert not lost.any()
    (kept,) = torch.autograd.grad((keep_gradient(half, x, torch.float16) * 1e-9).sum(), x)
    torch.testing.assert_close(kept, torch.full((8,), 2e-9), rtol=1e-3, atol=0)
    (zero,) = torch.autograd.grad((keep_gradient(half, x, torch.float16) * 0).sum(), x)
    assert not zero.any()


def test_the_vae_of_the_block_is_the_one_of_the_call() -> None:
    made = pipe("sd1")
    with guided_pipeline(made, clip(), "a fox", scale=1.0, cutouts=0) as guided:
        draw(guided, "sd1")
        made.vae = make_vae("sd1")
        with pytest.raises(ConfigError, match="another VAE than at the beginning"), quiet():
            guided("a fox")
