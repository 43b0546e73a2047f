"""Many images at once: in order and bounded; none is lost and no thread is left running."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecliptic.errors import ConfigError, ImageError
from ecliptic.inputs import ImageSpec, Preprocess, Reject, decode_many
from ecliptic.inputs.pool import HELD, YIELDING, SpareBuffers, spare
from tests.inputs.drawn_images import encode, noise

PREPARE = Preprocess(ImageSpec(size=8))
GOOD = [encode(Image.fromarray(noise(20, 30, seed=seed)), "PNG") for seed in range(12)]


def decoding_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("ecliptic-decode")]


def test_results_are_those_of_one_thread_in_order() -> None:
    results = list(decode_many(iter(GOOD), PREPARE, workers=4, ahead=5))
    assert [index for index, _ in results] == list(range(len(GOOD)))
    for (_, pixels), source in zip(results, GOOD, strict=True):
        assert isinstance(pixels, np.ndarray)
        np.testing.assert_array_equal(pixels, PREPARE(source))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
@pytest.mark.parametrize("refused", [False, True])
def test_decoding_lets_the_tower_go_first(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: int) -> None:
        raise PermissionError

    if refused:  # as a container may
        monkeypatch.setattr(os, "setpriority", refuse)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = min(usual + (0 if refused else YIELDING), 19)
    found = decode_many(range(4), lambda _: np.array(os.getpriority(os.PRIO_PROCESS, 0)))
    assert {int(value) for _, value in found} == {wanted}  # type: ignore[arg-type]
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_order_holds_when_early_images_are_slow() -> None:
    def slow_first(index: int) -> np.ndarray:
        time.sleep(0.02 if index % 3 == 0 else 0)
        return np.array(index)

    results = list(decode_many(range(30), slow_first, workers=4))
    assert [(index, int(value)) for index, value in results] == [(i, i) for i in range(30)]  # type: ignore[arg-type]


def test_every_reject_is_reported_in_its_place() -> None:
    sources: list[object] = list(GOOD)
    sources[3], sources[7] = b"broken", "missing.png"
    results = dict(decode_many(sources, PREPARE, on_error="reject"))  # type: ignore[arg-type]
    rejects = [r for r in results.values() if isinstance(r, Reject)]
    assert len(results) == len(GOOD)
    assert [(r.index, r.source) for r in rejects] == [
        (3, "image of 6 bytes"),
        (7, "'missing.png'"),
    ]
    assert "allowed format" in rejects[0].reason
    assert "No such file" in rejects[1].reason


def test_raise_gives_what_came_before_then_the_error() -> None:
    results = decode_many([*GOOD[:2], b"broken", GOOD[2]], PREPARE)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ImageError, match="image of 6 bytes"):
        next(results)
    assert not decoding_threads()


def test_at_most_ahead_sources_are_in_flight() -> None:
    taken = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        for data in GOOD:
            taken += 1
            yield data

    for done, (_, _) in enumerate(decode_many(sources(), PREPARE, workers=2, ahead=3)):
        assert taken - done <= 3


def test_closing_early_leaves_no_thread_behind() -> None:
    endless = (data for _ in iter(int, 1) for data in GOOD)
    results = decode_many(endless, PREPARE, workers=3, ahead=6)
    next(results)
    assert decoding_threads()
    results.close()  # type: ignore[attr-defined]
    assert not decoding_threads()


def test_errors_that_are_not_about_images_pass_through() -> None:
    def broken(source: bytes) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode_many(GOOD, broken, on_error="reject"))
    assert not decoding_threads()


def test_one_lazily_opened_image_may_stand_many_times() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(noise(300, 300)), "PNG", exif=exif)
    for prepare in (PREPARE, Preprocess(ImageSpec(size=8), "robust")):
        for _ in range(5):
            lazy = Image.open(io.BytesIO(data))
            for _, pixels in decode_many([lazy] * 8, prepare, workers=8):
                np.testing.assert_array_equal(pixels, prepare(data))


def test_settings_are_checked_before_the_first_image() -> None:
    for wrong in ({"workers": 0}, {"ahead": 0}, {"on_error": "skip"}):
        with pytest.raises(ConfigError):
            decode_many(GOOD, PREPARE, **wrong)  # type: ignore[arg-type]


def test_buffers_are_kept_only_while_a_pool_runs_and_within_their_limit() -> None:
    buffers = SpareBuffers(100)
    with buffers.take(60) as alone:
        pass
    with buffers.keep():
        with buffers.take(60) as first:
            assert first is not alone
        with buffers.take(50) as again, buffers.take(50) as other:
            assert again is first
            assert other is not first
        with buffers.take(101):
            pass
        assert sum(map(len, buffers._free)) <= 100
    assert not buffers._free


def test_large_sources_are_few_at_a_time_and_small_ones_a_whole_batch() -> None:
    def most_waiting(size: int) -> int:
        taken, seen, go = 0, 0, threading.Event()

        def sources() -> Iterator[int]:
            nonlocal taken
            for number in range(40):
                taken += 1
                yield number

        def wait(number: int) -> np.ndarray:
            go.wait(10)
            return np.array(number)

        found = decode_many(sources(), wait, workers=2, ahead=30, held=lambda _: size)
        threading.Timer(0.2, go.set).start()
        assert next(found)[0] == 0
        seen = taken
        assert len(list(found)) == 39
        return seen

    assert most_waiting(HELD // 100) == 30
    assert most_waiting(HELD // 10) == 11  # the first that is above
    assert most_waiting(HELD) == 8


def test_the_smallest_buffer_that_fits_is_used() -> None:
    buffers = SpareBuffers(300)
    with buffers.keep():
        with buffers.take(90), buffers.take(60) as small, buffers.take(80):
            pass
        with buffers.take(50) as again, buffers.take(70) as other:
            assert again is small
            assert len(other) == 80


def test_only_what_simplejpeg_decodes_takes_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    fresh, taken = SpareBuffers(10_000), []

    def take(count: int) -> Any:
        taken.append(count)
        return fresh.take(count)

    monkeypatch.setattr(spare, "take", take)
    image = Image.fromarray(noise(20, 30))
    for source in (encode(image, "PNG"), image, encode(image.convert("L"), "JPEG")):
        PREPARE.rgb(source)
    assert taken == []
    PREPARE.rgb(encode(image, "JPEG"))
    assert taken == [20 * 30 * 3]
