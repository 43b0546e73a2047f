"""The contrastive loss of CLIP and the bound on its temperature. B batch, E vector size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ShapeError
from ecliptic.model import TwoTowers

# section 2.5: "clipped to prevent scaling the logits by more than 100"
LARGEST_SCALE = math.log(100)


def contrastive_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch; row i of both sides is one pair.

    Args:
        image: (B, E) vectors, raw or unit.
        text: (B, E) vectors, raw or unit.
        logit_scale: ln of the factor on the cosines.

    Returns:
        The mean of the cross entropies of both directions, a scalar.

    Raises:
        ShapeError: the two shapes differ.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; open_clip `ClipLoss`.
    """
    if image.shape != text.shape:
        raise ShapeError(
            f"images {tuple(image.shape)} and texts {tuple(text.shape)} differ; row i of both "
            "must be one pair."
        )
    image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
    logits = logit_scale.exp() * image @ text.T  # (B, B)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@torch.no_grad()
def clamp_temperature(model: TwoTowers) -> None:
    """Keep logit_scale in [0, ln 100], after every optimiser step (open_clip train.py)."""
    model.logit_scale.clamp_(0, LARGEST_SCALE)
