"""HTML from nested calls. Strings that are not `Html` are text and are escaped.

Control characters and marks of the direction of writing are shown as escapes, too.
"""

import base64
import html
from collections.abc import Iterable

from ecliptic.errors import printable

VOID = {"br", "img", "meta"}  # elements without an end tag


class Html(str):
    """A string of HTML; only this module and constants of the program make it."""

    __slots__ = ()


Child = str | Iterable["Child"]
# The browser enforces this policy: a page fetches nothing and runs no script.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def tag(name: str, /, *children: Child, **attributes: str) -> Html:
    """One element, such as `tag("p", "5 < 6", class_="note")`.

    Args:
        name: of the element.
        children: text, `Html`, or iterables of both.
        attributes: their names with `-` written as `_`; a trailing `_` is dropped.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
    )
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Join the children in order, with their text escaped."""
    return Html("".join(_escape(child) for child in children))


def document(title: str, style: str, *body: Child, description: str = "") -> Html:
    """A whole page that loads nothing from elsewhere and fits a phone.

    Args:
        title: of the window.
        style: CSS of the program, not of a user.
        body: children of the body.
        description: what the page is about, for search.
    """
    about = [tag("meta", name="description", content=description)] if description else []
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        about,
        tag("title", title),
        tag("style", Html(style)),
    )
    page = tag("html", head, tag("body", *body), lang="en")
    return join([Html("<!doctype html>\n"), page, "\n"])


def inline_image(data: bytes, alt: str, **attributes: str) -> Html:
    """An `img` element with the data of a PNG or JPEG inside the page."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return tag("img", src=uri, alt=alt, **attributes)


def _escape(child: Child) -> str:
    if isinstance(child, Html):
        return child
    return html.escape(printable(child, lines=True)) if isinstance(child, str) else join(child)
