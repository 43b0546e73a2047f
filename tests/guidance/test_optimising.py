"""Optimising repeats exactly, stops where a loss breaks, and refuses what cannot work."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.guidance import (
    Adjustable,
    FourierCanvas,
    GeneratorCanvas,
    MaskedCanvas,
    OverViews,
    StrokesCanvas,
    Views,
    WeightedLoss,
    optimise,
)
from tests.guidance.slopes import check_slopes


def darkness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


def test_the_loss_falls_and_the_way_is_kept() -> None:
    seen: list[tuple[int, float]] = []
    canvas = FourierCanvas.blank((8, 8))
    done = optimise(canvas, darkness, 10, frames=3, report=lambda *step: seen.append(step))
    assert [frame.step for frame in done.frames] == [0, 5, 10]
    assert done.losses[-1] < done.losses[0]
    assert seen == list(enumerate(done.losses, start=1))
    assert torch.equal(done.picture, canvas.render())
    assert not done.picture.requires_grad
    assert not done.stopped


def test_the_same_seed_gives_the_same_bits() -> None:
    def noisy(images: Tensor) -> Tensor:
        return (images * torch.rand(images.shape)).mean((1, 2, 3))

    losses = [OverViews(darkness, Views(2)), OverViews(darkness, Views(2, "jitter")), noisy]
    for loss in (*losses, WeightedLoss([(one, 1.0) for one in losses])):
        state = torch.random.get_rng_state()
        first, again = (optimise(StrokesCanvas.blank(4, (8, 8)), loss, 4) for _ in range(2))
        assert torch.equal(first.picture, again.picture)
        assert first.losses == again.losses
        assert torch.equal(state, torch.random.get_rng_state())
    other = optimise(StrokesCanvas.blank(4, (8, 8)), noisy, 4, seed=1)
    assert other.losses != optimise(StrokesCanvas.blank(4, (8, 8)), noisy, 4).losses


class Breaking:
    """A loss that is fine for some calls."""

    def __init__(self, value: float | Exception, after: int = 3) -> None:
        self.value, self.calls, self.after = value, 0, after

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls <= self.after:
            return darkness(images)
        if isinstance(self.value, Exception):
            raise self.value
        return darkness(images) * self.value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "the loss became nan in step 4; the picture is that of step 2"),
        (math.inf, "the loss became inf in step 4"),
        (NumericalError("the CLIP loss is NaN."), "the CLIP loss is NaN. This was in step 4"),
    ],
)
def test_a_loss_that_breaks_keeps_the_best(value: Any, said: str) -> None:
    canvas = FourierCanvas.blank((8, 8))
    done = optimise(canvas, Breaking(value), 10)
    assert done.stopped
    assert said in done.notice
    assert len(done.losses) == 3
    assert done.picture.isfinite().all()
    assert float(done.picture.mean()) == pytest.approx(min(done.losses), abs=1e-6)
    with pytest.raises(NumericalError):
        optimise(canvas, Breaking(value, after=0), 10)


def test_a_gradient_that_breaks_stops_too() -> None:
    """The root has no slope at 0, where the loss itself is finite."""
    done = optimise(
        FourierCanvas.blank((8, 8)), lambda x: (x - x.detach()).square().mean((1, 2, 3)).sqrt(), 5
    )
    assert "a gradient became NaN or infinite in step 1" in done.notice
    assert done.picture.isfinite().all()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"frames": -1}, "frames must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_wrong_numbers_are_refused_before_the_first_step(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        optimise(FourierCanvas.blank((4, 4)), darkness, **{"steps": 1, **more})


def test_a_loss_without_rows_or_gradient_is_refused() -> None:
    canvas = FourierCanvas.blank((4, 4), batch=2)
    with pytest.raises(ShapeError, match=r"one number for each of the 2 pictures, got \(\)"):
        optimise(canvas, lambda x: x.mean(), 1)
    with pytest.raises(ConfigError, match="does not depend on the canvas"):
        optimise(canvas, lambda x: darkness(x.detach()), 1)
    with pytest.raises(ConfigError, match="the rate of a canvas must be a number above 0, got nan"):
        Adjustable(torch.zeros(1), math.nan)


def test_a_mask_keeps_every_bit_outside() -> None:
    picture = torch.rand(1, 3, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    mask[..., 4] = 0.5
    done = optimise(MaskedCanvas(FourierCanvas.of(picture), picture, mask), darkness, 5)
    assert torch.equal(done.picture[..., 5:], picture[..., 5:])
    assert done.picture[..., :4].mean() < picture[..., :4].mean() - 0.01
    assert not torch.equal(done.picture[..., 4], picture[..., 4])


def test_a_mask_of_another_size_or_all_black_is_refused() -> None:
    picture = torch.rand(1, 3, 8, 9)
    canvas = FourierCanvas.of(picture)
    with pytest.raises(ShapeError, match="the mask is 4 x 8 pixels, but the picture is 9 x 8"):
        MaskedCanvas(canvas, picture, torch.ones(1, 1, 8, 4))
    with pytest.raises(ConfigError, match="black everywhere"):
        MaskedCanvas(canvas, picture, torch.zeros(1, 1, 8, 9))


def test_the_input_of_a_generator_changes_and_is_held() -> None:
    def generator(z: Tensor) -> Tensor:
        return z.sigmoid()[:, :, None, None].expand(-1, 3, 4, 4)

    drifts = []
    for weight in (0.0, 1.0):
        canvas = GeneratorCanvas(generator, torch.zeros(2, 3))
        optimise(canvas, WeightedLoss([(darkness, 1.0), (canvas.drift, weight)]), 20)
        drifts.append(float(canvas.drift(canvas.render()).detach().sum()))
    assert drifts[1] < drifts[0] / 2
    assert (canvas.start == 0).all()
    with pytest.raises(ConfigError, match="z must be finite"):
        GeneratorCanvas(generator, torch.full((1, 3), math.inf))
    with pytest.raises(ShapeError, match=r"must render \(B, 3, H, W\), got \(2, 3\)"):
        optimise(GeneratorCanvas(lambda z: z, torch.zeros(2, 3)), darkness, 1)


@pytest.mark.parametrize("kind", ["perspective", "jitter"])
def test_views_have_true_gradients_and_white_beyond_the_edge(kind: Any) -> None:
    loss = OverViews(lambda x: x.square().mean((1, 2, 3)), Views(3, kind), seed=2)

    def first(x: Tensor) -> Tensor:
        loss.restart()
        return loss(x)

    check_slopes(first, torch.rand(2, 3, 9, 12))
    assert first(torch.ones(1, 3, 9, 9)).tolist() == pytest.approx([1.0])
    assert torch.equal(first(torch.zeros(1, 3, 9, 9)), first(torch.zeros(1, 3, 9, 9)))


def test_views_of_a_batch_are_those_of_each_picture() -> None:
    views = Views(4, blur=2, noise=0.1)
    draw = views.draw(torch.Generator().manual_seed(0))
    images = torch.rand(3, 3, 8, 8)
    one_by_one = torch.cat([views.look(image[None], draw) for image in images])
    torch.testing.assert_close(views.look(images, draw), one_by_one)


def test_the_statistics_of_views_are_those_published() -> None:
    """CLIPDraw cuts out 0.7 to 0.9 of the area; lucid scales by 0.9 to 1.1 and turns by 10 deg."""
    maps = Views(2000, "jitter").draw(torch.Generator().manual_seed(0)).maps
    scales = 1 / maps[:, :2, 0].norm(dim=1)
    turns = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    for values, low, high in ((scales, 0.9, 1.1), (turns, -10, 10), (maps[:, 0, 2] * 112, -8, 8)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-4
    with pytest.raises(ConfigError, match="kind must be one of perspective, jitter"):
        Views(1, "perspectiv")  # type: ignore[arg-type]
