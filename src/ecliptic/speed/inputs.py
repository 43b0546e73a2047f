"""The work that is measured: pixels, JPEG files, captions and token ids, made here.

Every item of a call is another one, because equal ones are computed once. S image side.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine import Clip, is_out_of_memory
from ecliptic.errors import ConfigError, MissingTowerError

JPEGS = 32  # the most of one call
TOKENIZED = 256  # captions of one call of the tokenizer
_LISTS = 8  # of captions, used in turn
_JPEG_SIZE = (640, 480)  # pixels, as the photographs of COCO
_PLACES = ("on a sunny day", "seen from above", "in front of a house by the river", "at night")
_THINGS = ("a red bicycle", "the harbour", "three kittens", "a wooden boat", "fresh bread")


@dataclass(frozen=True)
class Workload:
    """One kind of work with one size of batch."""

    kind: str  # the key of the call of each contender
    what: str  # for people
    batch: int  # items of one call
    inputs: Sequence[Any]  # of one call each, used in turn
    like: str = ""  # the kind whose largest batch is the most for this one too

    def cut(self, batch: int) -> "Workload":
        """The same with at most `batch` items a call."""
        if batch >= self.batch:
            return self
        return replace(self, batch=batch, inputs=[one[:batch] for one in self.inputs])

    def input_of(self, call: int) -> Any:
        """The input of the call of this number."""
        return self.inputs[call % len(self.inputs)]


def image_work(clip: Clip, batches: Sequence[int]) -> Iterator[Workload]:
    """What is measured of the image side; pixels are on the device before the clock starts.

    Raises:
        MissingTowerError: the model has no image side.
        ConfigError: the pixels of the largest batch do not fit into memory.
    """
    pixels = _make_pixels(max(batches), clip.preprocessor.spec.size, clip.device)
    for batch in sorted(batches):
        yield Workload("pixels", "images, from pixels", batch, [pixels[:batch]])
    files = [write_jpeg(number) for number in range(min(max(batches), JPEGS))]
    yield Workload("jpegs", "images, from JPEG files", len(files), [files], like="pixels")
    yield Workload("prepare", "JPEG files to pixels alone", len(files), [files])


def _make_pixels(count: int, side: int, device: torch.device) -> Tensor:
    """Random (count, 3, S, S) pixels on `device`."""
    generator = torch.Generator().manual_seed(0)
    try:
        return torch.randn(count, 3, side, side, generator=generator).to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"{count:,} images of {side} pixels do not fit into memory; use smaller batches."
        ) from error


def text_work(clip: Clip, batches: Sequence[int]) -> Iterator[Workload]:
    """What is measured of the text side; token ids are on the device before the clock starts.

    Raises:
        MissingTowerError: the model has no text side, or no tokenizer.
    """
    _ = clip.tokenizer  # raises
    for batch in sorted(batches):
        yield Workload("captions", "captions", batch, list_captions(batch))
    most = max(batches)
    tokens = [clip.tokenize(texts, "truncate").to(clip.device) for texts in list_captions(most)]
    yield Workload("tokens", "captions, from token ids", most, tokens, like="captions")
    yield Workload("tokenize", "captions to token ids alone", TOKENIZED, list_captions(TOKENIZED))


def list_work(clip: Clip, batches: Sequence[int]) -> tuple[list[Workload], list[str]]:
    """All that can be measured of `clip`, and a sentence for a side that it does not have."""
    work: list[Workload] = []
    missing: list[str] = []
    for sort, make in (("images", image_work), ("captions", text_work)):
        try:
            work += make(clip, batches)
        except MissingTowerError as error:
            missing.append(f"{sort} were not measured: {error}")
    return work, missing


def list_captions(batch: int) -> list[list[str]]:
    """Lists of `batch` different captions of 8 to 15 words each."""
    pairs = [f"a photo of {thing} {place}" for thing in _THINGS for place in _PLACES]
    texts = [f"{pairs[n % len(pairs)]} {n}" for n in range(_LISTS * batch)]
    return [texts[start : start + batch] for start in range(0, len(texts), batch)]


def write_jpeg(number: int) -> bytes:
    """The bytes of a JPEG file of 640 x 480 pixels: soft shapes and the grain of a photograph."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    shapes = np.asarray(coarse.resize(_JPEG_SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = random.normal(0, 6, shapes.shape).astype(np.float32)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(shapes + grain, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=90
    )
    return buffer.getvalue()
