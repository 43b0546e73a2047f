"""ecliptic: one plane on which pictures and words meet.

`load` a CLIP, `encode_text`, `encode_image`, compare. Importing this module imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecliptic.errors import EclipticError

if TYPE_CHECKING:
    from ecliptic.engine import Card, Clip, Encoded, Vectors, load, load_vectors, save_vectors
    from ecliptic.inputs import ImageSpec, TokenizerSpec

__version__ = "0.1.0"

_HOMES = {
    "Card": "ecliptic.engine",
    "Clip": "ecliptic.engine",
    "Encoded": "ecliptic.engine",
    "ImageSpec": "ecliptic.inputs",
    "TokenizerSpec": "ecliptic.inputs",
    "Vectors": "ecliptic.engine",
    "load": "ecliptic.engine",
    "load_vectors": "ecliptic.engine",
    "save_vectors": "ecliptic.engine",
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ecliptic' has no attribute {name!r}")
