"""What a model sees in pictures as unit vectors, with gradients to their values.

B pictures, H high, W wide, E vector size.
"""

import torch.nn.functional as F
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.guidance.losses.clip_loss import encode_pixels


def see(clip: Clip, images: Tensor) -> Tensor:
    """(B, E) unit vectors of pictures (B, 3, H, W) with values 0 to 1, differentiable.

    A picture is resized to the square that the model reads; what is not square is squashed, so that
    no edge is lost.

    Raises:
        MissingTowerError: the checkpoint has no image side.
    """
    spec = clip.preprocessor.spec
    square = (spec.size, spec.size)
    if images.shape[-2:] != square:
        mode = spec.interpolation
        images = F.interpolate(images, square, mode=mode, antialias=True, align_corners=False)
    vectors = encode_pixels(clip, images.clamp(0, 1)).to(images.device)
    return F.normalize(vectors, dim=-1)
