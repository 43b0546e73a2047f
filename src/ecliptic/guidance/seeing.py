"""What a model sees in pictures, with gradients to their values.

B pictures, H high, W wide, E vector size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.engine import Clip


def see(clip: Clip, images: Tensor) -> Tensor:
    """(B, E) unit vectors of pictures (B, 3, H, W) with values 0 to 1, differentiable.

    A picture is resized to the square that the model reads; what is not square is squashed, so that
    no edge is lost.

    Raises:
        MissingTowerError: the checkpoint has no image side.
    """
    tower = clip.model.image_tower
    spec = clip.preprocessor.spec
    weight = next(tower.parameters())
    square = (spec.size, spec.size)
    images = images.to(weight.device)
    if images.shape[-2:] != square:
        mode = spec.interpolation
        images = F.interpolate(images, square, mode=mode, antialias=True, align_corners=False)
    mean, std = (torch.tensor(x).to(images)[:, None, None] for x in (spec.mean, spec.std))
    vectors = tower(((images.clamp(0, 1) - mean) / std).to(weight.dtype))
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
