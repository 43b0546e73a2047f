"""The demo's page: one HTML file that contains its drawings and style and loads nothing."""

from pathlib import Path

from ecliptic import __version__
from ecliptic.report.bundled import CHANGES, CREDIT, LICENCE, LICENCE_URL
from ecliptic.report.markup import Html, join, tag
from ecliptic.report.results import DemoResult
from ecliptic.report.sections import ABOUT, ABOUT_OTHER, headline, sections
from ecliptic.storage import make_folder, replace_file

_STYLE = Path(__file__).with_name("page.css")
# The browser enforces this policy: the page fetches nothing and runs no script.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(result: DemoResult) -> None:
    """Write the page to `result.path`; after an error there is no partial file."""
    path = result.path
    make_folder(path.parent)
    replace_file(path, lambda draft: draft.write_text(page(result), encoding="utf-8"))


def page(result: DemoResult) -> Html:
    """The whole document."""
    name = str(result.card["name"])
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", f"ecliptic demo: {name}"),
        tag("style", Html(_STYLE.read_text(encoding="utf-8"))),
    )
    header = tag(
        "header",
        tag("p", "ecliptic", class_="brand"),
        tag("h1", "Images and texts as vectors in one space"),
        tag("p", ABOUT if result.embedded else ABOUT_OTHER.format(name=name), class_="lead"),
        headline(result),
    )
    body = tag("body", header, tag("main", sections(result)), _footer())
    return join([Html("<!doctype html>\n"), tag("html", head, body, lang="en"), "\n"])


def _footer() -> Html:
    licence = tag("a", LICENCE, href=LICENCE_URL)
    return tag(
        "footer",
        tag("p", f"Drawings: {CREDIT}, ", licence, f", {CHANGES}."),
        tag("p", f"Written by ecliptic {__version__}. This page loads nothing from the network."),
    )
