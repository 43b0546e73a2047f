"""The contact sheet of the images with the highest scores, and of a few with the lowest."""

from collections.abc import Sequence
from pathlib import Path

from ecliptic.report.contact_sheet import Tile, contact_sheet, shorten_names
from ecliptic.storage import replace_file, text_writer
from ecliptic.tasks import AestheticHead, ScoredImage, count_digits

MOST_TILES = 200  # of the best; a thumbnail is about 10 kB
LOWEST = 12  # of all images, to see what the head does not like


def write_best_of(
    path: Path, best: Sequence[ScoredImage], ranked: Sequence[ScoredImage], head: AestheticHead
) -> None:
    """Write the page to `path`, whose folder exists; an error leaves no partial file.

    Args:
        path: of the HTML file.
        best: the images to show, best first; at most `MOST_TILES` of them are shown.
        ranked: all images, best first.
        head: what gave the scores.
    """
    shown = best[:MOST_TILES]
    digits = count_digits([one.score for one in ranked])

    last = [one for one in ranked[-LOWEST:] if one.rank > len(shown)]
    short = shorten_names(one.name for one in (*shown, *last))

    def make_tile(one: ScoredImage) -> Tile:
        place, score = f"rank {one.rank:,}", f"{one.score:.{digits}f}"
        return Tile(one.source, short[one.name], [place], score)

    lowest = [("Lowest scores", map(make_tile, last))] if len(ranked) > len(shown) else []
    title = f"Best {len(shown):,} of {len(ranked):,} images"
    lead = f"The images with the highest scores by {head}, best first."
    if not best:
        low, high = (f"{ranked[end].score:.{digits}f}" for end in (-1, 0))
        lead = f"No image was kept: the scores by {head} are from {low} to {high}."
    if len(best) > len(shown):
        lead += f" {len(best) - len(shown):,} more were chosen than this page shows."
    if head.doubtful:
        lead += f" On images that it has not seen, {head} is not surely better than chance."
    replace_file(path, text_writer(contact_sheet(title, lead, map(make_tile, shown), lowest)))
