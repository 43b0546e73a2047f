"""Draws a text from nothing: random strokes move until the model sees the text in them.

Source: Frans, Soros, Witkowski 2021, CLIPDraw, arXiv:2106.14843.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.checks import check_count
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.guidance.canvases.strokes import WHITE, StrokesCanvas
from ecliptic.guidance.optimising import Optimised, Report, optimise
from ecliptic.guidance.seeing import see
from ecliptic.guidance.views import OverViews, Views

SMALLEST, LARGEST = 16, 1024  # pixels of a side


@dataclass(frozen=True)
class SketchSettings:
    """How a sketch is drawn."""

    strokes: int = 48
    steps: int = 200
    size: int = 96  # pixels per side while it is drawn; the SVG has any size
    views: int = 8  # per step
    seed: int = 0
    paper: tuple[float, float, float] = WHITE

    def __post_init__(self) -> None:
        for name in ("strokes", "steps", "views"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, least=0)
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


class Likeness:
    """1 minus the cosine of a picture with a text."""

    def __init__(self, clip: Clip, text: str) -> None:
        self.clip = clip
        self.vector = clip.encode_text(text).to(clip.device)  # (1, E)

    def __call__(self, images: Tensor) -> Tensor:
        """(B,) losses, 0 to 2."""
        seen = see(self.clip, images)
        return 1 - (seen * self.vector.to(seen)).sum(1)


def sketch(
    text: str, clip: Clip, settings: SketchSettings | None = None, report: Report | None = None
) -> Sketch:
    """Draw `text` with strokes, from random ones.

    Args:
        text: what to draw.
        clip: with both towers; judges the drawing.
        settings: None draws the default 48 strokes.
        report: called after each step with its number, from 1, and the loss before it.

    Raises:
        TextError: a text that cannot be tokenized, or is empty.
        MissingTowerError: the checkpoint lacks a side.
        NumericalError: the model gives NaN before the first step.
    """
    how = settings or SketchSettings()
    likeness = Likeness(clip, text)
    canvas = StrokesCanvas.blank(how.strokes, (how.size, how.size), how.paper, how.seed)
    with torch.no_grad():
        before = 1 - float(likeness(canvas.render()))
    loss = OverViews(likeness, Views(how.views, "perspective", how.paper[0]))
    way = optimise(canvas, loss, how.steps, report=report, seed=how.seed)
    with torch.no_grad():
        after = 1 - float(likeness(way.picture))
    return Sketch(text, canvas, way, before, after)
