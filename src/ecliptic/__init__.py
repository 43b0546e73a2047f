"""ecliptic: one plane on which pictures and words meet.

`load` a CLIP, `encode_text`, `encode_image`, compare. Importing this module imports no torch.
"""

from typing import TYPE_CHECKING

from ecliptic.errors import EclipticError
from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.engine import Card, Clip, Encoded, Vectors, load, load_vectors, save_vectors
    from ecliptic.inputs import ImageSpec, TokenizerSpec

__version__ = "0.1.0"

_HOMES = {
    "Card": "engine",
    "Clip": "engine",
    "Encoded": "engine",
    "ImageSpec": "inputs",
    "TokenizerSpec": "inputs",
    "Vectors": "engine",
    "load": "engine",
    "load_vectors": "engine",
    "save_vectors": "engine",
}

__all__ = [
    "Card",
    "Clip",
    "EclipticError",
    "Encoded",
    "ImageSpec",
    "TokenizerSpec",
    "Vectors",
    "load",
    "load_vectors",
    "save_vectors",
]


__getattr__ = arriving_later(__name__, _HOMES)
