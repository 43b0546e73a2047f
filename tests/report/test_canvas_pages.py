"""The curve of a loss is a small SVG that is valid, scales, and uses the page's colours."""

import xml.etree.ElementTree as ET

import pytest

from ecliptic.report.loss_curve import MOST_POINTS, WIDTH, loss_curve


@pytest.mark.parametrize("losses", [[1.0], [2.0, 2.0], [0.1 * n for n in range(5000)]])
def test_the_curve_spans_the_drawing_and_is_not_too_long(losses: list[float]) -> None:
    root = ET.fromstring(loss_curve(losses))
    assert root.get("width") is None  # the page decides
    points = [
        tuple(map(float, point.split(",")))
        for point in root.findall("polyline")[0].attrib["points"].split()
    ]
    assert len(points) <= MOST_POINTS + 1
    assert all(0 <= x <= WIDTH for x, _ in points)
    colours = {one.get("stroke") or one.get("fill") for one in root}
    assert colours <= {None, "var(--line)", "var(--accent)", "var(--soft)"}
