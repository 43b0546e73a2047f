"""The two towers of CLIP: tensors in, tensors out; no files, no pictures, no strings."""

from ecliptic.model.config import (
    Activation,
    ClipConfig,
    ImageConfig,
    ResNetConfig,
    TextConfig,
    ViTConfig,
)

__all__ = ["Activation", "ClipConfig", "ImageConfig", "ResNetConfig", "TextConfig", "ViTConfig"]
