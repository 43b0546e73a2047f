"""`load` and `Clip`: from a name to vectors; batching, caching, fingerprints.

Everything arrives when first named, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.engine.cache import EmbeddingCache as EmbeddingCache
    from ecliptic.engine.card import DTYPES as DTYPES, Card as Card
    from ecliptic.engine.clip import Clip as Clip
    from ecliptic.engine.doctor import Diagnosis as Diagnosis, Stage as Stage, diagnose as diagnose
    from ecliptic.engine.images import Encoded as Encoded
    from ecliptic.engine.implementations import (
        OTHERS as OTHERS,
        Implementation as Implementation,
        ours as ours,
    )
    from ecliptic.engine.loading import (
        MINI as MINI,
        Precision as Precision,
        load as load,
        open_checkpoint as open_checkpoint,
        resolve_device as resolve_device,
    )
    from ecliptic.engine.progress import progress_bar as progress_bar
    from ecliptic.engine.vectors import (
        Vectors as Vectors,
        check_vectors_path as check_vectors_path,
        load_vectors as load_vectors,
        save_vectors as save_vectors,
    )

__getattr__, __dir__ = lazy_names(__name__)
