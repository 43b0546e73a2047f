"""Draws a text from nothing: random strokes move until the model sees the text in them.

Source: Frans, Soros, Witkowski 2021, CLIPDraw, arXiv:2106.14843.
"""

from dataclasses import dataclass

from torch import Tensor

from ecliptic.checks import check_count, check_range
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.guidance.canvases.strokes import WHITE, StrokesCanvas
from ecliptic.guidance.losses.clip_loss import ClipLoss
from ecliptic.guidance.losses.views import OverViews, Views
from ecliptic.guidance.losses.weighted import WeightedLoss
from ecliptic.guidance.optimising import Optimised, StepReport, optimise
from ecliptic.inputs import fill

TEMPLATES = ("{}", "a drawing of {}", "an icon of {}")  # the loss is the mean over them
BLUR, NOISE = 2, 0.1  # of the views: pixels at 64 a side, share of the values
SMALLEST, LARGEST = 16, 1024  # pixels of a side


@dataclass(frozen=True)
class SketchSettings:
    """How a sketch is drawn."""

    strokes: int = 40
    steps: int = 150
    size: int = 64  # pixels per side while it is drawn; the SVG has any size
    views: int = 8  # per step
    ink: float = 0.1  # weight of the mean difference from the paper; more makes it sparse
    seed: int = 0
    paper: tuple[float, float, float] = WHITE

    def __post_init__(self) -> None:
        for name in ("strokes", "steps", "views"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, least=0)
        check_range("ink", self.ink)
        check_size(self.size)


def check_size(size: int) -> None:
    """Raise ConfigError unless `size` is a side that can be drawn."""
    check_count("size", size, least=SMALLEST)
    if size > LARGEST:
        raise ConfigError(
            f"size must be at most {LARGEST} pixels, got {size}; a drawing of strokes can be "
            "enlarged afterwards."
        )


@dataclass(frozen=True)
class Sketch:
    """A drawing of a text."""

    text: str
    canvas: StrokesCanvas
    way: Optimised
    before: float  # cosine of the picture with the text, at the start
    after: float  # and at the end

    def svg(self) -> str:
        """The drawing as SVG."""
        return self.canvas.svg(self.text)


def sketch(
    text: str, clip: Clip, settings: SketchSettings | None = None, report: StepReport | None = None
) -> Sketch:
    """Draw `text` with strokes, from random ones.

    Args:
        text: what to draw.
        clip: with both towers; judges the drawing.
        settings: None draws the default 40 strokes.
        report: called after each step with its number, from 1, and the loss before it.

    Raises:
        ConfigError: an empty text.
        TextError: a text that cannot be tokenized.
        MissingTowerError: the checkpoint lacks a side.
        NumericalError: the model gives NaN before the first step.
    """
    how = settings or SketchSettings()
    if not text.strip():
        raise ConfigError("the text is empty; say what to draw.")
    likeness = ClipLoss(clip, fill(TEMPLATES, text), cutouts=0, distance="cosine")
    canvas = StrokesCanvas.blank(how.strokes, (how.size, how.size), how.paper, how.seed)
    before = float(likeness.similarity(canvas.render())[0, 0])
    blur = max(1, round(BLUR * how.size / 64))
    views = Views(how.views, "perspective", sum(how.paper) / 3, blur, NOISE)

    def judge(images: Tensor) -> Tensor:
        return likeness(images.to(clip.device)).to(images.device)

    paper = canvas.paper[:, None, None]

    def ink(images: Tensor) -> Tensor:
        return (images - paper).abs().mean((1, 2, 3))

    loss = WeightedLoss([(OverViews(judge, views, how.seed), 1.0), (ink, how.ink)])
    way = optimise(canvas, loss, how.steps, report=report, seed=how.seed)
    return Sketch(text, canvas, way, before, float(likeness.similarity(way.picture)[0, 0]))
