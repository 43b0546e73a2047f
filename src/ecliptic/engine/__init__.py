"""`load` and `Clip`: from a name to vectors; batching, caching, fingerprints.

Everything arrives when first named, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.engine.cache import EmbeddingCache
    from ecliptic.engine.card import DTYPES, Card
    from ecliptic.engine.clip import Clip
    from ecliptic.engine.doctor import Diagnosis, Stage, diagnose
    from ecliptic.engine.images import Encoded
    from ecliptic.engine.implementations import OTHERS, Implementation, ours
    from ecliptic.engine.loading import MINI, Precision, load, open_checkpoint, resolve_device
    from ecliptic.engine.progress import progress_bar
    from ecliptic.engine.vectors import Vectors, check_vectors_path, load_vectors, save_vectors

_HOMES = {
    "MINI": "loading",
    "DTYPES": "card",
    "OTHERS": "implementations",
    "Card": "card",
    "Clip": "clip",
    "Diagnosis": "doctor",
    "EmbeddingCache": "cache",
    "Encoded": "images",
    "Precision": "loading",
    "Implementation": "implementations",
    "Stage": "doctor",
    "Vectors": "vectors",
    "check_vectors_path": "vectors",
    "diagnose": "doctor",
    "load": "loading",
    "load_vectors": "vectors",
    "open_checkpoint": "loading",
    "ours": "implementations",
    "progress_bar": "progress",
    "resolve_device": "loading",
    "save_vectors": "vectors",
}

__all__ = [
    "DTYPES",
    "MINI",
    "OTHERS",
    "Card",
    "Clip",
    "Diagnosis",
    "EmbeddingCache",
    "Encoded",
    "Implementation",
    "Precision",
    "Stage",
    "Vectors",
    "check_vectors_path",
    "diagnose",
    "load",
    "load_vectors",
    "open_checkpoint",
    "ours",
    "progress_bar",
    "resolve_device",
    "save_vectors",
]


__getattr__ = arriving_later(__name__, _HOMES)
