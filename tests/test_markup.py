import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from ecliptic.markup import Html, inline_image, tag

HOSTILE = "<script>alert('x')</script>\" onload=\"x &amp;"


def parse(page: str) -> tuple[list[str], dict[str, str | None], str]:
    """Names of the elements, attributes of the first, and all text, as a browser reads them."""
    names: list[str] = []
    attributes: dict[str, str | None] = {}
    text: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if not names:
                attributes.update(attrs)
            names.append(tag)

        def handle_data(self, data: str) -> None:
            text.append(data)

    Reader(convert_charrefs=True).feed(page)
    return names, attributes, "".join(text)


def test_text_and_attributes_cannot_become_elements() -> None:
    names, attributes, text = parse(tag("p", HOSTILE, [HOSTILE], title=HOSTILE))
    assert names == ["p"]
    assert attributes == {"title": HOSTILE}
    assert text == HOSTILE * 2


def test_controls_are_shown_as_escapes() -> None:
    _, attributes, text = parse(tag("p", "a\x1b[2J\u202eb\ud800\n", title="\x9b\u2066"))
    assert attributes == {"title": r"\x9b\u2066"}
    assert text == "a\\x1b[2J\\u202eb\\ud800\n"


def test_elements_nest_unescaped() -> None:
    assert tag("p", "a < b ", tag("b", "&"), class_="x", http_equiv="y") == (
        '<p class="x" http-equiv="y">a &lt; b <b>&amp;</b></p>'
    )
    assert tag("br") == "<br>"
    assert tag("meta", name="viewport") == '<meta name="viewport">'


def test_joining_text_to_html_does_not_make_it_html() -> None:
    assert not isinstance(Html("<b>") + "<i>", Html)


def test_drawings_travel_inside_the_page() -> None:
    for format_ in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.new("RGB", (2, 2)).save(buffer, format_)
        _, attributes, _ = parse(inline_image(buffer.getvalue(), HOSTILE))
        assert attributes["alt"] == HOSTILE
        assert str(attributes["src"]).startswith(f"data:image/{format_.lower()};base64,")


@pytest.mark.parametrize("name", ["img", "br", "meta"])
def test_void_elements_have_no_end(name: str) -> None:
    assert "</" not in tag(name)
