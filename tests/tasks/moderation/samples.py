"""Concepts, and vectors that show them or not."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.tasks import Concept

SWORD, PEN, BREAD = "a drawing of a sword", "a drawing of a pen", "a loaf of bread"
WEAPONS = Concept("weapons", positive=(SWORD,), contrast=(PEN,), threshold=0.0, action="review")
FOOD = Concept("food", positive=(BREAD,), threshold=0.999)


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def labelled(clip: Clip, positives: int, negatives: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Vectors that are more of a sword than of a pen, vectors of anything, and which is which."""
    sword, pen = clip.encode_text([SWORD, PEN])
    way = F.normalize(sword - pen, dim=0)
    rows = torch.cat([way + 0.15 * noise(positives, seed), noise(negatives, seed + 1)])
    truth = torch.arange(positives + negatives) < positives
    return rows, truth
