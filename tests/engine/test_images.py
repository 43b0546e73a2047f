"""Images: every kind in one list, order, rejects, laziness, and errors that name the image."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.engine import Clip, EmbeddingCache, images
from ecliptic.engine.images import content_of
from ecliptic.errors import ConfigError, ImageError, InputError, MissingTowerError, NumericalError
from ecliptic.inputs import ImageLimits, ImageSpec, Preprocess
from ecliptic.inputs.pool import available_cores
from ecliptic.runtime import Runtime
from tests import tiny
from tests.engine.models import Calls, draw, reload, replace_weights
from tests.engine.test_batches import CPU, CUDA

SEVEN = [draw(seed) for seed in range(7)]


def every_kind(clip: Clip, png: Path) -> list[Any]:
    """One image in every accepted form."""
    array, data = np.asarray(draw()), png.read_bytes()
    forms = [str(png), png, draw(), array, torch.from_numpy(array.copy()).permute(2, 0, 1)]
    forms += [data, bytearray(data), memoryview(data), io.BytesIO(data)]
    return [*forms, clip.preprocess(png), clip.preprocess(png).numpy()]


def test_every_kind_of_image_gives_one_vector(clip: Clip, png: Path) -> None:
    alone = clip.encode_image(draw())
    found = clip.encode_image(every_kind(clip, png))
    assert (found.shape, found.dtype, str(found.device)) == ((11, 32), torch.float32, "cpu")
    torch.testing.assert_close(found, alone.expand(11, -1))
    for source in every_kind(clip, png):
        torch.testing.assert_close(clip.encode_image(source), alone)


def test_vectors_are_unit_and_fit_for_training(clip: Clip) -> None:
    found, raw = clip.encode_image(SEVEN), clip.encode_image(SEVEN, normalize=False)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(F.normalize(raw, dim=1), found)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01
    assert not found.is_inference()  # a head can be trained on them
    assert not raw.is_inference()


def test_a_batch_of_pixels_or_images_is_many(clip: Clip) -> None:
    pixels = torch.stack([clip.preprocess(image) for image in SEVEN])
    wanted = clip.encode_image(SEVEN)
    torch.testing.assert_close(clip.encode_image(pixels), wanted)
    torch.testing.assert_close(clip.encode_image(pixels.numpy()), wanted)
    arrays = np.stack([np.asarray(image) for image in SEVEN])
    torch.testing.assert_close(clip.encode_image(arrays), wanted)


def test_none_are_no_rows(clip: Clip) -> None:
    assert clip.encode_image([]).shape == (0, 32)
    empty = clip.encode_image([], on_error="reject")
    assert (empty.vectors.shape, empty.kept, empty.rejected) == ((0, 32), (), ())
    assert list(clip.stream_image([])) == []
    assert clip.classify([], ["a"]).shape == (0, 1)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_b15_companions_change_no_more_than_rounding(clip: Clip, size: int) -> None:
    alone = torch.cat([clip.encode_image(image) for image in SEVEN])
    found = clip.encode_image(iter(SEVEN), batch_size=size)  # type: ignore[call-overload]
    assert F.cosine_similarity(found, alone).min() > 1 - 1e-6


@pytest.mark.parametrize("error", [CPU, CUDA])
def test_batches_shrink_when_memory_runs_out(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    wanted = clip.encode_image(SEVEN * 2)
    calls = Calls.of("image", monkeypatch, error, 2)
    parts = list(clip.stream_image(SEVEN * 2, batch_size=4))
    assert calls.sizes == [4, 2, 2, *[2] * 5]
    torch.testing.assert_close(torch.cat([part.vectors for part in parts]), wanted)
    assert [i for part in parts for i in part.kept] == list(range(14))


def test_rejects_are_told_and_the_rest_kept(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    sources = [SEVEN[0], b"junk", SEVEN[1], tmp_path / "gone.png", tmp_path / "text.png", SEVEN[2]]
    found = clip.encode_image(sources, on_error="reject", batch_size=2)
    assert found.kept == (0, 2, 5)
    assert [reject.index for reject in found.rejected] == [1, 3, 4]
    assert "gone.png' cannot be read: No such file" in found.rejected[1].reason
    assert found.rejected[2].source == repr(str(tmp_path / "text.png"))
    torch.testing.assert_close(found.vectors, clip.encode_image(SEVEN[:3]))


def test_all_may_be_rejected(clip: Clip) -> None:
    found = clip.encode_image([b"", b"junk"] * 20, on_error="reject", batch_size=1)
    assert (found.vectors.shape, found.kept, len(found.rejected)) == ((0, 32), (), 40)
    assert [reject.index for reject in found.rejected] == list(range(40))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.org/a.png", "is a URL, and ecliptic downloads no images"),
        ("gone.png", "No such file"),
        (b"junk", "not an image of an allowed format"),
        ([draw(), None], "NoneType object is not an image"),
        ([draw(), {"a": 1}], "dict object is not an image"),
        ([draw(), 3], "int object is not an image"),
        (torch.zeros(3, 8, 8), r"of shape \(3, 32, 32\), but these have \(3, 8, 8\)"),
        (torch.full((3, 32, 32), torch.nan), "NaN or infinity"),
        (np.zeros((4, 4, 3), np.uint16), "this one is uint16"),
    ],
)
def test_what_is_no_image_is_named(clip: Clip, source: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        clip.encode_image(source)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (None, "got NoneType"),
        (3, "got int"),
        ({"a.png": 1}, "a dict is not a sequence"),
        ({"a.png"}, "a set is not a sequence"),
    ]
    + [(np.array(["a.png"], dtype), r"images\.tolist\(\)") for dtype in ("U", "S", "O")],
)
def test_what_are_no_images_in_order_are_refused(clip: Clip, images: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        clip.encode_image(images)
    with pytest.raises(InputError, match=words):
        clip.stream_image(images)


def test_wrong_arguments_fail_at_once(clip: Clip) -> None:
    """Before the first image is read, also by a stream."""
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        clip.stream_image([], batch_size=0)
    with pytest.raises(ConfigError, match='on_error must be "raise" or "reject"'):
        clip.encode_image([], on_error="skip")  # type: ignore[call-overload]


def test_a_stream_is_read_as_it_is_used(clip: Clip) -> None:
    read = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal read
        while True:
            read += 1
            yield SEVEN[read % 7]

    stream = clip.stream_image(endless(), batch_size=2)
    assert read == 0
    first, second = next(stream), next(stream)
    assert (first.kept, second.kept) == ((0, 1), (2, 3))
    assert len(second.vectors) == 2
    threads = available_cores()
    assert read <= 4 + 4 * threads + 2  # the images of the next batch, and those in the threads
    stream.close()  # type: ignore[attr-defined]


def test_a_stream_of_one_image_is_one(clip: Clip, png: Path) -> None:
    (part,) = clip.stream_image(str(png))
    torch.testing.assert_close(part.vectors, clip.encode_image(png))


def test_an_error_of_the_input_itself_passes_through(clip: Clip) -> None:
    def failing() -> Iterator[Image.Image]:
        yield SEVEN[0]
        raise KeyError("next")

    with pytest.raises(KeyError, match="next"):
        clip.encode_image(failing(), on_error="reject")  # type: ignore[call-overload]


def test_b16_not_a_number_names_the_image(tmp_path: Path, png: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    weights = torch.full_like(checkpoint.weights["image.projection"], torch.nan)
    clip = reload(replace_weights(checkpoint, image_projection=weights), tmp_path / "nan")
    with pytest.raises(NumericalError, match=r"one\.png' and 1 more"):
        clip.encode_image([png, SEVEN[0]])


def test_b16_one_image_beyond_the_numbers_is_rejected_alone(
    cached: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(runtime: Runtime, pixels: Tensor) -> Tensor:
        rows = torch.ones(len(pixels), 32)
        rows[pixels.flatten(1).amax(1) > 100] = torch.inf
        return rows

    monkeypatch.setattr(Runtime, "image", overflowing)
    loud = torch.full((3, 32, 32), 1000.0)
    found = cached.encode_image([SEVEN[0], loud, SEVEN[1]], on_error="reject")
    assert (found.kept, len(found.vectors)) == ((0, 2), 2)
    (reject,) = found.rejected
    assert (reject.index, reject.source) == (1, "Tensor of shape (3, 32, 32)")
    assert isinstance(reject.error, NumericalError)
    assert cached._cache is not None
    assert len(cached._cache) == 2
    with pytest.raises(NumericalError, match="Tensor of shape"):
        cached.encode_image([SEVEN[2], loud])
    assert len(cached._cache) == 2  # nothing of a failed batch is kept


def test_the_bar_is_on_stderr_alone(clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    silent = clip.encode_image(SEVEN)
    assert capsys.readouterr() == ("", "")
    torch.testing.assert_close(clip.encode_image(SEVEN, progress=True), silent)
    assert capsys.readouterr().out == ""


def test_a_text_encoder_says_that_it_has_no_image_side(tmp_path: Path) -> None:
    clip = reload(tiny.checkpoint("text"), tmp_path / "text")
    for ask in (clip.encode_image, clip.stream_image, clip.preprocess):
        with pytest.raises(MissingTowerError, match="no image side"):
            ask(SEVEN[0])  # type: ignore[operator]


def test_content_tells_apart_whatever_gives_other_pixels() -> None:
    """Two images of one key would share a cached vector."""
    grey = Image.new("P", (4, 4), 1)
    red, blue, clear, turned = (grey.copy() for _ in range(4))
    red.putpalette([0, 0, 0, 255, 0, 0])
    blue.putpalette([0, 0, 0, 0, 0, 255])
    clear.putpalette([0, 0, 0, 255, 0, 0])
    clear.info["transparency"] = 1
    turned.putpalette([0, 0, 0, 255, 0, 0])
    turned.getexif()[0x0112] = 6
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    array = np.zeros((4, 4, 3), np.uint8)
    tensor = torch.zeros(4, 4, 3, dtype=torch.uint8)
    half, brain = torch.zeros(3, 8, 8).half(), torch.zeros(3, 8, 8).bfloat16()
    different = [red, blue, clear, turned, wide, tall, array, tensor, half, brain, b"a", b"b"]
    preprocess = Preprocess(ImageSpec(size=8))
    assert len({content_of(source, preprocess)[1] for source in different}) == len(different)
    assert content_of(red, preprocess)[1] == content_of(red.copy(), preprocess)[1]


def test_one_lazily_opened_image_may_stand_many_times_beside_a_cache(cached: Clip) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    draw(0, 300, 300).save(data, "PNG", exif=exif)
    for _ in range(5):
        content = [content_of(Image.open(data), cached.preprocessor)[1]] * 8
        lazy = Image.open(data)
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(lambda image: content_of(image, cached.preprocessor)[1], [lazy] * 8)
            assert list(found) == content
        assert len(cached.encode_image([Image.open(data)] * 8)) == 8


def test_content_is_the_bytes_wherever_they_lie(png: Path) -> None:
    preprocess, data = Preprocess(ImageSpec(size=8)), png.read_bytes()
    forms = [png, str(png), data, bytearray(data), memoryview(data), io.BytesIO(data)]
    assert len({content_of(source, preprocess) for source in forms}) == 1
    narrow = Preprocess(ImageSpec(size=8), limits=ImageLimits(formats=("JPEG",)))
    assert content_of(png, narrow)[1] != content_of(png, preprocess)[1]


def test_what_cannot_be_read_is_named_alike_with_and_without_a_cache(
    clip: Clip, cached: Clip, tmp_path: Path, png: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(png.read_bytes()[:-100])
    (tmp_path / "text.png").write_text("not an image")
    bad = [tmp_path / name for name in ("gone.png", "cut.png", "text.png")]
    bad += [
        b"junk",
        None,
        "https://example.org/a.png",
        Image.open(io.BytesIO(png.read_bytes()[:-100])),
    ]
    plain, other = (c.encode_image(bad, on_error="reject").rejected for c in (clip, cached))
    assert [(r.source, r.reason) for r in other] == [(r.source, r.reason) for r in plain]
    assert "cut.png" in other[1].reason


def test_a_file_that_changes_while_it_is_read_never_spoils_the_cache(
    cached: Clip, png: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pixels come from the bytes of the key, not from a second read of the file."""
    old = png.read_bytes()
    wanted = cached.encode_image(old)

    def swap(source: Any, preprocess: Preprocess) -> Any:
        found = content_of(source, preprocess)
        draw(5).save(png)
        return found

    cached._cache = EmbeddingCache(png.parent / "other")
    monkeypatch.setattr(images, "content_of", swap)
    torch.testing.assert_close(cached.encode_image(png), wanted)
    monkeypatch.undo()
    torch.testing.assert_close(cached.encode_image(old), wanted)
