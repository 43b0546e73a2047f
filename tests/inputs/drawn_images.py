"""Images for the tests of image inputs: fixture files, and constructed or hostile bytes."""

import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[3] / "shared"
FIXTURES = SHARED / "fixtures"
needs_shared = pytest.mark.skipif(not FIXTURES.exists(), reason="no ../shared/fixtures")


def manifest() -> list[dict[str, str]]:
    path = FIXTURES / "manifest.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, layout: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, layout, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def one_bit_png(width: int, height: int, rows: int = 10) -> bytes:
    """A PNG with `height` rows in its header and `rows` rows in its data."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes((width // 8 + 1) * rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", data)
        + _chunk(b"IEND", b"")
    )


def wide_webp(width: int, height: int) -> bytes:
    """An animated WebP with a large canvas and one 16x16 frame."""
    frame = encode(Image.new("RGB", (16, 16)), "WEBP")[12:]
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    edge = struct.pack("<I", 15)[:3]
    chunks = {
        b"VP8X": b"\x02\0\0\0" + canvas,
        b"ANIM": bytes(6),
        b"ANMF": bytes(6) + edge * 2 + bytes(4) + frame,
    }
    body = b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks.items())
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiled_tiff(width: int, height: int, tile: int, *, rows: int = 0) -> bytes:
    """A black TIFF, in one deflated tile of `tile` pixels along an edge, or a strip of `rows`."""
    data = zlib.compress(bytes((tile or width) * (tile or height) * 3))
    place = 8 + 2 + 12 * (11 if tile else 9) + 4  # after the header and the tags
    tags = {256: width, 257: height, 258: place, 259: 8, 262: 2}
    if tile:
        tags |= {277: 3, 284: 1, 322: tile, 323: tile, 324: place + 6, 325: len(data)}
    else:
        tags |= {273: place + 6, 277: 3, 278: rows, 279: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries[2] = struct.pack("<HHII", 258, 3, 3, place)  # bits per sample, three of them
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(entries)
    return head + bytes(4) + struct.pack("<3H", 8, 8, 8) + data
