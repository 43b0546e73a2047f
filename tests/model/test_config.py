"""Sizes that no tower can have are refused before a tower is built."""

from typing import Any

import pytest

from ecliptic.errors import ConfigError
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig, ViTConfig


@pytest.mark.parametrize(
    ("sizes", "fields", "message"),
    [
        (
            ViTConfig,
            {"activation": "quickgelu"},
            "unknown activation 'quickgelu'; use 'quick_gelu' or",
        ),
        (TextConfig, {"activation": ["gelu"]}, "unknown activation"),
        (ViTConfig, {"patch_size": 0}, "patch_size must be a whole number of 1 to"),
        (ViTConfig, {"image_size": 0}, "image_size must be"),
        (ViTConfig, {"image_size": 16}, "smaller than one patch of 32"),
        (ViTConfig, {"image_size": 225}, "leaves 1 pixels over"),
        (ViTConfig, {"width": -12}, "width must be"),
        (ViTConfig, {"mlp": 0}, "mlp must be"),
        (ViTConfig, {"depth": 20_000}, "depth must be a whole number of 1 to 256"),
        (ViTConfig, {"heads": 5}, "heads must divide the width"),
        (ViTConfig, {"heads": True}, "heads must be"),
        (ViTConfig, {"eps": float("nan")}, "eps of the norms"),
        (TextConfig, {"width": 1 << 62}, "width must be"),
        (TextConfig, {"context": 1.5}, "context must be"),
        (TextConfig, {"end_of_text": 49408}, "outside the vocabulary"),
        (ResNetConfig, {"depths": ("a", 1, 2, 3)}, r"depths\[0\] must be"),
        (ResNetConfig, {"depths": (1, 2, 3)}, "four numbers"),
        (ResNetConfig, {"width": 0}, "width must be"),
        (ClipConfig, {"embed": -1}, "embed must be"),
    ],
)
def test_impossible_sizes_are_refused(sizes: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sizes(**fields)
