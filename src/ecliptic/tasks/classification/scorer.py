"""`Scorer` gives each label of an image a score, in the units of cosines.

By the texts alone, corrected by a background, or by what was learned from a few images.
N images, L labels, R background texts, E vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.scoring import Background, FewShot, above_background, cosine


@dataclass(frozen=True, eq=False)
class Scorer:
    """The vectors of the labels, and what changes their cosines."""

    texts: Tensor  # (L, E) unit vectors
    scale: float  # exp(logit_scale) of the model
    background: Background | None = None  # of reference images
    background_texts: Tensor | None = None  # (R, E)
    learned: FewShot | None = None

    @property
    def plain(self) -> bool:
        """Whether the scores are the cosines themselves."""
        return self.background is None and self.background_texts is None and self.learned is None

    def scores(self, vectors: Tensor) -> Tensor:
        """(N, E) vectors -> (N, L) scores, float64."""
        if self.learned is not None:
            unit = torch.nn.functional.normalize(vectors.double(), dim=-1)
            return self.learned.logits(unit) / self.scale
        cosines = cosine(vectors, self.texts).double()
        if self.background is not None:
            return self.background.correct(cosines)
        if self.background_texts is not None:
            return above_background(cosines, cosine(vectors, self.background_texts))
        return cosines
