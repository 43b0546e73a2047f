"""The pages of a library: what a search found, and groups of pictures that resemble each other."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ecliptic.index import ColumnValue, StoreRow
from ecliptic.library import DuplicateGroup, Library, LibraryHits
from ecliptic.markup import Html
from ecliptic.report.contact_sheet import Tile, contact_sheet, shorten_names

_MOST_GROUPS = 200  # on a page
_MOST_OTHERS = 50  # of a group


def search_page(found: Sequence[LibraryHits], library: Library) -> Html:
    """One contact sheet with the hits of each query.

    Args:
        found: of one library.
        library: for its name and size.
    """
    count = len(library)
    title = f"Search: {found[0].asked}" if len(found) == 1 else f"{len(found)} searches"
    lead = (
        f"{library.folder.name}, {_count(count, 'picture')}, by "
        f"{library.about.name}. The number on a picture is its cosine with the query; only "
        "compare cosines of one query."
    )
    if len(found) == 1:
        return contact_sheet(title, lead, _tiles(found[0]))
    return contact_sheet(title, lead, [], [(hits.asked, _tiles(hits)) for hits in found])


def _tiles(hits: LibraryHits) -> list[Tile]:
    short = shorten_names(hits.ids)
    passed = f"of {hits.plan.candidates:,}"
    rows = zip(hits.ranks, hits.rows, hits.scores, hits.thumbnails(), strict=True)
    return [
        Tile(
            small,
            short[str(row["id"])],
            _lines(_folder(row), f"rank {rank:,} {passed}", _size(row)),
            f"{score:.3f}",
        )
        for rank, row, score, small in rows
    ]


def _lines(*lines: str) -> list[str]:
    return [line for line in lines if line]


def _size(row: Mapping[str, ColumnValue | None]) -> str:
    taken = row.get("taken")
    day = f", {taken:%Y-%m-%d}" if taken and not isinstance(taken, str | int | float) else ""
    return f"{_edges(row)}{day}".removeprefix(", ")


def _folder(row: Mapping[str, ColumnValue | None]) -> str:
    """The last folder of a file; not the others, which tell about whoever shares the page."""
    folder = row["folder"]
    return f"in {Path(folder).name}/" if isinstance(folder, str) else ""


def _edges(row: Mapping[str, ColumnValue | None]) -> str:
    """Width and height; "" of what was imported without its file."""
    return f"{row['width']} x {row['height']}" if row["width"] else ""


def duplicates_page(groups: Sequence[DuplicateGroup], library: Library) -> Html:
    """The groups, each with the picture to keep first."""
    shown = groups[:_MOST_GROUPS]
    more = f" The page shows the {_MOST_GROUPS} largest." if len(groups) > len(shown) else ""
    count = sum(len(group.others) for group in groups)
    lead = (
        f"{library.folder.name}: {_count(len(groups), 'group')} of pictures that resemble each "
        f"other, with {_count(count, 'picture')} beside those to keep. The first of each group is "
        "the one to keep: most pixels, then most bytes, then the oldest. Nothing was "
        f"deleted.{more}"
    )
    sections = [(_name(group), _group_tiles(group, library)) for group in shown]
    return contact_sheet("Pictures that resemble each other", lead, [], sections)


def _name(group: DuplicateGroup) -> str:
    hidden = len(group.others) - _MOST_OTHERS
    shown = f"; the page shows {_MOST_OTHERS} of them" if hidden > 0 else ""
    return f"{Path(str(group.keep['id'])).name} and {len(group.others):,} more{shown}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _group_tiles(group: DuplicateGroup, library: Library) -> Iterable[Tile]:
    rows: list[StoreRow] = [group.keep, *group.others[:_MOST_OTHERS]]
    small = library.thumbnails(rows)
    short = shorten_names(str(row["id"]) for row in rows)
    badges = ["keep", *(f"{score:.3f}" for score in group.scores[:_MOST_OTHERS])]
    for row, badge, jpeg in zip(rows, badges, small, strict=True):
        size = f"{row['size'] / 1000:,.0f} kB" if isinstance(row["size"], int) else ""
        lines = _lines(_folder(row), _edges(row), size)
        if row is not group.keep and group.is_copy(row):
            lines.append("the same bytes")
        yield Tile(jpeg, short[str(row["id"])], lines, badge)
