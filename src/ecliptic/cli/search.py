"""`ecliptic search`: find pictures of a library by words and by pictures."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.flags import Force, Json, check_written, expands
from ecliptic.cli.library_flags import (
    USUAL,
    LibraryModelFlags,
    PathsOnly,
    Where,
    is_library,
    open_library,
    shorten,
)
from ecliptic.cli.output import (
    count,
    print_json,
    print_names0,
    print_table,
    print_text,
    say,
)
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from ecliptic.library import Library, LibraryHits

_LONGEST_NAME = 255  # bytes, of a file
_LESS = 0.5  # the usual weight of --unlike; `ecliptic.library` has the same


@dataclasses.dataclass(frozen=True)
class QueryFlags:
    """What to search for, beside words."""

    like: Annotated[
        list[str] | None,
        typer.Option(help="More like this picture, a path; repeat for more.", metavar="PATH"),
    ] = None
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            help="Less like these words, or like this picture; repeat for more.",
            metavar="TEXT|PATH",
        ),
    ] = None
    like_weight: Annotated[
        float, typer.Option(help="Weight of each --like; that of words is 1.", min=0.0)
    ] = 1.0
    unlike_weight: Annotated[float, typer.Option(help="Weight of each --unlike.", min=0.0)] = _LESS
    where: Where = None
    diversity: Annotated[
        float,
        typer.Option(help="0 to 1: prefer hits that differ from each other.", min=0.0, max=1.0),
    ] = 0.0
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute the exact score of every picture.")
    ] = False

    def options(self, library: "Library") -> dict[str, Any]:
        """Arguments of `Library.search`."""
        less = [(_picture(text, library), self.unlike_weight) for text in self.unlike or ()]
        return {
            "like": [(path, self.like_weight) for path in self.like or ()] or None,
            "unlike": less or None,
            "where": self.where,
            "diversity": self.diversity,
            "exact": self.exact,
        }

    def check(self) -> None:
        """Raise for a weight that has no effect."""
        given = {"like": (self.like, self.like_weight, 1.0)}
        given["unlike"] = (self.unlike, self.unlike_weight, _LESS)
        for name, (parts, weight, usual) in given.items():
            if weight != usual and not parts:
                raise typer.BadParameter(f"--{name}-weight does nothing without --{name}.")
            if weight == 0:
                raise typer.BadParameter(f"--{name}-weight must be above 0.")


def _picture(text: str, library: "Library") -> "str | Path":
    """A path if there is such a file, else words or an id of the library.

    Raises:
        InputError: it has the form of a path, but there is no such picture.
    """
    from ecliptic.library import has_pictures

    if os.path.isfile(text):  # noqa: PTH113 Path fails on long texts
        return Path(text)
    if _looks_like_picture(text) and not has_pictures(library.store, text):
        raise InputError(
            f"--unlike {text} looks like a picture, but there is no such file, and none in the "
            "library."
        )
    return text


def _looks_like_picture(text: str) -> bool:
    from ecliptic.engine import IMAGE_SUFFIXES

    return os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 of any text


@dataclasses.dataclass(frozen=True)
class HitFlags:
    """How many hits, and what to do with them."""

    k: Annotated[int, typer.Option("-k", "--top-k", help="Hits of a search.", min=1)] = 10
    offset: Annotated[int, typer.Option(help="Hits to leave out first, for pages.", min=0)] = 0
    page: Annotated[
        Path | None,
        typer.Option(help="Write a contact sheet, one HTML file.", metavar="FILE"),
    ] = None
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page; without --page, a temporary one.")
    ] = False
    copy_to: Annotated[
        Path | None, typer.Option(help="Copy the files into this folder.", metavar="DIR")
    ] = None
    paths0: PathsOnly = False
    force: Force = False
    json: Json = False

    def check(self) -> None:
        """Raise before the work for outputs that cannot be written, and flags that do nothing."""
        page, force = self.page, self.force
        if self.json and self.paths0:
            raise typer.BadParameter("--json and --paths0 both print; take one.")
        if self.copy_to is not None:
            _check_copies(self.copy_to, force=force)
        if force and not (page or self.copy_to):
            raise typer.BadParameter("--force does nothing without --page or --copy-to.")
        check_written([page] if page else [], [], force=force and page is not None, flags="--page")


@expands
def search(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LIBRARY TEXT",
            help="The library, and what to search for; each TEXT is a search of its own. Without "
            f"a library it is {USUAL}.",
            show_default=False,
        ),
    ] = None,
    query: QueryFlags,
    hits: HitFlags,
    model: LibraryModelFlags,
) -> None:
    """Find pictures of a library by words, by pictures, or by both.

    The score is the cosine of a picture with the query: compare it within one search only. Parts
    of a query are added: words, --like, and --unlike with a minus.
    """
    folder, texts = _split(words or [])
    query.check()
    if not texts and not query.like and not query.unlike:
        raise typer.BadParameter("give words to search for, --like or --unlike.")
    hits.check()
    _check_texts(texts)
    library = open_library(folder, model)
    options = {**query.options(library), "k": hits.k, "offset": hits.offset}
    found = library.search_each(texts, **options) if texts else [library.search(None, **options)]
    _print(found, paths0=hits.paths0, json=hits.json, filtered=query.where is not None)
    if hits.copy_to is not None:
        _copy(found, hits.copy_to, force=hits.force)
    if hits.page or hits.open_page:
        _write_page(found, library, hits.page, show=hits.open_page)


def _split(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The library, and the texts."""
    if words and is_library(Path(words[0])):
        return Path(words[0]), list(words[1:])
    first = words[0] if words else ""
    if first.rstrip("/").endswith(".library"):
        raise InputError(
            f"there is no library in {first}; check the path, or make one with "
            f"`ecliptic index FOLDER --out {first}`."
        )
    if near := _find_near(first):
        raise InputError(
            f"there is no library {first}; did you mean {near}? To search for this word, put the "
            "library before it."
        )
    if os.path.isdir(first):  # noqa: PTH112 Path fails on long texts
        raise InputError(
            f"{first} is a folder but no library; `ecliptic index {first}` makes one of it. To "
            "search for this word, put it after the library."
        )
    for later in words[1:]:
        if later.rstrip("/").endswith(".library") or is_library(Path(later)):
            raise InputError(f"the library comes first: ecliptic search {later} {first!r}.")
    return USUAL, list(words)


