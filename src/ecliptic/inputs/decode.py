"""Loads PIL images from paths, bytes, files, arrays and PIL images, within limits.

Pillow tries only the formats on the allow-list, so no other decoder (and no Ghostscript) starts.
Bytes, pixels, edges and frames are checked from the header, before anything is decoded. Every
failure is an `ImageError` that names the image. `image.py` turns images into pixels.
"""

import io
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ecliptic.errors import ConfigError, EclipticError, ImageError, ImageLimitError
from ecliptic.inputs.arrays import Array, image_from_array, is_tensor
from ecliptic.inputs.quiet import quiet_pillow
from ecliptic.storage import open_regular

if TYPE_CHECKING:
    from torch import Tensor

ImageSource: TypeAlias = (  # an image in any form
    "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"
    " | Array | Tensor"
)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # Pillow's names; MPO is a JPEG

# Bytes per pixel at the peak, as measured: what a decoder holds beside the image. A JPEG in several
# passes keeps its coefficients, WebP two canvases and its own colours, AVIF planes of 8 or 16 bits.
PLAIN = 9  # of all other images: 4, and 5 while they become RGB
_HEAVY = {"JPEG": 10, "MPO": 10, "WEBP": 17, "AVIF": 16}
_HEAVY_CMYK = 15
JPEG = ("JPEG", "MPO")
_FREE_TILE = 4 << 20  # pixels; a tile of a TIFF may be so large, or 4 times the image

_DecodeJpeg: TypeAlias = Callable[  # encoded bytes, (width, height), memory -> (H, W, 3)
    [memoryview, tuple[int, int], NDArray[np.uint8]], NDArray[np.uint8]
]
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_shared_image = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """Limits that are checked before decoding; the defaults suit untrusted images."""

    formats: tuple[str, ...] = FORMATS  # Pillow's names
    file_bytes: int = 256 * 2**20
    pixels: int = 64_000_000  # width * height, also after the resize
    edge: int = 30_000  # pixels
    frames: int = 10_000  # from the header; only the first is ever decoded

    def __post_init__(self) -> None:
        if not self.formats or min(self.file_bytes, self.pixels, self.edge, self.frames) < 1:
            raise ConfigError(f"ImageLimits needs a format and limits of at least 1, got {self}.")

    def check_size(self, width: int, height: int, name: str) -> None:
        """Raise `ImageLimitError` if the image, loaded or not, is too large."""
        if width * height > self.pixels or max(width, height) > self.edge:
            raise ImageLimitError(
                f"{name} is {width}x{height}, over the limit of {self.pixels} pixels or "
                f"{self.edge} along an edge; shrink it, or allow more with ImageLimits.",
                source=name,
            )

    def check_bytes(self, count: int, name: str) -> None:
        """Raise `ImageLimitError` if there are more encoded bytes than allowed."""
        if count > self.file_bytes:
            raise ImageLimitError(
                f"{name} holds more than the limit of {self.file_bytes} bytes; "
                "shrink it, or allow more with ImageLimits(file_bytes=...).",
                source=name,
            )


DEFAULT_LIMITS = ImageLimits()


