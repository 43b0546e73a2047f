"""The colour map of every heat map, as data, and the ink that is readable on it.

Eleven colours whose lightness and hue change evenly (OKLCh: L 0.975 to 0.31, hue 100 to 275
degrees), so that equal steps of a value look equal, also in grey. OKLab: Ottosson 2020,
https://bottosson.github.io/posts/oklab.
"""

from itertools import pairwise

RGB = tuple[int, int, int]

SEQUENTIAL: tuple[RGB, ...] = (  # low to high
    (0xFC, 0xF8, 0xDF),
    (0xDA, 0xE7, 0xBE),
    (0xAF, 0xD9, 0xA8),
    (0x7B, 0xCA, 0x9F),
    (0x34, 0xB9, 0x9F),
    (0x12, 0xA1, 0xA0),
    (0x04, 0x88, 0x9A),
    (0x05, 0x70, 0x91),
    (0x01, 0x58, 0x89),
    (0x01, 0x3B, 0x8D),
    (0x21, 0x21, 0x74),
)
BLACK: RGB = (16, 20, 28)
WHITE: RGB = (255, 255, 255)
_STEPS = tuple(pairwise(SEQUENTIAL))


def colour_at(share: float) -> RGB:
    """The colour at `share` between low (0) and high (1); values outside are clamped."""
    place = min(max(share, 0.0), 1.0) * len(_STEPS)
    step = min(int(place), len(_STEPS) - 1)
    low, high = _STEPS[step]
    red, green, blue = (round(a + (b - a) * (place - step)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def ink_on(colour: RGB) -> RGB:
    """Black or white, whichever has more contrast on `colour`."""
    ground = luminance(colour)
    against_white = (1.0 + 0.05) / (ground + 0.05)
    against_black = (ground + 0.05) / (luminance(BLACK) + 0.05)
    return WHITE if against_white > against_black else BLACK


def luminance(colour: RGB) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1, "relative luminance")."""
    weights = (0.2126, 0.7152, 0.0722)
    return sum(w * _linear(value / 255) for w, value in zip(weights, colour, strict=True))


def _linear(value: float) -> float:
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)
