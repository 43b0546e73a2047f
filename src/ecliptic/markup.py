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


def inline_image(data: bytes, alt: str, **attributes: str) -> Html:
    """An `img` element with the data of a PNG or JPEG inside the page."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return tag("img", src=uri, alt=alt, **attributes)


def _escape(child: Child) -> str:
    if isinstance(child, Html):
        return child
    return html.escape(printable(child, lines=True)) if isinstance(child, str) else join(child)
