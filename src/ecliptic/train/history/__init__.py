"""What a run tells while it goes on: lines, rates, curves."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train.history.curves import CURVES as CURVES, draw_curves as draw_curves
    from ecliptic.train.history.meter import Meter as Meter, measure_peak as measure_peak
    from ecliptic.train.history.recorder import (
        METRICS as METRICS,
        REJECTS as REJECTS,
        Recorder as Recorder,
        Report as Report,
        Silent as Silent,
    )
    from ecliptic.train.history.scalars import (
        Scalars as Scalars,
        check_tensorboard as check_tensorboard,
    )

__getattr__, __dir__ = lazy_names(__name__)
