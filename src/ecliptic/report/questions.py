"""What the demo gives a model: pictures, labels, and texts to search with."""

import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from ecliptic.errors import ImageLimitError
from ecliptic.inputs import ImageSource, ImageSpec, Preprocess

THUMBNAIL = 192  # pixels per side; twice the size on the page, for sharp screens


@dataclass(frozen=True)
class Picture:
    """One image of the demo."""

    name: str  # for people; of a bundled drawing also its label
    source: ImageSource  # a path, the encoded image, or another kind of image
    small: bool = False  # the file is a small PNG, which the page can hold as it is

    @cached_property
    def thumbnail(self) -> bytes:
        """The PNG or JPEG that the page shows; upright, square and without metadata.

        Raises:
            ImageError: the image cannot be read any more.
        """
        if self.small and isinstance(self.source, str):
            return Path(self.source).read_bytes()
        try:
            rgb = Preprocess(ImageSpec(size=THUMBNAIL), "robust").rgb(self.source)
        except ImageLimitError:  # a strip so long that only its crop is small
            squash = ImageSpec(size=THUMBNAIL, resize="squash")
            rgb = Preprocess(squash, "robust").rgb(self.source)
        return _to_jpeg(Image.fromarray(rgb))

    @cached_property
    def whole(self) -> bytes:
        """A JPEG of the whole image with its edges; upright and without metadata.

        Raises:
            ImageError: the image cannot be read any more.
        """
        image = Preprocess(ImageSpec(size=THUMBNAIL), "robust").load(self.source)
        width, height = (max(1, round(side * THUMBNAIL / max(image.size))) for side in image.size)
        return _to_jpeg(image.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))


def _to_jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


@dataclass(frozen=True)
class Query:
    """A text to search with."""

    text: str
    fits: tuple[str, ...] | None = None  # names of the correct pictures; None if nobody knows


@dataclass(frozen=True)
class Questions:
    """Everything that the demo asks a model."""

    pictures: tuple[Picture, ...]
    queries: tuple[Query, ...]
    labels: tuple[str, ...]  # to choose from, for each picture
    matrix: tuple[str, ...]  # labels in the matrix of cosines
    texts: tuple[str, ...]  # texts whose tokens are shown
    known: bool  # whether the name of each picture is its correct label
    offered: int  # images from which the pictures were drawn
    less: tuple[tuple[str, str], ...] = ()  # a text to search with, and what to have less of
    liked: tuple[str, ...] = ()  # names of pictures that somebody likes; none: nobody was asked

    def keep(self, places: list[int]) -> "Questions":
        """The same questions about the pictures at `places`."""
        return replace(self, pictures=tuple(self.pictures[place] for place in places))
