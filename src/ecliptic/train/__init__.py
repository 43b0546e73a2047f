"""Contrastive training: any data, any part of the model, any batch, any number of processes.

The settings import no torch; the other names are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train import losses as losses
    from ecliptic.train.loop import resume as resume, train as train
    from ecliptic.train.session import Run as Run
    from ecliptic.train.settings import (
        DataSettings as DataSettings,
        OptimSettings as OptimSettings,
        TrainSettings as TrainSettings,
    )

__getattr__, __dir__ = lazy_names(__name__)
