"""What a diffusion model needs from CLIP: conditioning tensors from prompts of any dialect.

Everything arrives when first named, so that parsing a prompt imports no torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.diffusion.conditioners import Conditioner
    from ecliptic.diffusion.conditioning import Conditioning
    from ecliptic.diffusion.opening import conditioner
    from ecliptic.diffusion.prompt.compiler import parse

_HOMES = {
    "Conditioner": "conditioners",
    "Conditioning": "conditioning",
    "conditioner": "opening",
    "parse": "prompt.compiler",
}

__all__ = ["Conditioner", "Conditioning", "conditioner", "parse"]


__getattr__ = arriving_later(__name__, _HOMES)