def _find_near(name: str) -> str:
    """A library beside it with nearly the same name; "" without one."""
    if not name or len(name) > _LONGEST_NAME:
        return ""
    folder, last = os.path.split(name.rstrip("/"))
    try:
        beside = [path.name for path in Path(folder or ".").iterdir() if is_library(path)]
    except OSError:
        return ""
    near = get_close_matches(last, beside, 1)
    return os.path.join(folder, near[0]) if near else ""  # noqa: PTH118 as it was written


def _check_texts(texts: Sequence[str]) -> None:
    for text in texts:
        if os.path.isfile(text) or _looks_like_picture(text):  # noqa: PTH113 Path fails
            raise InputError(f"{text} is a picture, no words; to find more like it, pass --like.")


def _print(found: "Sequence[LibraryHits]", *, paths0: bool, json: bool, filtered: bool) -> None:
    if json:
        print_json([{"query": hits.asked, "hits": hits.to_json()} for hits in found])
        return
    if paths0:
        paths = [path for hits in found for path in hits.paths]
        print_names0(dict.fromkeys(str(path) for path in paths if path is not None))
        if without := paths.count(None):
            say(f"{count(without, 'hit')} not printed: in a tar or a table, no file of its own")
        return
    for number, hits in enumerate(found):
        if number:
            print_text("")
        if len(found) > 1:
            print_text(hits.asked)
        shown = [(f"{hit['rank']:,}", f"{hit['score']:.3f}", _name(hit)) for hit in hits]
        if shown:
            print_table(("rank ", "score ", "picture"), shown)
        else:
            say(_explain_none(hits, filtered=filtered))


def _name(hit: "dict[str, Any]") -> str:
    from ecliptic.library import is_gone

    return shorten(hit["id"]) + (" (gone)" if is_gone(hit) else "")


def _explain_none(hits: "LibraryHits", *, filtered: bool) -> str:
    if hits.plan.candidates:
        return f"no more hits: only {count(hits.plan.candidates, 'picture')} can be found"
    if filtered:
        return (
            "no hits: no picture passes the filter; upper and lower case differ, and `ecliptic "
            "library info` shows a value of each column"
        )
    return "no hits: the library is empty; `ecliptic index` fills it"


def _check_copies(folder: Path, *, force: bool) -> None:
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not force)):
        raise InputError(f"{folder} exists and is not empty; pass --force to add to it.")


def _copy(found: "Sequence[LibraryHits]", folder: Path, *, force: bool) -> None:
    """Copy the files of all hits, named by their rank."""
    from ecliptic.storage import copy_writer, make_folder, replace_file

    make_folder(folder)
    copied = 0
    for number, hits in enumerate(found, start=1):
        for rank, id_, path in zip(hits.ranks, hits.ids, hits.paths, strict=True):
            if path is None or not path.is_file():
                why = "in a tar or a table, no file of its own" if path is None else "it is gone"
                say(f"not copied, {why}: {id_}")
                continue
            start = f"{number}-" if len(found) > 1 else ""
            target = folder / _name_copy(f"{start}{rank:03}-", path.name)
            if target.exists() and not force:
                raise InputError(f"{target} exists; pass --force to replace it.")
            replace_file(target, copy_writer(path))
            copied += 1
    say(f"{count(copied, 'file')} copied to {folder}")


def _name_copy(start: str, name: str) -> str:
    """The name of a copy, cut in the middle where it would be too long for a file."""
    stem, suffix = os.path.splitext(os.fsencode(name))  # noqa: PTH122 of bytes
    room = _LONGEST_NAME - len(start) - len(suffix)
    cut = stem[:room].decode(errors="ignore") if len(stem) > room else os.fsdecode(stem)
    return f"{start}{cut}{os.fsdecode(suffix)}"


def _write_page(
    found: "Sequence[LibraryHits]", library: "Library", page: Path | None, *, show: bool
) -> None:
    from ecliptic.report import search_page
    from ecliptic.storage import replace_file, text_writer

    path = page or Path(tempfile.mkdtemp(prefix="ecliptic-")) / "search.html"
    replace_file(path, text_writer(search_page(found, library)))
    say(f"contact sheet in {path}")
    if show:
        typer.launch(path.absolute().as_uri())
