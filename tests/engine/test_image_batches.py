"""Batches of images: decoded ahead, computed ahead on a GPU, equal images once."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.engine.images import ImageEncoder, find_copies
from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.runtime import Runtime
from tests.engine.models import Calls, draw

SEVEN = [draw(seed) for seed in range(7)]


def test_the_next_batch_is_decoded_while_the_tower_computes(clip: Clip) -> None:
    """Else a tower on another device would wait for images after every batch."""
    size, decoded, waited = 32, 0, []
    more = threading.Condition()

    class Counting(Preprocess):
        def __call__(self, source: Any, **options: Any) -> Any:
            nonlocal decoded
            pixels = super().__call__(source, **options)
            with more:
                decoded += 1
                more.notify_all()
            return pixels

    def encode(pixels: Tensor) -> Tensor:
        wanted = min((len(waited) + 2) * size, 4 * size)
        with more:
            waited.append(more.wait_for(lambda: decoded >= wanted, timeout=20))
        return pixels.flatten(1)[:, :5]

    encoder = ImageEncoder(Counting(ImageSpec(size=8)), encode, (5,))
    parts = list(encoder.stream([draw(seed) for seed in range(4 * size)], size))
    assert waited == [True] * 4
    assert [len(part.vectors) for part in parts] == [size] * 4


def test_a_gpu_computes_a_batch_while_the_next_one_is_made(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: rows are waited for when the next batch was started, and come out in order."""
    images = [Image.new("RGB", (40, 40), (n * 20, 10, 90)) for n in range(9)]
    sources: list[Any] = [*images[:4], b"no image", *images[4:]]
    wanted = clip.encode_image(sources, on_error="reject")
    encoder, events = clip.image_encoder(), []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        events.append("start")
        return clip.runtime.image(pixels)

    monkeypatch.setattr("ecliptic.engine.images._Running.waits", True)
    encoder = replace(encoder, encode=encode)
    parts = []
    for part in encoder.stream(sources, 4, normalize=True, reject=True):
        events.append("rows")
        parts.append(part)
    assert events == ["start", "start", "rows", "start", "rows", "rows"]
    assert [place for part in parts for place in part.kept] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [reject.index for part in parts for reject in part.rejected] == [4]
    torch.testing.assert_close(torch.cat([part.vectors for part in parts]), wanted.vectors)


def test_equal_pixels_of_a_batch_are_computed_once(
    clip: Clip, cached: Clip, png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they come from; each keeps its row, its place and its key in the cache."""
    (tmp_path / "copy.png").write_bytes(png.read_bytes())
    array = np.asarray(draw())
    draw().save(tmp_path / "other.bmp")
    sources = [png, SEVEN[1], array, tmp_path / "copy.png", SEVEN[2], tmp_path / "other.bmp", png]
    wanted = torch.cat([clip.encode_image(source) for source in (png, SEVEN[1], SEVEN[2])])
    calls = Calls.of("image", monkeypatch)
    found = cached.encode_image(sources, batch_size=7)
    assert calls.sizes == [3]
    torch.testing.assert_close(found, wanted[[0, 1, 0, 0, 2, 0, 0]])
    again = cached.encode_image(sources, batch_size=7)
    assert calls.sizes == [3]
    assert torch.equal(again, found)


def test_copies_are_found_by_all_their_values() -> None:
    first = np.zeros((3, 40, 40), np.float32)
    unlike = first.copy()
    unlike[2, 39, 38] = 1e-6  # none of the values that are compared first
    other = np.ones((3, 40, 40), np.float32)
    rows = [first, other, unlike, first.copy(), unlike.copy(), -first]
    assert find_copies(rows) == ([0, 1, 2, 5], [0, 1, 2, 0, 2, 3])
    assert find_copies([]) == ([], [])


def test_a_copy_of_an_image_beyond_the_numbers_is_rejected_too(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(runtime: Runtime, pixels: Tensor) -> Tensor:
        rows = torch.ones(len(pixels), 32)
        rows[pixels.flatten(1).amax(1) > 100] = torch.inf
        return rows

    monkeypatch.setattr(Runtime, "image", overflowing)
    loud = torch.full((3, 32, 32), 1000.0)
    found = clip.encode_image([loud, SEVEN[0], loud.clone()], on_error="reject")
    assert found.kept == (1,)
    assert [reject.index for reject in found.rejected] == [0, 2]
