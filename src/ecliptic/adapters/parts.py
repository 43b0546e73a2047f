"""The text encoders that adapters are made for, by their names in files."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

Part = Literal["clip_l", "clip_h", "clip_g"]
PARTS: tuple[Part, ...] = get_args(Part)
WIDTHS: Mapping[Part, int] = MappingProxyType({"clip_l": 768, "clip_h": 1024, "clip_g": 1280})
TITLES: Mapping[Part, str] = MappingProxyType(
    {
        "clip_l": "CLIP-L, of SD 1.x, SDXL, SD3 and FLUX",
        "clip_h": "OpenCLIP-H, of SD 2.x",
        "clip_g": "OpenCLIP-bigG, of SDXL, SD3 and Stable Cascade",
    }
)


def part_of_width(width: int) -> Part | None:
    """The released text encoder whose tokens have `width` values, if there is one."""
    return next((part for part, known in WIDTHS.items() if known == width), None)