def describe(source: object) -> str:
    """The name of `source` in messages: its path, or its kind of object."""
    if isinstance(source, str | os.PathLike):
        text = repr(os.fspath(source))  # escapes names that are not UTF-8
        return text if len(text) < 200 else f"{text[:80]}...{text[-80:]}"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"image of {len(source)} bytes"
    if isinstance(source, Image.Image):
        return f"PIL image {source.width}x{source.height} ({source.mode})"
    if hasattr(source, "shape"):
        return f"{type(source).__name__} of shape {tuple(source.shape)}"
    return f"{type(source).__name__} object"


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn every exception of decoding into `ImageError`, and silence Pillow's warnings.

    Hostile bytes make decoders raise more than OSError: SyntaxError, struct.error, zlib.error,
    EOFError, MemoryError and others.
    """
    try:
        with quiet_pillow():
            yield
    except ImageError as error:
        if error.source is not None:
            raise
        raise type(error)(f"{name}: {error}", source=name) from error
    except EclipticError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as reason:
        raise ImageLimitError(
            f"{name} is too large to decode: {reason} Shrink it, or allow more with both "
            "ImageLimits(pixels=...) and PIL.Image.MAX_IMAGE_PIXELS.",
            source=name,
        ) from reason
    except Exception as reason:
        if isinstance(reason, OSError) and reason.strerror:  # from the system, not from a decoder
            raise ImageError(f"{name} cannot be read: {reason.strerror}.", source=name) from reason
        raise ImageError(
            f"{name} cannot be decoded: {str(reason) or type(reason).__name__}; "
            "the file may be damaged or cut short, so try to open or fetch it again.",
            source=name,
        ) from reason


def read_bytes(
    source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS, name: str | None = None
) -> bytes:
    """Read the encoded bytes of a path, bytes or an open binary file.

    `name` is the name in messages; None means `describe(source)`.

    Raises:
        ImageLimitError: there are more than `limits.file_bytes`; reads at most one byte more.
        ImageError: `source` is missing, a folder or device, a URL, or cannot be read from.
    """
    name = name or describe(source)
    with decoding(name):
        if isinstance(source, bytes | bytearray | memoryview):
            limits.check_bytes(memoryview(source).nbytes, name)
            return bytes(source)
        if isinstance(source, str | os.PathLike):
            return _read_path(source, limits, name)
        if hasattr(source, "read"):
            return _read(cast("IO[bytes]", source), limits, name)
    raise ImageError(
        f"{name} is not an image; pass a path, bytes, an open binary file, a PIL image, "
        "an (H, W, C) uint8 array or a (3, H, W) tensor.",
        source=name,
    )


def _refuse(name: str, reason: str) -> NoReturn:
    raise ImageError(f"{name} {reason}", source=name)


def _read_path(path: str | os.PathLike[str], limits: ImageLimits, name: str) -> bytes:
    if isinstance(path, str) and _URL.match(path):
        _refuse(name, "is a URL, and ecliptic downloads no images; download it and pass its bytes.")
    error = partial(ImageError, source=name)
    with open_regular(path, error, instead="read it yourself and pass the bytes") as file:
        return _read(file, limits, name)


def _read(file: IO[bytes], limits: ImageLimits, name: str) -> bytes:
    data = file.read(limits.file_bytes + 1)
    if not isinstance(data, bytes):
        _refuse(name, f"gives {type(data).__name__}; open the file in binary mode.")
    limits.check_bytes(len(data), name)
    return data


def open_image(
    source: ImageSource, limits: ImageLimits = DEFAULT_LIMITS, name: str | None = None
) -> Image.Image:
    """Load a PIL image in its own mode; the first frame of an animation.

    Args:
        source: path, encoded bytes, binary file, PIL image (returned itself, loaded), uint8 array
            (H, W[, C]) or uint8 tensor (C, H, W).
        limits: checked before decoding; the allow-list is for encoded sources, since the caller
            has opened a PIL image.
        name: the name in messages; None means `describe(source)`.

    Raises:
        ImageLimitError: there are too many bytes, pixels or frames, or an edge is too long.
        ImageError: the format is not allowed, or the image is damaged, cut short or empty.
    """
    name = name or describe(source)
    with decoding(name):
        image = identify_image(source, limits, name)
        load_image(image, source)
        return image


def identify_image(source: ImageSource, limits: ImageLimits, name: str) -> Image.Image:
    """`open_image` without decoding: reads the header and checks the limits."""
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray) or is_tensor(source):
        image = image_from_array(source)
    else:
        image = _identify(read_bytes(source, limits, name), limits, name)
    limits.check_size(*image.size, name)
    if 0 in image.size:
        _refuse(name, f"has no pixels: its size is {image.width}x{image.height}.")
    tile = math.prod(_tile_size(image))
    if tile > max(_FREE_TILE, 4 * image.width * image.height):
        raise ImageLimitError(
            f"{name} is {image.width}x{image.height}, but is stored in tiles of {tile} pixels, "
            "which are decoded whole; save it again with smaller tiles.",
            source=name,
        )
    return image


def count_cost(image: Image.Image) -> int:
    """The most memory that preparing `image` takes, in pixels of `PLAIN` bytes."""
    pixels = image.width * image.height
    heavy = _HEAVY.get(image.format or "", PLAIN)
    if heavy > PLAIN and image.mode == "CMYK":
        heavy = _HEAVY_CMYK
    tile = math.prod(_tile_size(image)) * _bytes_per_pixel(image)
    return max(pixels * heavy, pixels * 4 + tile) // PLAIN


def _tile_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of what a TIFF decodes at once, a tile or strip; (0, 0) for others.

    Source: TIFF 6.0, tags ImageWidth, ImageLength, RowsPerStrip, TileWidth and TileLength. No
    strip is higher than the image.
    """
    tags = getattr(image, "tag_v2", None) if getattr(image, "tile", None) else None
    if tags is None or image.format != "TIFF":
        return 0, 0
    width, height = tags.get(322, tags.get(256)), tags.get(323, tags.get(278, tags.get(257)))
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        raise ImageError("the size of its tiles is not a whole number of at least 1.")
    return width, height if 323 in tags else min(height, max(image.size))


