"""Training data: sources, their mixture, and batches prepared ahead."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train.data.augmentations import Augmentation as Augmentation, Plain as Plain
    from ecliptic.train.data.batches import (
        BadExample as BadExample,
        Batches as Batches,
        BatchMaker as BatchMaker,
        Prepared as Prepared,
        caption_ids as caption_ids,
        tokenize as tokenize,
    )
    from ecliptic.train.data.drawings import (
        DrawingExamples as DrawingExamples,
        open_drawings as open_drawings,
        vary_caption as vary_caption,
    )
    from ecliptic.train.data.examples import (
        Conceptual as Conceptual,
        Example as Example,
        Examples as Examples,
        Named as Named,
    )
    from ecliptic.train.data.mixture import Mixture as Mixture
    from ecliptic.train.data.open import (
        Data as Data,
        open_data as open_data,
        open_sources as open_sources,
    )
    from ecliptic.train.data.permutation import permute as permute

__getattr__, __dir__ = lazy_names(__name__)
