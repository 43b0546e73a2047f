"""Tiny models in files, and images for them, for tests of the engine."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import ecliptic
from ecliptic.checkpoints import Checkpoint, Layout, write
from ecliptic.engine import Clip
from ecliptic.runtime import Runtime


def save(checkpoint: Checkpoint, path: Path, layout: Layout = "ecliptic") -> Path:
    """Write the checkpoint to `path`, and return `path`."""
    write(checkpoint, path, layout)
    return path


def reload(checkpoint: Checkpoint, path: Path, **options: Any) -> Clip:
    """Load the checkpoint after writing it to `path`."""
    return ecliptic.load(save(checkpoint, path), **options)


def replace_weights(checkpoint: Checkpoint, **weights: Tensor) -> Checkpoint:
    """Replace tensors of the checkpoint; in their names "_" is "."."""
    names = {name.replace(".", "_"): name for name in checkpoint.weights}
    new = {names[name]: tensor for name, tensor in weights.items()}
    return replace(checkpoint, weights={**checkpoint.weights, **new})


@cache
def draw(seed: int = 0, width: int = 40, height: int = 36) -> Image.Image:
    """A smooth random image, which is shared: do not change it."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


class Calls:
    """Replaces a method of `Runtime`: records the batch sizes, and raises `error` on request."""

    def __init__(self, method: Any, error: Exception | None = None, above: int = 0) -> None:
        self.method, self.error, self.above = method, error, above
        self.sizes: list[int] = []

    @classmethod
    def of(cls, name: str, monkeypatch: pytest.MonkeyPatch, *failure: Any) -> "Calls":
        """Replace the method `name` for the rest of the test."""
        calls = cls(getattr(Runtime, name), *failure)
        monkeypatch.setattr(Runtime, name, lambda runtime, rows: calls(runtime, rows))
        return calls

    def __call__(self, runtime: Runtime, rows: Tensor) -> Tensor:
        self.sizes.append(len(rows))
        if self.error and len(rows) > self.above:
            raise self.error
        return self.method(runtime, rows)  # type: ignore[no-any-return]
