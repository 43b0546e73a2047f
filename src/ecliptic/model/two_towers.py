"""Both towers and the temperature that scales their cosines.

Radford et al. 2021, arXiv:2103.00020, figure 3. B, I, T: batches of pixels, images, texts; E
vector size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import MissingTowerError
from ecliptic.model.config import ClipConfig, ResNetConfig
from ecliptic.model.resnet import ModifiedResNet
from ecliptic.model.text import TextTower
from ecliptic.model.vision import VisionTransformer

ImageTower = VisionTransformer | ModifiedResNet


class TwoTowers(nn.Module):
    """An image tower and a text tower that share one space of E dimensions.

    Weights are uninitialised until a checkpoint is assigned or `initialise` is called.
    """

    def __init__(self, config: ClipConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ClipConfig()
        self.image: ImageTower | None = None
        if isinstance(config.image, ResNetConfig):
            self.image = ModifiedResNet(config.image, config.embed)
        elif config.image:
            self.image = VisionTransformer(config.image, config.embed)
        self.text = TextTower(config.text, config.embed) if config.text else None
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # ln, section 2.5

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, E) raw vectors."""
        return self.image_tower(pixels)  # type: ignore[no-any-return]

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, E) raw vectors."""
        return self.text_tower(tokens)  # type: ignore[no-any-return]

    @property
    def image_tower(self) -> ImageTower:
        """The image tower; MissingTowerError when the checkpoint has none."""
        if self.image is None:
            raise MissingTowerError(
                "this checkpoint is a text encoder and has no image side; load a full CLIP to "
                "encode images."
            )
        return self.image

    @property
    def text_tower(self) -> TextTower:
        """The text tower; MissingTowerError when the checkpoint has none."""
        if self.text is None:
            raise MissingTowerError(
                "this checkpoint is an image encoder and has no text side; load a full CLIP to "
                "encode texts."
            )
        return self.text

    @property
    def temperature(self) -> Tensor:
        """The divisor of cosines, exp(-logit_scale): 0.01 in most released models."""
        return torch.exp(-self.logit_scale)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """(I, E) and (T, E) vectors, raw or unit -> (I, T), exp(logit_scale) * cosine."""
        cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
        return self.logit_scale.exp() * cosines

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """(I, T) logits of every image against every text."""
        return self.logits(self.encode_image(pixels), self.encode_text(tokens))


def build(config: ClipConfig) -> TwoTowers:
    """Build a TwoTowers on the meta device: shapes only, no memory, no random numbers."""
    with torch.device("meta"):
        return TwoTowers(config).eval()
