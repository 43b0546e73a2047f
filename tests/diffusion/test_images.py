"""Encoded images equal those of diffusers' `_encode_image` and `encode_image`."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import ecliptic
from ecliptic.diffusion.families import ImageRule
from ecliptic.diffusion.images import (
    augment_image_vectors,
    cosine_alphas,
    crop_centre,
    encode_images,
    resize_blurred,
)
from ecliptic.engine import Clip
from ecliptic.engine.images import IMAGE_BATCH
from ecliptic.errors import (
    ConfigError,
    ImageError,
    ImageLimitError,
    InputError,
    MissingTowerError,
    NumericalError,
    ShapeError,
)
from ecliptic.inputs import Preprocess
from ecliptic.runtime import Runtime
from tests import peers, tiny
from tests.diffusion import pipelines
from tests.engine.models import draw, reload

SVD = ImageRule(token_axis=True, blurred_resize=True)
PLAIN = ImageRule()
PLUS = ImageRule(layer=-2, negative="encoded zeros")
PRIOR = ImageRule(negative="encoded zeros")
# width, height: shrunk in both ways, stretched in both, the size itself, very long, even and odd
SHAPES = [(300, 500), (1024, 576), (150, 90), (224, 224), (1200, 40), (2, 2), (449, 448)]


@cache
def clip(kind: str = "vision") -> Clip:
    return ecliptic.load(pipelines.encoder(kind), device="cpu")


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, atol=pipelines.PARITY, rtol=0)


def peer_video(images: Any, count: int = 1) -> Any:
    """Negative and positive of the pipeline in one batch."""
    with torch.no_grad(), pipelines.quiet():
        return pipelines.peer("svd")._encode_image(images, "cpu", count, True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_svd_vectors_equal_the_pipelines_at_any_size(shape: tuple[int, int]) -> None:
    image = draw(3, *shape)
    found, none = encode_images(clip("vision-224"), image, SVD)
    close(torch.cat([none, found]), peer_video([image]))
    assert found.shape == (1, 1, 24)
    assert not none.any()


def test_svd_takes_images_of_one_batch_and_ready_pixels() -> None:
    images = [draw(seed, 300, 260) for seed in range(3)]
    found, none = encode_images(clip("vision-224"), images, SVD)
    close(torch.cat([none, found]), peer_video(images))
    values = torch.rand(2, 3, 224, 224)  # 0 to 1: what the pipeline only normalises
    spec = clip("vision-224").preprocessor.spec
    mean, std = (torch.tensor(x)[:, None, None] for x in (spec.mean, spec.std))
    found, _ = encode_images(clip("vision-224"), (values - mean) / std, SVD)
    close(found, peer_video(values)[2:])


def test_svd_resize_differs_from_the_usual_one() -> None:
    """Otherwise the parity above could come from two resizes that agree."""
    image = draw(3, 1024, 576)
    usual, _ = encode_images(clip("vision-224"), image, replace(SVD, blurred_resize=False))
    blurry, _ = encode_images(clip("vision-224"), image, SVD)
    assert float((usual - blurry).abs().max()) > 100 * pipelines.PARITY


@pytest.mark.parametrize(("rule", "hidden"), [(PLAIN, False), (PLUS, True)], ids=["plain", "plus"])
@pytest.mark.parametrize("count", [1, 3])
def test_ip_adapter_equals_encode_image(rule: ImageRule, hidden: bool, count: int) -> None:
    images = [draw(seed, 40 + seed, 36) for seed in range(count)]
    with torch.no_grad(), pipelines.quiet():
        wanted = pipelines.peer("ip-adapter").encode_image(images, "cpu", 1, hidden)
    for found, theirs in zip(encode_images(clip(), images, rule), wanted, strict=True):
        close(found, theirs)


@pytest.mark.parametrize("long", range(36, 44))
@pytest.mark.parametrize("upright", [True, False])
def test_pixels_equal_the_feature_extractors_at_every_rounding(long: int, upright: bool) -> None:
    image = draw(5, *((32, long) if upright else (long, 32)))
    wanted = pipelines.processor("vision")(image, return_tensors="pt").pixel_values[0]
    close(crop_centre(clip().preprocessor, image), wanted)


def test_palettes_become_rgb_before_they_are_resized() -> None:
    image = draw(5, 60, 50).quantize(16)
    wanted = pipelines.processor("vision")(image, return_tensors="pt").pixel_values[0]
    close(crop_centre(clip().preprocessor, image), wanted)


def test_robust_preprocessing_stays_robust() -> None:
    robust = ecliptic.load(pipelines.encoder("vision"), device="cpu", preprocess="robust")
    image = Image.new("RGBA", (36, 36), (0, 0, 0, 0))  # on white, not on black
    found, _ = encode_images(robust, image, PLAIN)
    close(found, encode_images(clip(), Image.new("RGB", (36, 36), "white"), PLAIN)[0])


def test_other_pixels_are_used_or_refused() -> None:
    spec = clip().preprocessor.spec
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 401, 3), np.uint8))
    for pixels in ("close", "fast"):
        near = Preprocess(spec, pixels=pixels)  # type: ignore[arg-type]
        assert torch.equal(crop_centre(near, image), torch.from_numpy(near(image)))
        with pytest.raises(ConfigError, match=f"pixels='{pixels}' has no meaning.*'exact'"):
            resize_blurred(near, image)


def test_an_image_too_long_to_resize_is_refused() -> None:
    image = Image.new("RGB", (1, 20_000))
    with pytest.raises(ImageLimitError, match=r"would have 224x4480000 pixels after its shorter"):
        encode_images(clip("vision-224"), image, PLAIN)


def test_ip_adapter_plus_reads_the_penultimate_layer_without_the_last_norm() -> None:
    found, none = encode_images(clip(), draw(), PLUS)
    last, _ = encode_images(clip(), draw(), replace(PLUS, layer=-1))
    assert found.shape == none.shape == (1, 17, 48)
    assert float((found - last).abs().max()) > 0.1
    assert none.abs().max() > 0.1  # zeros were encoded, not returned


@pytest.mark.parametrize("family", ["kandinsky2-prior", "kandinsky21-prior"])
def test_prior_negative_equals_get_zero_embed(family: str) -> None:
    with torch.no_grad():
        wanted = pipelines.peer(family).get_zero_embed(2)
    _, none = encode_images(clip(), [draw(0), draw(1)], PRIOR)
    close(none, wanted)


def test_prior_vectors_equal_those_that_interpolate_mixes() -> None:
    pipe = pipelines.peer("kandinsky2-prior")
    with torch.no_grad():
        pixels = pipe.image_processor(draw(), return_tensors="pt").pixel_values
        wanted = pipe.image_encoder(pixels)["image_embeds"]
    close(encode_images(clip(), draw(), PRIOR)[0], wanted)


def test_vectors_are_not_made_unit_length() -> None:
    found, _ = encode_images(clip(), [draw(0), draw(1)], PLAIN)
    assert (found.norm(dim=-1) - 1).abs().min() > 0.1


@pytest.mark.parametrize("rule", [PLAIN, PLUS, SVD], ids=["plain", "plus", "svd"])
def test_every_form_of_an_image_gives_the_same(rule: ImageRule, tmp_path: Path) -> None:
    draw().save(tmp_path / "a.png")
    array = np.asarray(draw())
    wanted = encode_images(clip(), draw(), rule)[0]
    forms: list[Any] = [str(tmp_path / "a.png"), tmp_path / "a.png", array]
    forms += [(tmp_path / "a.png").read_bytes(), torch.from_numpy(array.copy()).permute(2, 0, 1)]
    found = encode_images(clip(), forms, rule)[0]
    close(found, wanted.expand_as(found))
    for form in forms:
        close(encode_images(clip(), form, rule)[0], wanted)


def test_more_images_than_a_batch_keep_their_order() -> None:
    images = [draw(seed % 5) for seed in range(IMAGE_BATCH + 3)]
    found, none = encode_images(clip(), images, PLUS)
    assert len(found) == len(none) == IMAGE_BATCH + 3
    for seed in range(5):
        alone = encode_images(clip(), draw(seed), PLUS)[0]
        close(found[seed::5], alone.expand_as(found[seed::5]))


def test_a_layer_that_does_not_fit_in_memory_is_computed_in_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Like vectors; earlier, hidden layers did not use the batches of `encode_image`."""
    images = [draw(seed) for seed in range(5)]
    wanted = encode_images(clip(), images, PLUS)[0]
    run, sizes = Runtime.image_sequence, []

    def small(runtime: Runtime, pixels: Tensor, **options: Any) -> Tensor:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise RuntimeError("can't allocate memory")
        return run(runtime, pixels, **options)

    monkeypatch.setattr(Runtime, "image_sequence", small)
    close(encode_images(clip(), images, PLUS)[0], wanted)
    assert sizes[:4] == [5, 2, 2, 1]


