"""Background correction: how much better a label fits than it fits other pictures.

Some labels are near to everything (hubs), so their cosines are high on any picture. Reference
images, or texts about nothing in particular, show what is usual. R references, N images, L labels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError

FEWEST_REFERENCES = 200  # images; below, mean and spread of a label are uncertain
_LEAST_SPREAD = 1e-6  # of cosines


@dataclass(frozen=True)
class Background:
    """Mean and standard deviation of each label's cosines with reference images."""

    means: tuple[float, ...]  # (L,)
    spreads: tuple[float, ...]  # (L,)

    def z_scores(self, cosines: Tensor) -> Tensor:
        """(N, L) cosines -> (N, L) how many standard deviations each is above usual; float64."""
        means, spreads = self._rows(cosines)
        return (cosines.double() - means) / spreads

    def correct(self, cosines: Tensor) -> Tensor:
        """(N, L) cosines -> (N, L) z scores in the units of cosines.

        They are stretched by the mean standard deviation, so a temperature for cosines fits.
        """
        _, spreads = self._rows(cosines)
        return self.z_scores(cosines) * spreads.mean()

    def _rows(self, cosines: Tensor) -> tuple[Tensor, Tensor]:
        if cosines.ndim != 2 or cosines.shape[1] != len(self.means):
            raise ShapeError(
                f"this background is of {len(self.means)} labels, but the cosines are "
                f"{tuple(cosines.shape)}."
            )
        means = torch.tensor(self.means, dtype=torch.float64)
        return means, torch.tensor(self.spreads, dtype=torch.float64)


def fit_background(cosines: Tensor) -> Background:
    """The background of (R, L) cosines of reference images with the labels.

    The references are pictures like those of later use, of anything; no label is needed.

    Raises:
        ConfigError: fewer than `FEWEST_REFERENCES`, or a label that is equally near to all.
        ShapeError: not (R, L).
    """
    if cosines.ndim != 2:
        raise ShapeError(f"cosines of references must be (R, L), got {tuple(cosines.shape)}.")
    if len(cosines) < FEWEST_REFERENCES:
        raise ConfigError(
            f"a background needs at least {FEWEST_REFERENCES} reference images, got "
            f"{len(cosines)}: {FEWEST_REFERENCES - len(cosines)} are missing. They need no labels."
        )
    values = cosines.double()
    spreads = values.std(dim=0)
    if bad := (~(spreads > _LEAST_SPREAD)).nonzero()[:, 0].tolist():
        raise ConfigError(
            f"label {bad[0]} is equally near to all reference images, so there is no scale; use "
            "different images."
        )
    return Background(tuple(values.mean(dim=0).tolist()), tuple(spreads.tolist()))


def above_background(cosines: Tensor, background: Tensor) -> Tensor:
    """Cosines less the mean cosine of each image with the background texts.

    It changes no softmax over the labels, but makes the scores of different images comparable.

    Args:
        cosines: (N, L) of images with labels.
        background: (N, R) of the same images with background texts.
    """
    if cosines.ndim != 2 or background.ndim != 2 or len(cosines) != len(background):
        raise ShapeError(
            f"cosines {tuple(cosines.shape)} and background {tuple(background.shape)} must have a "
            "row for each image."
        )
    return cosines.double() - background.double().mean(dim=1, keepdim=True)
