"""A very small drawing model, and data for it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ecliptic.drawing import DrawingSettings, TrainingDrawings
from ecliptic.drawing.settings import DrawingData
from ecliptic.model import DrawingConfig
from ecliptic.train import DrawingsConfig

TINY = DrawingConfig(
    size=16, patch=2, width=8, inner=16, depth=1, heads=2, pixel_width=4, vector_tokens=2, embed=32
)


@pytest.fixture(scope="session")
def settings() -> DrawingSettings:
    data = DrawingData(Path(), (DrawingsConfig(Path("emoji")),))
    return DrawingSettings(
        data,
        steps=6,
        batch=4,
        rate=1e-3,
        warmup=2,
        cooldown=2,
        log_every=2,
        keep_every=3,
        model=TINY,
    )


@pytest.fixture(scope="session")
def drawings() -> TrainingDrawings:
    """Twelve squares of one colour, whose vectors are the colour and nothing else."""
    random = torch.Generator().manual_seed(0)
    colours = torch.rand(12, 3, generator=random)
    pixels = (colours[:, :, None, None] * 255).byte().expand(-1, -1, 16, 16).contiguous()
    vectors = F.normalize(F.pad(colours - 0.5, (0, 29)), dim=1)
    texts = vectors[:, None].expand(-1, 3, -1).contiguous()
    return TrainingDrawings(pixels, vectors, texts, torch.full((12,), 1 / 12))
