"""How fast a model runs on this machine, in how much memory, and how fast open_clip is.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.speed.machine import MachineFacts as MachineFacts
    from ecliptic.speed.measuring import measure_speed as measure_speed
    from ecliptic.speed.memory import MemoryUse as MemoryUse
    from ecliptic.speed.random_weights import random_checkpoint as random_checkpoint
    from ecliptic.speed.report import (
        MeasuredModel as MeasuredModel,
        PeerSpeed as PeerSpeed,
        RunSpread as RunSpread,
        SpeedReport as SpeedReport,
        SpeedRow as SpeedRow,
    )
    from ecliptic.speed.settings import PeerName as PeerName, SpeedSettings as SpeedSettings

__getattr__, __dir__ = lazy_names(__name__)
