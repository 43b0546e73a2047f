"""A contact sheet: many small pictures with a few words each, as one HTML file.

Each picture is shown with its edges, which a model may not have seen. The pictures are inside the
file, which loads nothing, and it fits a phone and a dark screen. What the tiles say is the business
of the reports that use it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecliptic import __version__
from ecliptic.errors import ImageError
from ecliptic.inputs import ImageSource
from ecliptic.markup import Child, Html, document, inline_image, join, tag
from ecliptic.report.questions import Picture
from ecliptic.report.style import read_style

NO_PICTURE = "no picture"
_STYLE = """
.sheet {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr));
  gap: 0.8rem;
  margin-top: 1.2rem;
}
.tile {
  position: relative;
  overflow: hidden;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 0.8rem;
}
.tile img {
  width: 100%;
  height: auto;
  aspect-ratio: 1;
  object-fit: contain;
  background: var(--track);
  border-radius: 0;
}
.tile .missing {
  display: grid;
  place-items: center;
  aspect-ratio: 1;
  max-width: none;
  margin: 0;
  background: var(--track);
}
.tile .badge {
  position: absolute;
  top: 0.5rem;
  right: 0.5rem;
  margin: 0;
  padding: 0.05rem 0.5rem;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 1rem;
  font-weight: 700;
  font-variant-numeric: tabular-nums;
}
.tile div { padding: 0.5rem 0.7rem 0.6rem; }
.tile h3, .tile li { margin: 0; font-size: 0.85rem; line-height: 1.35; overflow-wrap: anywhere; }
.tile h3 { font-weight: 650; }
.curve { display: block; width: 100%; max-width: 36rem; height: auto; margin-top: 0.8rem; }
.tile ul { margin: 0.15rem 0 0; padding: 0; list-style: none; color: var(--soft); }
"""


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet."""

    picture: "ImageSource | None"  # anything that is read as an image; None: there is no file
    title: str  # the first line below it, such as its name
    lines: Sequence[str] = ()  # more lines
    badge: str = ""  # a few characters over its corner, such as a score


def contact_sheet(
    title: str,
    lead: str,
    tiles: Iterable[Tile],
    sections: Iterable[tuple[str, Iterable[Tile]]] | None = None,
    figure: Child = "",
) -> Html:
    """The whole page.

    Args:
        title: the heading, and the title of the window.
        lead: what the pictures are and how they were chosen, below the heading.
        tiles: the pictures in order.
        sections: headings with more pictures, below the others; those without any are left out.
        figure: HTML below all pictures, such as a curve.
    """
    header = tag(
        "header",
        tag("p", "ecliptic", class_="brand"),
        tag("h1", title),
        tag("p", lead, class_="lead"),
    )
    filled = ((heading, list(some)) for heading, some in sections or ())
    main = tag(
        "main",
        _show_tiles(list(tiles)),
        (tag("section", tag("h2", name), _show_tiles(some)) for name, some in filled if some),
        figure,
    )
    note = f"Written by ecliptic {__version__}. This page loads nothing from the network."
    footer = tag("footer", tag("p", note))
    return document(title, read_style() + _STYLE, header, main, footer, description=lead)


def shorten_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without its folders, which tell about whoever shares the page.

    Where different files end alike, so many folders stay as tell them apart.
    """
    parts = {name: Path(name).parts or (name,) for name in names}
    depths = dict.fromkeys(parts, 1)
    while True:
        short = {name: str(Path(*parts[name][-depth:])) for name, depth in depths.items()}
        times = Counter(short.values())
        alike = [one for one in parts if times[short[one]] > 1 and depths[one] < len(parts[one])]
        if not alike:
            return short
        for name in alike:
            depths[name] += 1


def _show_tiles(tiles: Sequence[Tile]) -> Html:
    return tag("div", map(_show_tile, tiles), class_="sheet") if tiles else join([])


def _show_tile(tile: Tile) -> Html:
    lines = tag("ul", (tag("li", line) for line in tile.lines)) if tile.lines else ""
    badge = tag("p", tile.badge, class_="badge") if tile.badge else ""
    words = tag("div", tag("h3", tile.title), lines)
    return tag("article", _show_picture(tile), badge, words, class_="tile")


def _show_picture(tile: Tile) -> Html:
    if tile.picture is None:
        return tag("p", NO_PICTURE, class_="missing")
    try:
        return inline_image(Picture(tile.title, tile.picture).whole, tile.title)
    except ImageError:  # it was readable when it was encoded
        return tag("p", "cannot be read any more", class_="missing")
