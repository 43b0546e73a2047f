"""`ClipLoss` beside its formula, its memory, and what it refuses."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from ecliptic.errors import ConfigError, MissingTowerError, NumericalError, ShapeError
from ecliptic.guidance import ClipLoss, Cutouts, cosine_distance, spherical_distance
from ecliptic.guidance.losses import clip_loss
from ecliptic.guidance.losses.clip_loss import encode_pixels
from tests import tiny


def images(count: int = 2, size: int = 40) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def slope(loss: ClipLoss, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x).sum(), x)[0]


@pytest.mark.parametrize("distance", ["spherical", "cosine"])
def test_whole_images_have_the_distance_of_their_vectors(clip: Clip, distance: str) -> None:
    size = clip.preprocessor.spec.size
    x = images(size=size)
    weights = [2.0, -0.5]
    loss = ClipLoss(clip, ["a cat", "a dog"], weights, cutouts=0, distance=distance)  # type: ignore[arg-type]
    vectors, words = clip.encode_image(list(encode(clip, x))), clip.encode_text(["a cat", "a dog"])
    measure = {"spherical": spherical_distance, "cosine": cosine_distance}[distance]
    each = measure(vectors[:, None], words)
    torch.testing.assert_close(loss(x), (2 * each[:, 0] - 0.5 * each[:, 1]) / 1.5)
    torch.testing.assert_close(loss.similarity(x), vectors @ words.T)


def encode(clip: Clip, x: Tensor) -> Tensor:
    """Images 0..1 as the pixels of the model."""
    spec = clip.preprocessor.spec
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return ((x - mean) / std).numpy()  # type: ignore[return-value]


def test_the_gradient_is_that_of_finite_differences(clip: Clip) -> None:
    x = images(1)
    found = slope(ClipLoss(clip, "a cat", cutouts=3), x)
    towards = F.normalize(found.flatten(), dim=0).view_as(found)
    with torch.no_grad():
        ahead, behind = (ClipLoss(clip, "a cat", cutouts=3)(x + h * towards) for h in (0.01, -0.01))
    torch.testing.assert_close(
        float((ahead - behind) / 0.02), float(found.norm()), rtol=0.02, atol=0
    )


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3), (4, 4), (100, 60)])
def test_never_more_are_encoded_at_once_than_asked(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, at_once: int, most: int
) -> None:
    x, sizes = images(6), list[int]()

    def count(clip: Clip, pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return encode_pixels(clip, pixels)

    wanted = ClipLoss(clip, "a cat", cutouts=10)(x)
    monkeypatch.setattr(clip_loss, "encode_pixels", count)
    torch.testing.assert_close(ClipLoss(clip, "a cat", cutouts=10, at_once=at_once)(x), wanted)
    assert max(sizes) <= most
    assert sum(sizes) == 60


def test_cutouts_a_few_at_a_time_give_the_same(clip: Clip) -> None:
    x = images()
    whole = ClipLoss(clip, "a cat", cutouts=10, at_once=100)
    parts = ClipLoss(clip, "a cat", cutouts=10, at_once=1)
    torch.testing.assert_close(whole(x), parts(x))
    whole.restart()
    parts.restart()
    torch.testing.assert_close(slope(whole, x), slope(parts, x), rtol=1e-4, atol=1e-7)


def test_a_batch_has_the_losses_of_its_images(clip: Clip) -> None:
    x = images(3)
    together = ClipLoss(clip, "a cat", cutouts=5)(x)
    alone = torch.cat([ClipLoss(clip, "a cat", cutouts=5)(one[None]) for one in x])
    torch.testing.assert_close(together, alone)


def test_a_seed_repeats_exactly_and_calls_differ(clip: Clip) -> None:
    x, loss = images(), ClipLoss(clip, "a cat", cutouts=4, seed=3)
    first, second = loss(x), loss(x)
    assert not torch.equal(first, second)
    loss.restart()
    assert torch.equal(loss(x), first)
    assert not torch.equal(ClipLoss(clip, "a cat", cutouts=4, seed=4)(x), first)


def test_pictures_and_vectors_are_prompts(clip: Clip, tmp_path: Path) -> None:
    picture = Image.effect_mandelbrot((32, 32), (-2, -1.5, 1, 1.5), 100).convert("RGB")
    picture.save(tmp_path / "a.png")
    x = images()
    found = [
        ClipLoss(clip, prompt, cutouts=2)(x)
        for prompt in (picture, tmp_path / "a.png", clip.encode_image([picture])[0])
    ]
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_two_models_count_equally(clip: Clip, tmp_path: Path) -> None:
    write(tiny.checkpoint("vit", seed=5), tmp_path / "other", layout="ecliptic")
    other, x = load(tmp_path / "other"), images()
    each = [ClipLoss(one, "a cat", cutouts=3)(x) for one in (clip, other)]
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(ClipLoss([clip, other], "a cat", cutouts=3)(x), sum(each) / 2)


def test_a_step_down_the_gradient_makes_the_loss_smaller(clip: Clip) -> None:
    x = images()
    loss = ClipLoss(clip, "a cat", cutouts=0)
    before, down = loss(x), slope(loss, x)
    assert (loss(x - 0.05 * down / down.square().mean().sqrt()) < before).all()
    minus = ClipLoss(clip, ["a cat"], [-1.0], cutouts=0)
    torch.testing.assert_close(minus(x), -before)


def test_a_model_in_training_gets_no_gradient(clip: Clip) -> None:
    slope(ClipLoss(clip, "a cat", cutouts=2), images())
    assert all(weight.grad is None for weight in clip.model.parameters())


def test_memory_that_runs_out_means_fewer_at_a_time_and_is_said_once(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(clip: Clip, pixels: Tensor) -> Tensor:
        if len(pixels) > 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return encode_pixels(clip, pixels)

    x = images()
    wanted, seven = (ClipLoss(clip, "a cat", cutouts=12)(y) for y in (x, images(7)))
    monkeypatch.setattr(clip_loss, "encode_pixels", small)
    loss = ClipLoss(clip, "a cat", cutouts=12)
    with pytest.warns(UserWarning, match="memory ran out with 16 cutouts at a time"):
        found = loss(x)
    torch.testing.assert_close(found, wanted)
    loss.restart()
    torch.testing.assert_close(loss(images(7)), seven)  # and no second warning, which is an error
    assert loss.at_once <= 3
    monkeypatch.setattr(clip_loss, "encode_pixels", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss(x)


def test_the_schedule_of_the_cutouts_follows_the_noise(clip: Clip) -> None:
    x = images()
    loss = ClipLoss(clip, "a cat", cutouts=[(1.0, Cutouts(0, overview=1)), (0.5, Cutouts(3))])
    first = loss(x)
    assert torch.equal(loss(x), first)  # the overview has no chance in it
    loss.at(0.2)
    assert not torch.equal(loss(x), loss(x))


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "at least one model and one prompt"),
        (" ", {}, "a prompt is empty"),
        ([3], {}, "a prompt is text, a pathlib.Path"),
        (["a", "b"], {"weights": [1.0]}, "1 weights for 2 prompts"),
        (["a", "b"], {"weights": [1.0, -1.0]}, "add up to 0"),
        ("a", {"weights": [float("inf")]}, "must be finite"),
        ("a", {"distance": "sperical"}, "did you mean 'spherical'"),
        ("a", {"at_once": 0}, "at_once"),
        ("a", {"seed": -1}, "seed"),
        ("a", {"cutouts": [3]}, "pairs of a share of noise and Cutouts"),
        ("a", {"cutouts": "16"}, "pairs of a share of noise and Cutouts"),
    ],
)
def test_bad_settings_are_refused(
    clip: Clip, prompts: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ClipLoss(clip, prompts, **options)  # type: ignore[arg-type]


def test_a_checkpoint_without_an_image_side_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path / "text", layout="ecliptic")
    with pytest.raises(MissingTowerError, match="image"):
        ClipLoss(load(tmp_path / "text"), "a cat")


def test_bad_images_are_refused(clip: Clip) -> None:
    loss = ClipLoss(clip, "a cat")
    with pytest.raises(ShapeError, match=r"images must be \(B, 3, H, W\)"):
        loss(torch.rand(3, 20, 20))
    with pytest.raises(NumericalError, match="the CLIP loss is NaN"):
        loss(torch.full((1, 3, 20, 20), float("nan")))
    with pytest.raises(ShapeError, match="the batch is 0"):
        loss(torch.rand(0, 3, 20, 20))
    later = ClipLoss(clip, "a cat", cutouts=[(1.0, Cutouts(1)), (0.3, Cutouts(1, smallest=99))])
    with pytest.raises(ShapeError, match="at least 99 pixels do not fit"):
        later(torch.rand(1, 3, 20, 20))  # at the first call, before that row is used
    with pytest.raises(ShapeError, match=r"must have the shape \(32,\)"):
        ClipLoss(clip, torch.ones(31))