def test_what_is_no_image_is_refused_as_encode_image_does() -> None:
    for wrong in ({1: draw()}, {"a.png"}, 7, np.array(["a.png"])):
        with pytest.raises(InputError, match="images"):
            encode_images(clip(), wrong, PLUS)


def test_results_serve_training_of_what_reads_them() -> None:
    for rule in (PLAIN, PLUS, SVD):
        found, none = encode_images(clip(), draw(), rule)
        weight = torch.ones(found.shape[-1], requires_grad=True)
        ((found + none) * weight).sum().backward()  # inference tensors would refuse
        assert weight.grad is not None


@cache
def unclip() -> Any:
    """The stable unCLIP pipeline with a random normaliser and the released noise schedule."""
    library = peers.diffusers()
    home = "diffusers.pipelines.stable_diffusion"
    normalizer = import_module(f"{home}.stable_unclip_image_normalizer")
    module = import_module(f"{home}.pipeline_stable_unclip_img2img")
    made = module.StableUnCLIPImg2ImgPipeline
    statistics = normalizer.StableUnCLIPImageNormalizer(24)
    with torch.no_grad():
        statistics.mean.copy_(torch.randn(1, 24))
        statistics.std.copy_(torch.rand(1, 24) + 0.5)
    schedule = library.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    parts = {"image_normalizer": statistics, "image_noising_scheduler": schedule}
    with pipelines.quiet():
        return made(**dict.fromkeys(pipelines.arguments(made)) | parts)


