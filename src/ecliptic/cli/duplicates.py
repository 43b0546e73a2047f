"""`ecliptic duplicates`: groups of pictures of a library that resemble each other."""

import dataclasses
import json as json_of_python
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import Force, Json, check_written, expands
from ecliptic.cli.library_flags import USUAL, LibraryArgument, Where, open_library, shorten
from ecliptic.cli.output import count, print_json, print_names0, print_table, print_text, say

if TYPE_CHECKING:
    from ecliptic.library import DuplicateGroup

_SHOWN = 20  # groups, and others of a group, on a terminal


@expands
def duplicates(
    *,
    library: LibraryArgument = USUAL,
    threshold: Annotated[
        float, typer.Option(help="Least cosine with the picture to keep.", min=0.0, max=1.0)
    ] = 0.95,
    where: Where = None,
    page: Annotated[
        Path | None, typer.Option(help="Write the groups as one HTML file.", metavar="FILE")
    ] = None,
    paths0: Annotated[
        bool,
        typer.Option("--paths0", help="Print only the paths not to keep, each ended by NUL."),
    ] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find pictures that resemble each other; suggest which to keep.

    Nothing is deleted. The suggestion is the picture with most pixels, then most bytes, then the
    oldest one.
    """
    if json and paths0:
        raise typer.BadParameter("--json and --paths0 both print; take one.")
    if threshold == 0:
        raise typer.BadParameter("--threshold must be above 0.")
    check_written([page] if page else [], [], force=force, flags="--page")
    opened = open_library(library)
    groups = opened.duplicates(threshold, where)
    if json:
        print_json([_to_json(group) for group in groups])
    elif paths0:
        _print_removable(groups)
    else:
        _print(groups, shown=_SHOWN)
    if page:
        from ecliptic.report import duplicates_page
        from ecliptic.storage import replace_file, text_writer

        replace_file(page, text_writer(duplicates_page(groups, opened)))
        say(f"groups in {page}")
    others = sum(len(group.others) for group in groups)
    say(f"{count(len(groups), 'group')}, {count(others, 'picture')} beside those to keep")


def _print_removable(groups: "Sequence[DuplicateGroup]") -> None:
    """Print the files beside those to keep, if both are as they were indexed, and are two files."""
    from ecliptic.library import unchanged_file

    left = 0
    names: list[str] = []
    for group in groups:
        kept = unchanged_file(group.keep)
        for row in group.others:
            path = unchanged_file(row)
            if kept is None or path is None or path.samefile(kept):
                left += 1
            else:
                names.append(str(path))
    print_names0(names)
    if left:
        say(
            f"{count(left, 'picture')} not printed: the file, or the one to keep, is gone or "
            "changed since it was indexed, or both are one file"
        )


def _print(groups: "Sequence[DuplicateGroup]", shown: int) -> None:
    for number, group in enumerate(groups[:shown]):
        if number:
            print_text("")
        rows = [("keep", _size(group.keep), shorten(str(group.keep["id"])))]
        for row, score in list(zip(group.others, group.scores, strict=True))[:shown]:
            rows.append(
                (
                    "same" if group.is_copy(row) else f"{score:.3f}",
                    _size(row),
                    shorten(str(row["id"])),
                )
            )
        print_table(("cosine", "size", "picture"), rows)
        if (more := len(group.others) - shown) > 0:
            print_text(f"and {more:,} more pictures of this group")
    if (more := len(groups) - shown) > 0:
        print_text(f"and {more:,} more groups; --json or --page FILE has all")


def _size(row: Any) -> str:
    return f"{row['width']} x {row['height']}" if row["width"] else ""


def _to_json(group: "DuplicateGroup") -> dict[str, Any]:
    found: dict[str, Any] = json_of_python.loads(
        json_of_python.dumps(dataclasses.asdict(group), default=str)
    )
    return found
