"""Contrastive training, the smallest honest version: what made the embedded default.

The settings import no torch; the rest arrives when first named.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later
from ecliptic.train.settings import DataSettings, OptimiserSettings, TrainSettings

if TYPE_CHECKING:
    from ecliptic.train.loop import Run, train
    from ecliptic.train.loss import clamp_temperature, contrastive_loss
    from ecliptic.train.validation import Recall, Validation, evaluate

_HOMES = {
    "Recall": "validation",
    "Run": "loop",
    "Validation": "validation",
    "clamp_temperature": "loss",
    "contrastive_loss": "loss",
    "evaluate": "validation",
    "train": "loop",
}

__all__ = [
    "DataSettings",
    "OptimiserSettings",
    "Recall",
    "Run",
    "TrainSettings",
    "Validation",
    "clamp_temperature",
    "contrastive_loss",
    "evaluate",
    "train",
]


__getattr__ = arriving_later(__name__, _HOMES)