def _bytes_per_pixel(image: Image.Image) -> int:
    """Bytes per pixel in the tiles of a TIFF: the sum of BitsPerSample, for all samples."""
    tags = getattr(image, "tag_v2", {})
    bits: tuple[int, ...] = tags.get(258, (1,))
    samples: int = tags.get(277, 1)
    return -(-max(bits) * max(len(bits), samples) // 8)


def load_image(image: Image.Image, source: ImageSource) -> None:
    """Decode `image`, which `identify_image` gave for `source`, in place."""
    with _shared_image if image is source else nullcontext():  # may be twice in a batch
        image.load()


def reduce_jpeg(image: Image.Image, shorter: float, longer: int = 1) -> int:
    """Let an encoded JPEG be decoded at 1/2, 1/4 or 1/8 of its size; returns the 2, 4 or 8.

    Other images, and those that would become too small, stay as they are: 1.

    Args:
        image: from `identify_image`, not decoded yet; its size changes, rounded up.
        shorter: pixels that its shorter side keeps at least.
        longer: pixels that its longer side keeps at least.
    """
    if image.format not in JPEG:
        return 1
    low, high = sorted(image.size)
    for scale in (8, 4, 2):
        if low // scale >= shorter and high // scale >= longer:
            image.draft("", (image.width // scale, image.height // scale))
            return scale
    return 1


def is_quick(image: Image.Image) -> bool:
    """Whether `read_jpeg` takes an image from `identify_image` that is not decoded yet."""
    file = getattr(image, "fp", None)
    known = image.format in JPEG and image.mode == "RGB" and isinstance(file, io.BytesIO)
    return known and find_jpeg_decoder() is not None


def read_jpeg(image: Image.Image, buffer: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """(H, W, 3) of an encoded JPEG by simplejpeg, in the bits of Pillow and half the time.

    The result lies in `buffer`, of 3 bytes for each pixel or more. It is None where something
    in the file is unusual, so that Pillow must decode or refuse it.
    """
    decode = find_jpeg_decoder()
    try:
        return decode(cast("Any", image).fp.getbuffer(), image.size, buffer) if decode else None
    except Exception:  # as for a damaged file, of which Pillow says what is wrong
        return None


@cache
def find_jpeg_decoder() -> _DecodeJpeg | None:
    """simplejpeg, where it is installed and trusted.

    It is trusted when it decodes small images, with each sampling of colours and at each scale, as
    this Pillow does: some builds of Pillow have other libraries.
    """
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None

    def decode(
        data: memoryview, size: tuple[int, int], buffer: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        width, height = size
        found: NDArray[np.uint8] = decode_jpeg(
            data, "RGB", min_height=height, min_width=width, buffer=buffer
        )
        if found.shape != (height, width, 3):
            raise ValueError(f"simplejpeg gives {found.shape}, not {height} rows of {width} pixels")
        return found

    return decode if all(map(partial(_decodes_alike, decode), (0, 1, 2))) else None


def _decodes_alike(decode: _DecodeJpeg, sampling: int) -> bool:
    slope = np.add.outer(np.arange(45), np.arange(83))[..., None] * np.array([1, 3, 7])
    encoded = io.BytesIO()
    Image.fromarray((slope % 256).astype(np.uint8)).save(encoded, "JPEG", subsampling=sampling)
    for scale in (1, 2, 4, 8):
        with Image.open(io.BytesIO(encoded.getvalue())) as image:
            image.draft("", (83 // scale, 45 // scale))
            try:
                found = decode(encoded.getbuffer(), image.size, np.empty(45 * 83 * 3, np.uint8))
            except Exception:  # whatever another version may raise
                return False
            if not np.array_equal(found, np.asarray(image)):
                return False
    return True


def _identify(data: bytes, limits: ImageLimits, name: str) -> Image.Image:
    if not data:
        raise ImageError(f"{name} is empty, a file of 0 bytes.", source=name)
    try:
        image = Image.open(io.BytesIO(data), formats=_keep_readable(limits.formats))
    except UnidentifiedImageError as reason:
        raise ImageError(
            f"{name} is not an image of an allowed format ({', '.join(limits.formats)}), or its "
            "header is damaged; convert it, or allow its format with ImageLimits(formats=...).",
            source=name,
        ) from reason
    frames = 1 if image.format in ("GIF", "TIFF") else getattr(image, "n_frames", 1)
    if frames > limits.frames:  # counting those of GIF and TIFF would read the whole file
        raise ImageLimitError(
            f"{name} has {frames} frames, over the limit of {limits.frames}; pass its first "
            "frame alone, or allow more with ImageLimits(frames=...).",
            source=name,
        )
    return image


@cache
def _keep_readable(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Keep the `formats` that this build of Pillow reads; older builds lack AVIF."""
    Image.init()
    if unknown := set(formats) - set(Image.OPEN) - set(FORMATS):
        raise ConfigError(
            f"unknown image format {', '.join(sorted(unknown))}; Pillow knows "
            f"{', '.join(sorted(Image.OPEN))}."
        )
    return tuple(name for name in formats if name in Image.OPEN)
