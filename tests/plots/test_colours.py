from itertools import pairwise

import pytest

from ecliptic.plots import SEQUENTIAL, colour_at, ink_on
from ecliptic.plots.colours import luminance


def test_higher_values_are_always_darker() -> None:
    shades = [luminance(colour_at(step / 100)) for step in range(101)]
    assert all(darker < lighter for lighter, darker in pairwise(shades))


def test_equal_steps_look_about_equally_large() -> None:
    """Lightness is about the cube root of luminance; it falls by similar amounts."""
    roots = [luminance(colour) ** (1 / 3) for colour in SEQUENTIAL]
    falls = [lighter - darker for lighter, darker in pairwise(roots)]
    assert max(falls) < 1.5 * min(falls)


def test_values_outside_the_range_take_the_end_colours() -> None:
    assert colour_at(-3.0) == SEQUENTIAL[0]
    assert colour_at(3.0) == SEQUENTIAL[-1]


@pytest.mark.parametrize("step", range(21))
def test_numbers_can_be_read_on_every_colour(step: int) -> None:
    ground = colour_at(step / 20)
    bright, dark = sorted((luminance(ground), luminance(ink_on(ground))), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.3  # WCAG asks 4.5 of small text, 3 of large
