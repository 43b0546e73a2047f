"""What the demo draws: words become drawings, and one picture becomes another."""

import io
from dataclasses import dataclass

from PIL import Image

from ecliptic.drawing import (
    EMBEDDED,
    RedrawSettings,
    draw,
    read_drawing_model,
    redraw,
    to_image,
)
from ecliptic.engine import Clip
from ecliptic.markup import Html, inline_image, tag
from ecliptic.report.showcase.bundled import FOLDER

WORDS = ("a red apple", "a rainbow", "a tulip", "a house")
EDITED, SOURCE, TARGET = "strawberry.png", "a strawberry", "a banana"
_LARGE = 128  # pixels on the page
_STRENGTH = 0.93  # of the edit


@dataclass(frozen=True)
class Drawn:
    """A picture that was made, and of what."""

    words: str
    picture: bytes  # PNG


def draw_samples(clip: Clip) -> tuple[Drawn, ...]:
    """Four drawings of words; then a bundled drawing, and what it was redrawn as.

    Args:
        clip: the built-in model, which is loaded already.
    """
    model = read_drawing_model(EMBEDDED, clip)
    drawn = [Drawn(words, _encode(draw(words, model=model)[0])) for words in WORDS]
    settings = RedrawSettings(_STRENGTH)
    edit = redraw(FOLDER / EDITED, SOURCE, TARGET, settings, model=model)
    pair = zip((SOURCE, f"redrawn as {TARGET}"), (edit.before, edit.after), strict=True)
    return (*drawn, *(Drawn(words, _encode(to_image(picture[0]))) for words, picture in pair))


def show_drawn(drawn: tuple[Drawn, ...]) -> Html:
    """The pictures in a row, each with its words."""
    items = (
        tag(
            "li",
            inline_image(one.picture, one.words, title=one.words, class_="drawing"),
            tag("span", one.words),
        )
        for one in drawn
    )
    return tag("div", tag("ol", items), class_="ranked")


def _encode(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.resize((_LARGE, _LARGE), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()
