"""The labels of the rows and columns of a plot: texts or small images."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ecliptic.errors import printable
from ecliptic.plots.colours import BLACK

Label = str | Image.Image
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LONGEST = 36  # characters of a text label; longer ones end in three dots


def font_of(size: float) -> Font:
    """Pillow's own font at `size` pixels, so that plots look the same on every machine."""
    return ImageFont.load_default(size)


def draw_label(label: Label, size: int, font: Font) -> Image.Image:
    """Draw `label` on a transparent ground: an image within `size` x `size`, or a line of text."""
    return _fit(label, size) if isinstance(label, Image.Image) else _draw_text(label, font)


def _fit(image: Image.Image, size: int) -> Image.Image:
    small = ImageOps.contain(image.convert("RGBA"), (size, size), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (size, size))
    tile.alpha_composite(small, ((size - small.width) // 2, (size - small.height) // 2))
    return tile


def _draw_text(text: str, font: Font) -> Image.Image:
    line = printable(" ".join(text.split()))
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 3].rstrip()}..."
    _, _, right, bottom = font.getbbox(line or " ")  # pixels from the origin
    drawn = Image.new("RGBA", (max(round(right), 1), max(round(bottom), 1)), (*BLACK, 0))
    ImageDraw.Draw(drawn).text((0, 0), line, font=font, fill=BLACK)
    return drawn
