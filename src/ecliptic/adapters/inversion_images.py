"""Reads images that contain a textual inversion, as A1111 saves them.

A1111 modules/textual_inversion/image_embedding.py. A PNG has the inversion as JSON in base64 in
its text chunk `sd-ti-embedding`. The pixels contain the same data, for images that lost their
chunks and for (lossless) WebP, which has none. A black column separates the image from a block on
its left and one on its right. Their pixels hold the low and the high four bits of the deflated
JSON, in the low four bits of every channel and XORed with a fixed sequence; the high four bits are
decoration. H rows, W columns.
"""

import base64
import binascii
import json
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ecliptic.errors import CorruptFileError, ImageError, ImageLimitError
from ecliptic.inputs import ImageLimits, open_image

Pixels: TypeAlias = NDArray[np.uint8]
CHUNK = "sd-ti-embedding"
TENSOR = "TORCHTENSOR"  # the key that marks nested lists as a tensor
MAX_JSON = 4 << 20  # bytes; 75 vectors of 1280 values have about 2 MB
LIMITS = ImageLimits(formats=("PNG", "WEBP"), file_bytes=64 << 20, pixels=1 << 22, frames=1)
LOW = np.uint8(0x0F)  # the four bits that carry data
_MULTIPLIER, _INCREMENT, _MODULUS = 1664525, 1013904223, 255  # of the sequence, modulo 2**32


def is_image(start: bytes) -> bool:
    """Whether a file with these first bytes is a PNG or a WebP."""
    return start.startswith(b"\x89PNG\r\n\x1a\n") or (
        start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    )


def read_image(path: Path) -> dict[str, Any]:
    """Read the inversion in an image; the result is like the content of A1111's .pt files.

    Raises:
        CorruptFileError: the image is damaged, or contains no inversion.
        ImageLimitError: too many bytes or pixels.
    """
    try:
        image = open_image(path, LIMITS)
    except ImageLimitError as error:
        raise ImageLimitError(
            f"{path} is too large for an image with an inversion: one frame of at most "
            f"{LIMITS.pixels} pixels in {LIMITS.file_bytes} bytes is read."
        ) from error
    except ImageError as error:
        raise CorruptFileError(f"{error}") from error
    text = image.info.get(CHUNK)
    if text:
        return _parse_json(_decode_chunk(text, path), path)
    return _parse_json(_decode_pixels(np.array(image.convert("RGB")), path), path)  # (H, W, 3)


def _decode_chunk(text: str | bytes, path: Path) -> bytes:
    if len(text) > MAX_JSON * 4 // 3 + 4:
        raise CorruptFileError(f"{path}: its chunk {CHUNK} has more than {MAX_JSON} bytes of JSON.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CorruptFileError(f"{path}: its chunk {CHUNK} is not base64: {error}.") from error


def _decode_pixels(pixels: Pixels, path: Path) -> bytes:
    """Decode the JSON in the pixels."""
    low = _crop(pixels) & LOW
    black = np.flatnonzero(low.sum(axis=(0, 2), dtype=np.int64) == 0)
    missing = CorruptFileError(
        f"{path} contains no inversion, neither in a text chunk {CHUNK!r} nor in its pixels; "
        "use the PNG that A1111 saved, not converted, scaled or cropped."
    )
    if len(black) < 2:
        raise missing
    left, right = low[:, : black[0]], low[:, black[-1] + 1 :]
    if left.shape != right.shape or not left.size:
        raise missing
    data = (_unmask(right) << np.uint8(4)) | _unmask(left)
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(data.tobytes(), MAX_JSON)
    except zlib.error:
        raise missing from None
    if not inflate.eof:
        raise CorruptFileError(f"{path}: the inversion in its pixels is incomplete or too large.")
    return content


def _crop(pixels: Pixels) -> Pixels:
    """Cut off the margin, in which every pixel has a zero in some channel."""
    used: NDArray[np.bool_] = np.all(pixels > 0, axis=2)  # (H, W)
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    if not len(rows):
        return pixels[:0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _unmask(block: Pixels) -> Pixels:
    return block ^ (masks(block.size).reshape(block.shape) & LOW)


def masks(count: int) -> Pixels:
    """The first `count` masks of a block, from x -> (1664525 x + 1013904223) mod 2^32 and x = 0.

    k known states give the next k at once: state k+i is state i multiplied k times, plus state
    k.
    """
    states = np.array([_INCREMENT], dtype=np.uint64)
    multiplier = _MULTIPLIER
    while len(states) < count:
        more = (states * np.uint64(multiplier) + states[-1]) % np.uint64(2**32)
        states = np.concatenate([states, more])
        multiplier = multiplier * multiplier % 2**32
    return (states[:count] % _MODULUS).astype(np.uint8)


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    def decode(entry: dict[str, Any]) -> Any:
        if TENSOR not in entry:
            return entry
        if not isinstance(entry[TENSOR], list):
            raise TypeError(f"{TENSOR} is not a list of numbers")
        return torch.tensor(entry[TENSOR], dtype=torch.float32)

    try:
        content = json.loads(data, object_hook=decode)
    except (ArithmeticError, ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise CorruptFileError(
            f"{path}: the inversion in the image cannot be read: {str(error)[:200]}."
        ) from error
    if not isinstance(content, dict):
        raise CorruptFileError(f"{path}: the inversion in the image is not a JSON object.")
    return content
