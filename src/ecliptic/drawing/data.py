"""The drawings of a training, each with its own CLIP vector and those of captions.

N drawings, K captions of each, E vector size, S picture size.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ecliptic.drawing.settings import DrawingSettings
from ecliptic.engine import Clip
from ecliptic.inputs import WHITE, ImageLimits, flatten, open_image
from ecliptic.train import open_drawings, vary_caption

LIMITS = ImageLimits(formats=("PNG",), file_bytes=1 << 20, pixels=1 << 20)


@dataclass(frozen=True)
class TrainingDrawings:
    """All drawings in memory."""

    pixels: Tensor  # (N, 3, S, S) uint8, on white
    images: Tensor  # (N, E) unit vectors of the drawings
    texts: Tensor  # (N, K, E) unit vectors of captions; the first is of the name
    weights: Tensor  # (N,) how often each is drawn; the sum is 1

    def __len__(self) -> int:
        return len(self.pixels)


def read_drawings(settings: DrawingSettings, clip: Clip) -> TrainingDrawings:
    """Read the drawings and encode them, a minute for 10,000.

    Concepts of a source come equally often, whatever the number of their drawings.

    Raises:
        StorageError: a table or a tar is missing or damaged.
    """
    parts = [_read_source(settings, number, clip) for number in range(len(settings.data.sources))]
    joined = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    pixels, images, texts, weights = joined
    return TrainingDrawings(pixels, images, texts, weights / weights.sum())


def _read_source(
    settings: DrawingSettings, number: int, clip: Clip
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels, vectors of images and of captions, and weights."""
    config = settings.data.sources[number]
    examples = open_drawings(config, settings.data.root)
    rows = [(index, one) for index, group in enumerate(examples.groups) for one in group]
    random = Random(f"{settings.seed}/{number}")
    captions = [
        [
            one.name,
            *(vary_caption(one, examples.captioner, random) for _ in range(settings.captions)),
        ]
        for _, one in rows
    ]
    size = settings.model.size
    whole = [flatten(open_image(examples.read(one), LIMITS), WHITE) for _, one in rows]
    small = [one.resize((size, size), Image.Resampling.BICUBIC) for one in whole]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in small]))
    flat = [text for own in captions for text in own]
    distinct = list(dict.fromkeys(flat))
    place = {text: at for at, text in enumerate(distinct)}
    vectors = clip.encode_text(distinct)[[place[text] for text in flat]]
    sizes = torch.tensor([len(examples.groups[index]) for index, _ in rows])
    weights = config.weight / sizes / len(examples.groups)
    texts = vectors.view(len(rows), settings.captions + 1, -1)
    return pixels.permute(0, 3, 1, 2).contiguous(), clip.encode_image(whole), texts, weights
