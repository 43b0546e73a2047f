"""The demo's page: one HTML file that contains its drawings and style and loads nothing."""

from ecliptic import __version__
from ecliptic.markup import Html, document, tag
from ecliptic.report.showcase.bundled import CHANGES, CREDIT, LICENCE, LICENCE_URL
from ecliptic.report.showcase.results import DemoResult
from ecliptic.report.showcase.sections import headline, sections
from ecliptic.report.style import read_style
from ecliptic.storage import replace_file, text_writer

MINI = (
    "This is mini, the small CLIP model inside the package. It was trained from random weights on "
    "emoji, clip art and icons, so it knows drawings, not photographs."
)
OTHER = "This is the model {name}."
STYLE = "It has never seen drawings in the style below."
DRAWINGS = "It was run on the drawings that come with ecliptic."
OWN_ANSWERS = "All answers on this page are its own, right or wrong."


def write_page(result: DemoResult) -> None:
    """Write the page to `result.path`, whose folder exists; an error leaves no partial file."""
    replace_file(result.path, text_writer(page(result)))


def page(result: DemoResult) -> Html:
    """The whole document."""
    name = str(result.card["name"])
    title = "Images and texts as vectors in one space"
    lead = _lead(result, name)
    header = tag(
        "header",
        tag("p", "ecliptic", class_="brand"),
        tag("h1", title if result.scope.known else "Your images, searched with words"),
        tag("p", lead, class_="lead"),
        headline(result),
    )
    style, main = read_style(), tag("main", sections(result))
    return document(
        f"ecliptic demo: {name}", style, header, main, _footer(result), description=lead
    )


def _lead(result: DemoResult, name: str) -> str:
    """What the page is about: the model and its images."""
    scope = result.scope
    about = MINI if result.embedded else OTHER.format(name=name)
    if scope.known:
        return f"{about} {STYLE if result.embedded else DRAWINGS} {OWN_ANSWERS}"
    used, drawn = len(scope.pictures), len(scope.pictures) + len(scope.rejects)
    count = f"{used:,} image" + "s" * (used != 1)
    if drawn < scope.offered:
        count += f", drawn at random from {scope.offered:,}"
    return f"{about} It was run on {count}. {OWN_ANSWERS}"


def _footer(result: DemoResult) -> Html:
    licence = tag("a", LICENCE, href=LICENCE_URL)
    drawings = tag("p", f"Drawings: {CREDIT}, ", licence, f", {CHANGES}.")
    return tag(
        "footer",
        drawings if result.scope.known else "",
        tag("p", f"Written by ecliptic {__version__}. This page loads nothing from the network."),
    )
