"""Augmentations are in range and repeatable, and no row depends on another."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.train.batch import normalise
from ecliptic.train.data import drawing_styles as styles
from ecliptic.train.data.augmentations import AUGMENTATIONS, crop_box, open_augmentation
from ecliptic.train.data.permutation import mix
from ecliptic.train.data.row_random import RowRandom
from tests import peers
from tests.train.drawings import draw

from .pictures import png

SPEC = ImageSpec(size=32)
SEEDS = [mix(number) for number in range(64)]


def drawings(count: int, side: int = 96) -> Tensor:
    """(B, 4, S, S) uint8."""
    image = torch.from_numpy(np.array(draw("red", "circle", "flat").resize((side, side))))
    return image.movedim(-1, 0).expand(count, 4, side, side)


def test_numbers_of_a_row_depend_on_its_seed_alone() -> None:
    whole, part = RowRandom(SEEDS), RowRandom(SEEDS[7:9])
    for shape in ((), (3,), (5, 7)):
        assert torch.equal(whole.uniform(*shape)[7:9], part.uniform(*shape))
        assert torch.equal(whole.normal(*shape)[7:9], part.normal(*shape))
    ours, theirs = whole.split(torch.tensor([8, 60])), part.split(torch.tensor([1]))
    assert torch.equal(ours.uniform(4)[:1], theirs.uniform(4))
    assert torch.equal(whole.uniform(4)[7:9], part.uniform(4))
    assert not torch.equal(ours.uniform(4)[0], whole.uniform(4)[8])


def test_random_numbers_have_the_moments_of_their_distribution() -> None:
    random = RowRandom(range(50))  # seeds with few bits
    uniform, normal = random.uniform(4000, low=-1, high=3), random.normal(4001)
    assert float(uniform.min()) >= -1
    assert float(uniform.max()) < 3
    assert float(uniform.mean()) == pytest.approx(1, abs=0.02)
    assert float(uniform.var()) == pytest.approx(16 / 12, rel=0.02)
    assert float(normal.mean()) == pytest.approx(0, abs=0.02)
    assert float(normal.var()) == pytest.approx(1, rel=0.02)
    assert float((normal**4).mean()) == pytest.approx(3, rel=0.05)
    rows = torch.corrcoef(uniform)
    assert float((rows - torch.eye(50)).abs().max()) < 0.08
    assert bool(torch.isfinite(normal).all())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_row_depends_on_its_batch(name: str) -> None:
    augmentation = open_augmentation(name, SPEC)
    pictures = [draw(c, s, "thin") for c in ("red", "teal", "gold") for s in ("circle", "square")]
    pictures = (pictures * 11)[:64]
    decoded = [augmentation.decode(p, seed) for p, seed in zip(pictures, SEEDS, strict=True)]
    whole = augmentation.finish(decoded, SEEDS)
    assert whole.shape == (64, 3, 32, 32)
    assert whole.dtype == torch.uint8
    assert torch.equal(whole, augmentation.finish(decoded, SEEDS))
    for first, last in ((0, 1), (5, 6), (10, 37), (63, 64)):
        part = augmentation.finish(decoded[first:last], SEEDS[first:last])
        assert torch.equal(part, whole[first:last])
    assert augmentation.finish([], []).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(50, 50), (90, 20), (20, 90), (1, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_any_shape_and_mode_are_taken(
    name: str, size: tuple[int, int], mode: str
) -> None:
    augmentation = open_augmentation(name, SPEC)
    picture = png(3, size) if mode == "CMYK" else png(3, size, mode)
    decoded = augmentation.decode(picture, 5)
    assert augmentation.finish([decoded], [5]).shape == (1, 3, 32, 32)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'drawing' is no augmentation; did you mean 'drawings'"):
        open_augmentation("drawing", SPEC)
    with pytest.raises(ConfigError, match="choose from none, crop, drawings"):
        open_augmentation("xyz", SPEC)


def test_none_is_the_preparation_of_inference() -> None:
    plain = open_augmentation("none", SPEC)
    picture = draw("teal", "circle", "flat").resize((50, 70))
    pixels = normalise(plain.finish([plain.decode(picture, 1)], [1]), SPEC)[0]
    expected = Preprocess(SPEC, mode="robust")(picture)
    assert np.array_equal(pixels.numpy(), expected)


def test_crops_are_those_of_random_resized_crop() -> None:
    """Boxes have open_clip's area and aspect; the pixels are torchvision's of the same box."""
    boxes = np.array([crop_box(200, 160, Random(seed)) for seed in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = width * height / (200 * 160)
    assert 0.89 < share.min() < 0.91
    assert 0.99 < share.max() <= 1.0
    assert (width / height).min() >= 0.75 - 0.01
    assert (width / height).max() <= 4 / 3 + 0.01
    assert boxes[:, 0].max() > 15
    assert boxes[:, 1].max() > 10
    assert crop_box(1000, 10, Random(0)) == (493, 0, 506, 10)  # central, 4:3
    peers.open_clip()  # before torchvision
    from torchvision.transforms import InterpolationMode, functional

    crop, image = open_augmentation("crop", SPEC), draw("teal", "square", "thin").convert("RGB")
    left, top, right, bottom = crop_box(96, 96, Random(11))
    expected = functional.resized_crop(
        image, top, left, bottom - top, right - left, [32, 32], InterpolationMode.BICUBIC
    )
    assert np.array_equal(crop.decode(image, 11), np.asarray(expected))
    assert not np.array_equal(crop.decode(image, 11), crop.decode(image, 12))


def test_drawings_are_varied_in_range_and_stay_visible() -> None:
    first = styles.vary(drawings(64), RowRandom(SEEDS))
    assert first.shape == (64, 3, 96, 96)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert bool((first.flatten(1).std(dim=1) > 0.02).all())
    assert len({round(float(v), 4) for v in first.flatten(1).mean(dim=1)}) > 60


STYLES = [
    *(styles.recolour, styles.desaturate, styles.outline),
    *(styles.silhouette, styles.flatten, styles.posterise),
]


def varied(count: int = 64, side: int = 32) -> Tensor:
    """(B, 4, S, S) of many colours and grades of transparency, none like another."""
    return RowRandom(SEEDS[:count]).uniform(4, side, side)


@pytest.mark.parametrize("style", [*STYLES, styles.thicken, styles.make_coarse])
def test_no_row_of_a_style_depends_on_its_batch(
    style: Callable[[Tensor, RowRandom], Tensor],
) -> None:
    whole = style(varied(), RowRandom(SEEDS))
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    for first, last in ((0, 1), (10, 37), (63, 64)):
        part = style(varied()[first:last].clone(), RowRandom(SEEDS[first:last]))
        assert torch.equal(part, whole[first:last])


def test_flat_drawings_have_one_colour_and_full_ones_two() -> None:
    x = varied(8)
    x[:4, 3] *= 0.5  # the others are covered by more than 85 %
    x[4:, 3] = 1
    flat = styles.flatten(x, RowRandom(SEEDS[:8]))
    assert torch.equal(flat[:, 3], x[:, 3])
    inks = flat[:, :3].flatten(2).transpose(1, 2)  # (8, S * S, 3)
    assert all(len(torch.unique(ink, dim=0)) == 1 for ink in inks[:4])
    assert all(len(torch.unique(ink, dim=0)) > 1 for ink in inks[4:])


def test_posters_have_two_to_five_levels_and_hard_edges() -> None:
    x = varied()
    poster = styles.posterise(x, RowRandom(SEEDS))
    assert set(poster[:, 3].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(poster[:, 3] == 1, x[:, 3] > 0.5)
    levels = [[len(channel.unique()) for channel in row] for row in poster[:, :3]]
    assert all(row[0] == row[1] == row[2] for row in levels)
    assert {row[0] for row in levels} == {2, 3, 4, 5}


def test_strokes_of_some_rows_get_thicker() -> None:
    """Dark ones on light paper in about 6 %, light ones on dark paper in about 5 %."""
    dark = torch.ones(400, 3, 16, 16)
    dark[..., 7] = 0
    seeds = [mix(7, number) for number in range(400)]
    lines = styles.thicken(dark.clone(), RowRandom(seeds))
    counts = (lines == 0).sum(dim=(1, 2, 3)) / (3 * 16)
    assert set(counts.tolist()) == {0, 1, 3}  # light paper closes over it, as it is, thicker
    assert 8 <= int((counts == 3).sum()) <= 45
    assert 6 <= int((counts == 0).sum()) <= 40
    inverted = 1 - styles.thicken(1 - dark, RowRandom(seeds))
    assert torch.equal((inverted == 0).sum(dim=(1, 2, 3)) / 48 == 3, counts == 0)


def test_coarse_rows_have_no_more_squares_than_their_side() -> None:
    seeds = [mix(11, number) for number in range(600)]
    x = RowRandom(seeds).uniform(3, 48, 48)
    coarse = styles.make_coarse(x.clone(), RowRandom(seeds))
    random = RowRandom(seeds)
    chosen = random.uniform() < 0.15
    sides = torch.tensor(styles.SIDES)[(len(styles.SIDES) * random.uniform()).long()]
    random.uniform()
    smooth = random.uniform() < 0.25
    assert torch.equal(coarse[~chosen], x[~chosen])
    assert 60 < int(chosen.sum()) < 120
    for row, side, soft in zip(coarse[chosen], sides[chosen], smooth[chosen], strict=True):
        columns, rows = (torch.unique(row, dim=dim).shape[dim] for dim in (2, 1))
        assert soft or (columns <= side and rows <= side)
    assert bool(smooth[chosen].any())
    assert bool((~smooth[chosen]).any())


@pytest.mark.parametrize("style", STYLES[:-1])  # a poster keeps pure colours as they are
def test_styles_keep_shape_and_range(style: Callable[[Tensor, RowRandom], Tensor]) -> None:
    x = drawings(8).float() / 255
    y = style(x, RowRandom(SEEDS[:8]))
    assert y.shape == x.shape
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1
    assert not torch.equal(x, y)
    assert len({round(float(v), 5) for v in y.flatten(1).mean(dim=1)}) == 8


def test_outlines_follow_the_edge_of_the_drawing() -> None:
    alpha = styles.outline(drawings(1).float() / 255, RowRandom([0]))[0, 3]
    assert float(alpha[48, 48]) == 0  # inside
    assert float(alpha[2, 2]) == 0  # outside
    assert float(alpha[46:50, 10:18].max()) > 0.5  # the circle's left edge


def test_places_are_those_of_the_inverse_of_a_matrix() -> None:
    """A shift moves, a scale shrinks: the drawing's mean place and area follow the numbers."""
    x = drawings(64).float() / 255
    placed = styles.place(x, RowRandom(SEEDS))
    scale = RowRandom(SEEDS).uniform(low=np.log(0.55), high=np.log(1.15)).exp()
    area = placed[:, 3].mean(dim=(1, 2)) / x[:, 3].mean(dim=(1, 2))
    inside = placed[:, 3, 0].amax(1) + placed[:, 3, -1].amax(1) == 0
    inside &= placed[:, 3, :, 0].amax(1) + placed[:, 3, :, -1].amax(1) == 0
    assert int(inside.sum()) > 20
    assert float((area / scale**2 - 1)[inside].abs().max()) < 0.1


def test_transparency_is_kept_when_a_drawing_is_resized() -> None:
    augmentation = open_augmentation("drawings", SPEC)
    wide = draw("red", "square", "flat").crop((14, 14, 82, 48))  # 68 x 34, opaque red
    found = augmentation.decode(wide, 0)
    assert found[16, 16].tolist() == [255, 0, 0, 255]
    assert found[2, 16, 3] == found[29, 16, 3] == 0  # above and below
