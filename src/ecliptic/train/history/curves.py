"""The curves of a run as an SVG: the loss, and what the evaluations found, over the steps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecliptic.markup import Html, join, tag

CURVES = "curves.svg"
WIDTH, LEFT, RIGHT = 860, 64, 250  # pixels; the legend stands on the right
HEIGHT, TOP, BOTTOM = 280, 40, 44  # of a panel
MOST_POINTS = 600  # of a curve
TICKS = 5
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito
INK, GRID = "#222222", "#dddddd"


@dataclass(frozen=True)
class Curve:
    """One line of a panel."""

    name: str
    points: Sequence[tuple[int, float]]  # (step, value)
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves with common axes."""

    title: str
    curves: Sequence[Curve]
    low: float
    high: float


def draw_curves(name: str, lines: Iterable[Mapping[str, Any]]) -> str:
    """An SVG of the lines of `metrics.jsonl`.

    Args:
        name: of the run, for the title.
        lines: each has a "step", and a "loss" or an "evaluation".
    """
    lines = list(lines)
    panels = [panel for panel in (_loss_panel(name, lines), _recall_panel(lines)) if panel]
    last = max((line["step"] for line in lines), default=1)
    height = HEIGHT * len(panels)
    drawn = [_draw_panel(panel, HEIGHT * place, last) for place, panel in enumerate(panels)]
    paper = tag("rect", width="100%", height="100%", fill="white")
    return tag(
        "svg",
        *(paper, *drawn),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=str(WIDTH),
        height=str(height),
        font_family="system-ui, sans-serif",
        font_size="12",
        fill=INK,
    )


def _loss_panel(name: str, lines: Sequence[Mapping[str, Any]]) -> Panel:
    """The loss and, dashed, those of the text pairs and of the concepts alone."""
    found = {
        key: [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        for key in ("loss", "text_loss", "concept_loss")
    }
    values = [value for points in found.values() for _, value in points] or [0.0]
    low, high = min(0.0, *values), max(values)
    curves = [Curve("loss", found["loss"], COLOURS[0])]
    for key, colour in (("text_loss", COLOURS[1]), ("concept_loss", COLOURS[2])):
        if found[key]:
            curves.append(Curve(key, found[key], colour, dashed=True))
    return Panel(f"{name}: loss", curves, low, high if high > low else low + 1.0)


def _recall_panel(lines: Sequence[Mapping[str, Any]]) -> Panel | None:
    """Recall at 1 and, dashed, at 5."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for key, value in line.get("evaluation", {}).items():
            if value is not None and key.endswith((".at_1", ".at_5")):
                found.setdefault(key, []).append((line["step"], value))
    if not found:
        return None
    tasks = list(dict.fromkeys(key.rpartition(".")[0] for key in found))
    colours = {task: COLOURS[place % len(COLOURS)] for place, task in enumerate(tasks)}
    curves = [
        Curve(key, points, colours[key.rpartition(".")[0]], dashed=key.endswith("at_5"))
        for key, points in found.items()
    ]
    return Panel("evaluation: share of pairs found", curves, 0.0, 1.0)


def _draw_panel(panel: Panel, above: int, last: int) -> Html:
    """The axes, curves and legend of a panel that begins at the height `above`."""
    right, bottom = WIDTH - RIGHT, above + HEIGHT - BOTTOM
    top = above + TOP
    ticks = _choose_ticks(panel.low, panel.high)
    high = max(panel.high, ticks[-1])

    def x(step: float) -> float:
        return round(LEFT + (right - LEFT) * step / max(1, last), 1)

    def y(value: float) -> float:
        return round(bottom - (bottom - top) * (value - panel.low) / (high - panel.low), 1)

    parts = [tag("text", panel.title, x=str(LEFT), y=str(above + 24), font_weight="bold")]
    for value in ticks:
        parts += [_line(LEFT, y(value), right, y(value), GRID)]
        parts += [_label(f"{value:g}", LEFT - 8, y(value) + 4, "end")]
    for step in _choose_ticks(0, last):
        if step == int(step):
            parts += [_line(x(step), bottom, x(step), bottom + 5, INK)]
            parts += [_label(f"{step:,.0f}", x(step), bottom + 19, "middle")]
    parts += [_line(LEFT, bottom, right, bottom, INK), _line(LEFT, top, LEFT, bottom, INK)]
    parts += [_label("step", right, bottom + 36, "end")]
    for place, curve in enumerate(panel.curves):
        points = [(x(step), y(value)) for step, value in _thin(curve.points)]
        parts += [_draw_curve(points, curve), _draw_legend(curve, right + 16, top + 18 * place)]
    return join(parts)


def _draw_curve(points: Sequence[tuple[float, float]], curve: Curve) -> Html:
    dash = {"stroke_dasharray": "5 3"} if curve.dashed else {}
    line = tag(
        "polyline",
        points=" ".join(f"{x},{y}" for x, y in points),
        fill="none",
        stroke=curve.colour,
        stroke_width="1.8",
        stroke_linejoin="round",
        **dash,
    )
    few = points if len(points) <= 40 else ()
    dots = [tag("circle", cx=str(x), cy=str(y), r="2.2", fill=curve.colour) for x, y in few]
    return join([line, *dots])


def _draw_legend(curve: Curve, x: float, y: float) -> Html:
    value = f"  {curve.points[-1][1]:.3g}" if curve.points else ""
    dash = {"stroke_dasharray": "5 3"} if curve.dashed else {}
    return join(
        [
            _line(x, y, x + 20, y, curve.colour, stroke_width="2", **dash),
            _label(f"{curve.name}{value}", x + 26, y + 4, "start"),
        ]
    )


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, **more: str) -> Html:
    return tag("line", x1=str(x1), y1=str(y1), x2=str(x2), y2=str(y2), stroke=stroke, **more)


def _label(text: str, x: float, y: float, anchor: str) -> Html:
    return tag("text", text, x=str(x), y=str(y), text_anchor=anchor)


def _choose_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` or above it to `high` or the next one, about `TICKS` of them."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / distance), math.floor(high / distance + 0.3)
    return [round(n * distance, 10) for n in range(first, last + 1)]


def _thin(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """At most `MOST_POINTS` of the points, the last one among them."""
    every = math.ceil(len(points) / MOST_POINTS) or 1
    return [*points[:-1][::every], *points[-1:]]