@pytest.mark.parametrize("level", [0, 1, 500, 999])
def test_noised_vectors_equal_stable_unclip(level: int) -> None:
    vectors, pipe = encode_images(clip(), [draw(0), draw(1)], PLAIN)[0], unclip()
    noise = torch.randn(2, 24)
    with torch.no_grad():
        wanted = pipe.noise_image_embeddings(vectors, level, noise)
        drawn = pipe.noise_image_embeddings(
            vectors, level, generator=torch.Generator().manual_seed(3)
        )
    statistics = {"mean": pipe.image_normalizer.mean.detach()}
    statistics["std"] = pipe.image_normalizer.std.detach()
    close(augment_image_vectors(vectors, level, noise, **statistics), wanted)
    generator = torch.Generator().manual_seed(3)
    close(augment_image_vectors(vectors, level, generator, **statistics), drawn)
    assert wanted.shape == (2, 48)


def test_schedule_equals_the_noising_scheduler() -> None:
    wanted = unclip().image_noising_scheduler.alphas_cumprod
    torch.testing.assert_close(cosine_alphas(), wanted, atol=1e-6, rtol=1e-4)
    other = torch.tensor([0.9, 0.4])
    vectors, noise = torch.ones(1, 4), torch.full((1, 4), 2.0)
    found = augment_image_vectors(vectors, 1, noise, alphas=other)
    close(found[:, :4], torch.full((1, 4), 0.4**0.5 + 2 * 0.6**0.5))


def test_no_images_are_an_error() -> None:
    with pytest.raises(InputError, match="no images were given"):
        encode_images(clip(), [], PLAIN)


def test_a_text_encoder_says_that_it_has_no_image_side() -> None:
    with pytest.raises(MissingTowerError, match="image"):
        encode_images(clip("g"), draw(), PLAIN)


def test_a_resnet_has_no_patches_to_give(tmp_path: Path) -> None:
    resnet = reload(tiny.checkpoint("resnet"), tmp_path / "resnet", device="cpu")
    with pytest.raises(ConfigError, match="a ResNet, which has no tokens and so no token layer -2"):
        encode_images(resnet, draw(), PLUS)
    assert encode_images(resnet, draw(), PLAIN)[0].shape == (1, 32)


def test_a_line_of_pixels_cannot_be_blurred() -> None:
    with pytest.raises(ImageError, match=r"is 9x1 pixels, and a line cannot be blurred"):
        resize_blurred(clip().preprocessor, Image.new("RGB", (9, 1)))


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer 9 does not exist"):
        encode_images(clip(), draw(), replace(PLUS, layer=9))


@pytest.mark.parametrize("rule", [PLAIN, PLUS, SVD], ids=["plain", "plus", "svd"])
def test_nothing_non_finite_leaves(rule: ImageRule) -> None:
    broken = ecliptic.load(pipelines.encoder("vision"), device="cpu")
    with torch.no_grad():
        broken.model.image_tower.positions.fill_(torch.inf)
    with pytest.raises(NumericalError, match="NaN or infinity"):
        encode_images(broken, draw(), rule)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda v: augment_image_vectors(v, 1000, v), ConfigError, "level must be 0 to 999"),
        (lambda v: augment_image_vectors(v, -1, v), ConfigError, "level must be 0 to 999"),
        (
            lambda v: augment_image_vectors(v, 0, v[:1]),
            ShapeError,
            r"noise \(1, 4\) must have the same",
        ),
        (lambda v: augment_image_vectors(v, 0, v, mean=v[:, 0]), ShapeError, r"mean \(2,\) must"),
        (lambda v: augment_image_vectors(v, 0, v, std=0.0), NumericalError, "NaN or infinity"),
        (lambda _: cosine_alphas(0), ConfigError, "steps must be at least 1, got 0"),
    ],
)
def test_noise_that_does_not_fit_is_refused(
    call: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(torch.ones(2, 4))
