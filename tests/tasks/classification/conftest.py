"""A tiny model, and vectors of pictures that lie around the texts of their labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from tests import tiny

LABELS = ("cat", "dog", "car", "house")
Draw = Callable[..., tuple[Tensor, list[str]]]


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return path


@pytest.fixture(scope="session")
def clip(model_path: Path) -> Clip:
    clip = ecliptic.load(model_path)
    with torch.no_grad():
        clip.model.logit_scale.fill_(3.4)  # exp: 30
    return clip


@pytest.fixture(scope="session")
def draw(clip: Clip) -> Draw:
    """A function that draws vectors and their labels."""

    def draw(
        count: int, seed: int = 0, noise: float = 1.0, labels: tuple[str, ...] = LABELS
    ) -> tuple[Tensor, list[str]]:
        made = torch.Generator().manual_seed(seed)
        texts = clip.encode_text(labels)
        texts = F.normalize(texts - texts.mean(dim=0), dim=-1)  # apart, as those of a trained model
        places = torch.arange(count) % len(labels)
        around = noise * F.normalize(torch.randn(count, texts.shape[1], generator=made), dim=-1)
        vectors = F.normalize(texts[places] + around, dim=-1)
        return vectors, [labels[place] for place in places.tolist()]

    return draw


def draw_images(folder: Path, labels: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Paths of noisy pictures, each label in a colour of its own, and their labels."""
    made = np.random.default_rng(0)
    paths, truth = [], []
    for number in range(count):
        place = number % len(labels)
        pixels = made.integers(0, 90, (40, 40, 3), dtype=np.uint8)
        pixels[..., place % 3] += 40 * (2 + place // 3)
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
        truth.append(labels[place])
    return paths, truth
