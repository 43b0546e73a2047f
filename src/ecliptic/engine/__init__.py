"""`load` and `Clip`: from a name to vectors; batching, caching, fingerprints.

Everything arrives when first named, so that importing the package stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecliptic.engine.cache import EmbeddingCache
    from ecliptic.engine.card import Card
    from ecliptic.engine.clip import Clip
    from ecliptic.engine.images import Encoded
    from ecliptic.engine.loading import load, open_checkpoint
    from ecliptic.engine.vectors import Vectors, load_vectors, save_vectors

_HOMES = {
    "Card": "card",
    "Clip": "clip",
    "EmbeddingCache": "cache",
    "Encoded": "images",
    "Vectors": "vectors",
    "load": "loading",
    "load_vectors": "vectors",
    "open_checkpoint": "loading",
    "save_vectors": "vectors",
}

__all__ = [
    "Card",
    "Clip",
    "EmbeddingCache",
    "Encoded",
    "Vectors",
    "load",
    "load_vectors",
    "open_checkpoint",
    "save_vectors",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ecliptic.engine.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ecliptic.engine' has no attribute {name!r}")
