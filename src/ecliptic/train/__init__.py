"""Contrastive training in its smallest form; the built-in model `mini` was made with it.

The settings import no torch; the other names are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train.loop import Run as Run, train as train
    from ecliptic.train.loss import (
        clamp_temperature as clamp_temperature,
        contrastive_loss as contrastive_loss,
    )
    from ecliptic.train.settings import (
        DataSettings as DataSettings,
        OptimiserSettings as OptimiserSettings,
        TrainSettings as TrainSettings,
    )
    from ecliptic.train.validation import (
        Recall as Recall,
        Validation as Validation,
        evaluate as evaluate,
    )

__getattr__, __dir__ = lazy_names(__name__)
