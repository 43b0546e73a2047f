"""Cutouts: the published distributions, what they show, and what is refused."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import Cutouts
from ecliptic.guidance.losses.cutouts import CutoutSchedule


def published(power: float, height: int, width: int, size: int) -> Iterator[int]:
    """Sides as K. Crowson's MakeCutouts draws them, from torch's global generator."""
    most, least = min(height, width), min(height, width, size)
    while True:
        yield int(torch.rand([]) ** power * (most - least) + least)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("height", "width"), [(300, 200), (64, 64), (256, 256)])
def test_sides_have_the_published_distribution(power: float, height: int, width: int) -> None:
    random = torch.Generator().manual_seed(1)
    cuts = Cutouts(4000, power=power).plan(height, width, 64, random)
    ours = torch.tensor([float(cut.side or 0) for cut in cuts])
    source = published(power, height, width, 64)
    theirs = torch.tensor([float(next(source)) for _ in range(4000)])
    spread = max(float(theirs.std()), 0.5)
    assert abs(float(ours.mean() - theirs.mean())) < 4 * spread * (2 / 4000) ** 0.5
    for share in (0.1, 0.5, 0.9):
        assert abs(float(ours.quantile(share) - theirs.quantile(share))) < 0.12 * spread + 1


def test_places_are_everywhere_and_inside() -> None:
    cuts = Cutouts(3000).plan(40, 60, 16, torch.Generator().manual_seed(0))
    sides = [cut.side or 0 for cut in cuts]
    assert all(0 <= cut.left <= 60 - side for cut, side in zip(cuts, sides, strict=True))
    assert all(0 <= cut.top <= 40 - side for cut, side in zip(cuts, sides, strict=True))
    rests = torch.tensor(
        [cut.left / (60 - side) for cut, side in zip(cuts, sides, strict=True) if side < 30]
    )
    assert float(rests.min()) == 0.0
    assert float(rests.max()) == 1.0
    assert abs(float(rests.mean()) - 0.5) < 0.03


def test_a_cutout_is_the_average_of_its_square() -> None:
    images = torch.rand(2, 3, 40, 50)
    for cut in Cutouts(20).plan(40, 50, 8, torch.Generator().manual_seed(0)):
        assert cut.side is not None
        part = images[:, :, cut.top : cut.top + cut.side, cut.left : cut.left + cut.side]
        torch.testing.assert_close(cut.take(images, 8), F.adaptive_avg_pool2d(part, 8))


def test_a_small_image_is_enlarged() -> None:
    cuts = Cutouts(4).plan(8, 8, 32, torch.Generator().manual_seed(0))
    assert {cut.side for cut in cuts} == {8}
    assert cuts[0].take(torch.rand(1, 3, 8, 8), 32).shape == (1, 3, 32, 32)


def test_the_overview_shows_all_plain_grey_and_mirrored() -> None:
    image = torch.rand(1, 3, 8, 16)
    cuts = Cutouts(0, overview=4).plan(8, 16, 16, torch.Generator())
    plain, grey, mirrored, both = (cut.take(image, 16) for cut in cuts)
    torch.testing.assert_close(plain[:, :, 4:12], image)
    assert (plain[:, :, :4] == 0.5).all()
    torch.testing.assert_close(mirrored, plain.flip(-1))
    torch.testing.assert_close(both, grey.flip(-1))
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_a_share_of_the_squares_is_grey() -> None:
    cuts = Cutouts(10, grey=0.3).plan(32, 32, 16, torch.Generator())
    assert sum(cut.grey for cut in cuts) == 3


def test_a_schedule_changes_with_the_noise() -> None:
    early, late = Cutouts(2, overview=6), Cutouts(8)
    schedule = CutoutSchedule.of([(1.0, early), (0.4, late)])
    assert schedule.at(1.0) is early
    assert schedule.at(0.41) is early
    assert schedule.at(0.4) is late
    assert schedule.at(0.0) is late
    assert CutoutSchedule.of(0).at(0.5) == Cutouts(0, overview=1)


def test_gradients_reach_every_pixel_of_the_square() -> None:
    image = torch.rand(1, 3, 9, 9, dtype=torch.float64, requires_grad=True)
    (cut,) = Cutouts(1, grey=1.0).plan(9, 9, 4, torch.Generator().manual_seed(0))

    def take(x: Tensor) -> Tensor:
        return cut.take(x, 4)

    assert torch.autograd.gradcheck(take, image, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": -1}, "count must be a whole number"),
        ({"count": 0}, "count or overview above 0"),
        ({"power": 0.0}, "power must be above 0"),
        ({"grey": 1.5}, "grey a share of 0 to 1"),
        ({"smallest": 0}, "smallest must be a number of pixels"),
        ({"power": float("nan")}, "must be finite"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cutouts(**settings)  # type: ignore[arg-type]


def test_cutouts_larger_than_the_picture_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least 50 pixels do not fit into an image of 60 x 40;"):
        Cutouts(4, smallest=50).plan(40, 60, 16, torch.Generator())


@pytest.mark.parametrize("rows", [[], [(0.5, Cutouts())], [(1.0, Cutouts()), (1.0, Cutouts())]])
def test_a_schedule_begins_at_1_and_falls(rows: list[tuple[float, Cutouts]]) -> None:
    with pytest.raises(ConfigError, match=r"begins at a share of noise of 1\.0 and falls"):
        CutoutSchedule.of(rows)
    with pytest.raises(ConfigError, match="cutouts must be a number"):
        CutoutSchedule.of(True)
