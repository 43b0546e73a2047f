"""A loss over the steps as a small SVG inside a page, in the colours of the page."""

import math
from collections.abc import Sequence

from ecliptic.markup import Html, tag

WIDTH, HEIGHT = 480, 180  # units of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 30
MOST_POINTS = 400


def loss_curve(losses: Sequence[float]) -> Html:
    """The curve with its axes; it fits a phone and a dark screen.

    Args:
        losses: of each step, at least one.
    """
    low, high = min(losses), max(losses)
    room = (high - low) or 1.0
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    every = math.ceil(len(losses) / MOST_POINTS)
    places = sorted({*range(0, len(losses), every), len(losses) - 1})
    points = " ".join(
        f"{LEFT + (right - LEFT) * n / max(1, len(losses) - 1):.1f},"
        f"{bottom - (bottom - TOP) * (losses[n] - low) / room:.1f}"
        for n in places
    )
    axis = f"M {LEFT} {TOP} V {bottom} H {right}"
    return tag(
        "svg",
        tag("title", f"loss from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps"),
        tag("path", d=axis, fill="none", stroke="var(--line)", stroke_width="1.5"),
        tag("polyline", points=points, fill="none", stroke="var(--accent)", stroke_width="2"),
        _label(f"{high:.3g}", LEFT - 6, TOP + 5, "end"),
        _label(f"{low:.3g}", LEFT - 6, bottom, "end"),
        _label("1", LEFT, HEIGHT - 10, "middle"),
        _label(f"step {len(losses):,}", right, HEIGHT - 10, "end"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="curve",
    )


def _label(text: str, x: float, y: float, anchor: str) -> Html:
    return tag(
        "text", text, x=str(x), y=str(y), text_anchor=anchor, fill="var(--soft)", font_size="15"
    )
