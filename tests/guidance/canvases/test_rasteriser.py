"""Strokes are drawn as Pillow draws them, with true gradients, and read back from SVG."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import Strokes, StrokesCanvas, rasterise
from ecliptic.guidance.canvases import rasteriser
from ecliptic.guidance.canvases.rasteriser import curve
from tests.guidance.slopes import check_slopes

WHITE, SIZE = torch.ones(3), (40, 48)
PARTS = ("points", "widths", "colours", "opacities")


def straight(y: float, width: float, opacity: float = 1.0) -> Strokes:
    """A black stroke along the rows, over the whole of 48 pixels."""
    points = torch.tensor([[[-20.0, y], [10.0, y], [40.0, y], [70.0, y]]])
    return Strokes(points, torch.tensor([width]), torch.zeros(1, 3), torch.tensor([opacity]))


def some_strokes(count: int = 5, seed: int = 0, dtype: torch.dtype = torch.float32) -> Strokes:
    canvas = StrokesCanvas.blank(count, SIZE, seed=seed)
    kept = canvas.strokes().detached()
    return Strokes(*(getattr(kept, part).to(dtype) for part in PARTS))


@pytest.mark.parametrize("width", [0.3, 1.0, 2.0, 5.5])
@pytest.mark.parametrize("y", [20.0, 20.5, 20.37])
def test_a_straight_stroke_covers_its_width(width: float, y: float) -> None:
    image = rasterise(straight(y, width), WHITE, SIZE)
    covered = (1 - image[0, 0]).sum(0)  # of each column
    torch.testing.assert_close(covered, torch.full((48,), width), rtol=0, atol=1e-4)


def test_strokes_lie_over_each_other_in_order() -> None:
    lower, upper = straight(20.0, 8.0), straight(20.0, 8.0, opacity=0.25)
    lower = replace(lower, colours=torch.tensor([[1.0, 0.0, 0.0]]))
    both = Strokes(*(torch.cat([getattr(lower, p), getattr(upper, p)]) for p in PARTS))
    image = rasterise(both, WHITE, SIZE)
    torch.testing.assert_close(image[0, :, 20, 24], torch.tensor([0.75, 0.0, 0.0]))
    torch.testing.assert_close(image[0, :, 0, 0], WHITE)


@pytest.mark.parametrize("seed", range(3))
def test_pillow_draws_the_same(seed: int) -> None:
    """Discs along the curve at 16 times the size: they differ by 0.003 on average, 0.25 at most."""
    strokes = replace(some_strokes(6, seed), opacities=torch.ones(6))
    found = rasterise(strokes, WHITE, SIZE)[0]
    fine = 16
    image = Image.new("RGB", (SIZE[1] * fine, SIZE[0] * fine), "white")
    draw = ImageDraw.Draw(image)
    for points, width, colour in zip(
        curve(strokes.points, 200), strokes.widths, strokes.colours, strict=True
    ):
        radius = float(width) / 2 * fine
        for x, y in (points * fine).tolist():  # a disc at each of 200 places
            box = (x - radius - 0.5, y - radius - 0.5, x + radius - 0.5, y + radius - 0.5)
            draw.ellipse(box, fill=tuple(round(255 * c) for c in colour.tolist()))
    values = np.asarray(image, dtype=np.float32).reshape(SIZE[0], fine, SIZE[1], fine, 3) / 255
    wanted = torch.from_numpy(values.mean((1, 3))).permute(2, 0, 1)
    difference = (found - wanted).abs()
    assert difference.mean() < 0.003
    assert difference.max() < 0.25


@pytest.mark.parametrize("part", PARTS)
def test_gradients_are_the_slopes(part: str) -> None:
    strokes = some_strokes(4, dtype=torch.float64)
    weights = torch.rand(1, 3, *SIZE, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return rasterise(replace(strokes, **{part: x}), WHITE.double(), SIZE) * weights

    check_slopes(loss, getattr(strokes, part), tolerance=2e-3 if part == "points" else 1e-5)


def test_a_stroke_of_one_point_has_finite_gradients() -> None:
    """Nothing divides by its length, which is 0, nor by the distance of its own pixel."""
    points = torch.full((1, 4, 2), 10.5, requires_grad=True)
    strokes = Strokes(points, torch.tensor([3.0]), torch.zeros(1, 3), torch.ones(1))
    image = rasterise(strokes, WHITE, SIZE)
    (gradient,) = torch.autograd.grad(image.square().sum(), points)
    assert gradient.isfinite().all()
    assert float(1 - image[0, 0, 10, 10].detach()) == pytest.approx(1)


def test_blocks_of_strokes_give_the_same_picture_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = []
    for at_once in (rasteriser.AT_ONCE, 1):
        monkeypatch.setattr(rasteriser, "AT_ONCE", at_once)
        canvas = StrokesCanvas.blank(5, SIZE)
        image = canvas.render()
        leaves = [one.tensor for one in canvas.parameters()]
        results.append([image, *torch.autograd.grad(image.square().sum(), leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def read_svg(text: str) -> tuple[Strokes, Tensor, tuple[int, int]]:
    """The strokes, paper and size of an SVG, by the XML parser of Python."""
    root = ET.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    paths = root.findall(f"{name}path")
    assert {path.get("stroke-linecap") for path in paths} == {"round"}
    assert {path.get("fill") for path in paths} == {"none"}

    def rgb(hexes: str) -> list[float]:
        return [int(hexes[n : n + 2], 16) / 255 for n in (1, 3, 5)]

    numbers = [
        [
            float(x)
            for x in path.attrib["d"].replace("M", "").replace("C", "").replace(",", " ").split()
        ]
        for path in paths
    ]
    strokes = Strokes(
        torch.tensor(numbers).view(-1, 4, 2),
        torch.tensor([float(path.attrib["stroke-width"]) for path in paths]),
        torch.tensor([rgb(path.attrib["stroke"]) for path in paths]),
        torch.tensor([float(path.attrib["stroke-opacity"]) for path in paths]),
    )
    paper = torch.tensor(rgb(root.find(f"{name}rect").attrib["fill"]))  # type: ignore[union-attr]
    return strokes, paper, (int(root.attrib["height"]), int(root.attrib["width"]))


def test_svg_is_read_back_as_the_same_picture() -> None:
    canvas = StrokesCanvas.blank(6, SIZE, paper=(0.2, 0.4, 1.0))
    text = canvas.svg("a cat < & >")
    assert "<title>a cat &lt; &amp; &gt;</title>" in text
    found = rasterise(*read_svg(text))
    assert (found - canvas.render()).abs().max() < 0.01


def test_a_larger_drawing_is_the_same_drawing() -> None:
    canvas = StrokesCanvas.blank(6, SIZE)
    large = canvas.enlarge((80, 96))
    back = torch.nn.functional.avg_pool2d(large, 2)
    assert (back - canvas.render()).abs().mean() < 0.01


def test_after_a_step_strokes_are_what_is_allowed() -> None:
    canvas = StrokesCanvas.blank(3, SIZE)
    for one in canvas.parameters():
        one.tensor.detach().fill_(50.0)
    canvas.after_step()
    strokes = canvas.strokes().detached()
    assert strokes.colours.max() == 1
    assert strokes.opacities.max() == 1
    assert float(strokes.widths.max()) == pytest.approx(0.4 * 40)
    assert strokes.points.max() < 100


def test_strokes_over_a_picture_are_near_it_before_they_are_fitted() -> None:
    picture = torch.ones(1, 3, 32, 32)
    picture[:, 1:, 8:24, 8:24] = 0.0  # a red square
    canvas = StrokesCanvas.over(picture, 40)
    assert torch.equal(canvas.render(), StrokesCanvas.over(picture, 40).render())
    assert len(canvas.strokes()) == 40
    blank = (1 - picture).square().mean()
    assert (canvas.render() - picture).square().mean() < blank / 3


def test_no_strokes_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="the number of strokes must be at least 1, got 0"):
        StrokesCanvas.blank(0, SIZE)
    with pytest.raises(ShapeError, match=r"widths of 1 strokes must be \(1,\), got \(2,\)"):
        replace(straight(1.0, 1.0), widths=torch.ones(2))
    with pytest.raises(ConfigError, match="a rate of strokes must be a number above 0"):
        StrokesCanvas(straight(1.0, 1.0), SIZE, rates=(0.1, 0.1, float("inf"), 0.1))
    with pytest.raises(ConfigError, match="at least one pixel, got 4 x 0"):
        rasterise(straight(1.0, 1.0), WHITE, (0, 4))


def test_a_long_picture_keeps_its_places() -> None:
    """The size of the work is rounded, 7 rows of 96 for 100 of 1300, so each axis has a factor."""
    canvas = StrokesCanvas.blank(1, (7, 96))
    points = torch.tensor([[[70.0, 3.5], [73.0, 3.5], [76.0, 3.5], [79.0, 3.5]]]) / 7
    canvas.parameters()[0].tensor.data.copy_(points)
    dark = 1 - canvas.enlarge((100, 1300))[0].mean(dim=(0, 1))
    middle = float((dark * torch.arange(1300)).sum() / dark.sum())
    assert middle == pytest.approx(74.5 / 96 * 1300, abs=8)


def test_a_large_picture_is_drawn_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = StrokesCanvas.blank(5, (20, 30), seed=2)
    with torch.no_grad():
        whole = rasterise(canvas.strokes(), canvas.paper, canvas.size)
        monkeypatch.setattr(rasteriser, "MOST_PIXELS", 30 * 7)
        bands = rasterise(canvas.strokes(), canvas.paper, canvas.size)
    torch.testing.assert_close(bands, whole)
