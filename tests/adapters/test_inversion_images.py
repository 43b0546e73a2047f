"""The inversion in the chunk or the pixels of A1111's images is read."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from ecliptic.adapters.inversion import read_inversion
from ecliptic.adapters.inversion_images import masks
from ecliptic.errors import CorruptFileError, EclipticError, WeightsMismatchError
from tests.adapters.files import (
    a1111,
    encode,
    image_with_pixels,
    png_with_chunk,
    vectors,
)


def test_the_mask_is_a1111s_sequence() -> None:
    """The numbers and the sum that modules/textual_inversion/image_embedding.py checks."""
    found = masks(100_100)
    assert found[:8].tolist() == [253, 242, 127, 44, 157, 27, 239, 133]
    assert found[96:100].tolist() == [198, 118, 240, 97]
    assert int(found[100:].sum(dtype=np.int64)) == 12731374


def test_an_inversion_in_the_text_chunk_is_read(tmp_path: Path) -> None:
    path = png_with_chunk(tmp_path / "shot.png", a1111(vectors(), "cat"))
    [found] = read_inversion(path)
    assert (found.token, found.layout) == ("cat", "a1111")
    torch.testing.assert_close(found.vectors[""], vectors(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["shot.png", "shot.webp"])
@pytest.mark.parametrize("count", [1, 8])
def test_an_inversion_in_the_pixels_is_read(name: str, count: int, tmp_path: Path) -> None:
    path = image_with_pixels(tmp_path / name, a1111(vectors(count, 768), "cat"))
    [found] = read_inversion(path)
    assert found.token == "cat"
    torch.testing.assert_close(
        found.for_encoder("clip_l", 768), vectors(count, 768), rtol=0, atol=1e-7
    )


def _plain(path: Path) -> Path:
    Image.new("RGB", (30, 20), (9, 40, 200)).save(path)
    return path


def _lossy(path: Path) -> Path:
    image_with_pixels(path, a1111(vectors()))
    path.write_bytes(encode(path, "WEBP"))  # lossy: the low bits are gone
    return path


def _bad_chunk(path: Path, text: str) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("make", [_plain, _lossy])
def test_an_image_without_an_inversion_says_so(make: Any, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="contains no inversion"):
        read_inversion(make(tmp_path / "x.png"))


def test_a_black_image_carries_none(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(CorruptFileError, match="contains no inversion"):
        read_inversion(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!!", "is not base64"),
        (base64.b64encode(b"not json").decode(), "cannot be read"),
        (base64.b64encode(b"[1]").decode(), "is not a JSON object"),
        (base64.b64encode(b"[" * 100_000).decode(), "cannot be read"),
        (base64.b64encode(b'{"a": {"TORCHTENSOR": [[1], [2, 3]]}}').decode(), "cannot be read"),
    ],
)
def test_a_damaged_chunk_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=message):
        read_inversion(_bad_chunk(tmp_path / "x.png", text))


def test_other_data_in_the_chunk_is_no_inversion(tmp_path: Path) -> None:
    text = base64.b64encode(b'{"a": 1}').decode()
    with pytest.raises(WeightsMismatchError, match="0 tensors"):
        read_inversion(_bad_chunk(tmp_path / "x.png", text))


def test_a_cut_image_is_an_error_of_ours(tmp_path: Path) -> None:
    path = image_with_pixels(tmp_path / "x.png", a1111(vectors()))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EclipticError):
        read_inversion(path)
