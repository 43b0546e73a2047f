"""A Fourier canvas begins as its picture, has true gradients, and decorrelates colours."""

from pathlib import Path

import pytest
import torch

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import FourierCanvas, optimise
from ecliptic.guidance.editing import read_picture
from tests.guidance.slopes import check_slopes

CAT = Path(__file__).parents[3] / "src" / "ecliptic" / "report" / "drawings" / "cat.png"


@pytest.mark.parametrize("size", [(96, 96), (31, 40), (1, 5)])
def test_it_renders_the_picture_that_it_starts_from(size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    picture[0, :, 0, 0], picture[1, :, 0, 0] = 0.0, 1.0
    found = FourierCanvas.of(picture).render()
    assert (found - picture).abs().max() < 1 / 255


def test_a_drawing_with_white_paper_comes_back_too() -> None:
    picture = read_picture(CAT)
    assert (FourierCanvas.of(picture).render() - picture).abs().max() < 1 / 255


def test_a_blank_canvas_is_grey_and_repeats_with_its_seed() -> None:
    assert (FourierCanvas.blank((8, 9), noise=0.0).render() == 0.5).all()
    first, again, other = (FourierCanvas.blank((8, 9), 2, seed).render() for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (2, 3, 8, 9)


def test_gradients_are_the_slopes() -> None:
    canvas = FourierCanvas.blank((6, 7), noise=0.3)
    weights = torch.rand(1, 3, 6, 7, dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        canvas.coefficients = x
        return (canvas.render() * weights).sum()

    check_slopes(loss, canvas.coefficients)


def test_slow_waves_change_more_than_fast_ones() -> None:
    """The scale is 1/f, so a step of one size in all coefficients makes a smooth change."""
    canvas = FourierCanvas.blank((32, 32), noise=0.0)
    changes = []
    for place in (1, 8):
        coefficients = torch.zeros_like(canvas.coefficients)
        coefficients[..., 0, place, 0] = 0.01
        moved = FourierCanvas(coefficients, (32, 32)).render() - 0.5
        changes.append(float(moved.detach().abs().max()))
    assert changes[0] == pytest.approx(8 * changes[1], rel=0.05)


@pytest.mark.parametrize(
    ("picture", "error", "said"),
    [
        (torch.zeros(3, 4, 4), ShapeError, r"must be \(B, 3, H, W\), got \(3, 4, 4\)"),
        (torch.full((1, 3, 4, 4), 2.0), ConfigError, "values 0 to 1, got 2 to 2"),
        (torch.full((1, 3, 4, 4), float("nan")), ConfigError, "must be finite"),
    ],
)
def test_what_is_no_picture_is_refused(
    picture: torch.Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        FourierCanvas.of(picture)


def test_a_rate_must_be_finite() -> None:
    with pytest.raises(ConfigError, match="rate must be a number above 0, got nan"):
        FourierCanvas.of(torch.zeros(1, 3, 4, 4), rate=float("nan"))


def test_it_reaches_another_picture() -> None:
    wanted = FourierCanvas.blank((8, 8), seed=2, noise=0.2).render().detach()
    canvas = FourierCanvas.blank((8, 8))
    done = optimise(canvas, lambda x: (x - wanted).square().mean((1, 2, 3)), 60)
    assert done.losses[-1] < done.losses[0] / 5
