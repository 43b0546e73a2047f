"""What stands beside the rows and above the columns of a plot: words, or small images."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ecliptic.plots.colours import BLACK, RGB

Label = str | Image.Image
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LONGEST = 36  # characters of a text label; longer ones end in three dots


def font_of(size: float) -> Font:
    """Pillow's own font at `size` pixels, so that plots look alike on every machine."""
    return ImageFont.load_default(size)


def text_size(text: str, font: Font) -> tuple[int, int]:
    """Width and height in pixels that `text` takes, from its origin."""
    _, _, right, bottom = font.getbbox(text)
    return round(right), round(bottom)


def draw_label(label: Label, size: int, font: Font, ink: RGB = BLACK) -> Image.Image:
    """`label` on transparent ground: an image fitted into `size` x `size`, or one line of text."""
    return _image(label, size) if isinstance(label, Image.Image) else _words(label, font, ink)


def draw_labels(labels: Sequence[Label], size: int, font: Font) -> list[Image.Image]:
    """`draw_label` of each."""
    return [draw_label(label, size, font) for label in labels]


def _image(image: Image.Image, size: int) -> Image.Image:
    small = ImageOps.contain(image.convert("RGBA"), (size, size), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (size, size))
    tile.alpha_composite(small, ((size - small.width) // 2, (size - small.height) // 2))
    return tile


def _words(text: str, font: Font, ink: RGB) -> Image.Image:
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 3].rstrip()}..."
    width, height = text_size(line or " ", font)
    drawn = Image.new("RGBA", (max(width, 1), max(height, 1)), (*ink, 0))
    ImageDraw.Draw(drawn).text((0, 0), line, font=font, fill=ink)
    return drawn
