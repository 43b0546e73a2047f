"""The text of the demo's page is readable in both palettes (WCAG 2.1, contrast AA: 4.5)."""

import re
from pathlib import Path

import pytest

import ecliptic.report
from ecliptic.plots.colours import luminance

STYLE = Path(ecliptic.report.__file__).with_name("page.css").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#\w{6});", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
)
PAIRS = [  # text on ground
    *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "card")),
    *((ink, "card") for ink in ("right", "wrong")),
    *((ink, "chip") for ink in ("ink", "soft")),
]


def contrast(one: str, other: str) -> float:
    first, second = (
        luminance((int(c[1:3], 16), int(c[3:5], 16), int(c[5:], 16))) for c in (one, other)
    )
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), PAIRS)
def test_text_has_enough_contrast(palette: dict[str, str], ink: str, ground: str) -> None:
    assert contrast(palette[ink], palette[ground]) >= 4.5


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_bars_stand_out_from_their_track(palette: dict[str, str]) -> None:
    assert contrast(palette["bar"], palette["track"]) >= 2.5


def test_both_palettes_define_the_same_colours() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) == LIGHT.keys()


def test_a_phone_shows_two_cards_a_row_and_a_hint_beside_the_matrix() -> None:
    phone = STYLE[STYLE.index("@media (max-width: 34rem)") :]
    assert re.search(r"\.grid \{ grid-template-columns: repeat\(2, minmax\(0, 1fr\)\)", phone)
    assert re.search(r"@media \(max-width: 48rem\) \{\s*\.hint \{ display: block", STYLE)
    assert re.search(r"\.scroll \{ overflow-x: auto", STYLE)
