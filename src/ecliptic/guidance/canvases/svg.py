"""Strokes as an SVG file of 1.1: plain paths that drawing programs and browsers read."""

from torch import Tensor

from ecliptic.guidance.canvases.rasteriser import Strokes
from ecliptic.markup import Html, tag

DIGITS = 3  # after the point of coordinates, pixels


def write_svg(strokes: Strokes, paper: Tensor, size: tuple[int, int], title: str = "") -> str:
    """The drawing as text: a rectangle of paper and a path for each stroke, in order.

    Args:
        strokes: in pixels of `size`.
        paper: (3,) red, green, blue, 0 to 1.
        size: H and W, pixels; the drawing can be shown in any size.
        title: what it shows, for people who do not see it.
    """
    high, wide = map(str, size)
    rows = zip(
        strokes.points.detach().tolist(),
        strokes.widths.detach().tolist(),
        strokes.colours.detach().tolist(),
        strokes.opacities.detach().tolist(),
        strict=True,
    )
    return tag(
        "svg",
        tag("title", title) if title else "",
        tag("rect", width=wide, height=high, fill=_hex(paper.detach().tolist())),
        (_path(points, width, colour, opacity) for points, width, colour, opacity in rows),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {wide} {high}",
        width=wide,
        height=high,
    )


def _path(points: list[list[float]], width: float, colour: list[float], opacity: float) -> Html:
    start, *others = (" ".join(_number(x) for x in point) for point in points)
    return tag(
        "path",
        d=f"M {start} C {', '.join(others)}",
        fill="none",
        stroke=_hex(colour),
        stroke_width=_number(width),
        stroke_opacity=_number(opacity),
        stroke_linecap="round",
    )


def _number(value: float) -> str:
    return f"{value:.{DIGITS}f}".rstrip("0").rstrip(".")


def _hex(colour: list[float]) -> str:
    return "#" + "".join(f"{round(255 * min(max(part, 0), 1)):02x}" for part in colour)
