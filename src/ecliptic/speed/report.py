"""What was measured, as data: `SpeedReport` and its parts."""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ecliptic.runtime import Choice
from ecliptic.speed.machine import MachineFacts
from ecliptic.speed.memory import MemoryUse


@dataclass(frozen=True)
class RunSpread:
    """The median of some runs and their range."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))

    @classmethod
    def of_rates(cls, seconds: Sequence[float], items: int) -> Self:
        """The spread of items per second, from the seconds of calls with `items` each."""
        return cls.of([items / max(took, 1e-9) for took in seconds])


@dataclass(frozen=True)
class PeerSpeed:
    """Another library with the same weights and the same inputs, measured in turns."""

    rate: RunSpread  # items per second
    ratio: float  # median of ecliptic / median of the peer: above 1, ecliptic is faster
    cosine: float  # the smallest between both vectors of an item


@dataclass(frozen=True)
class SpeedRow:
    """One kind of work with one size of batch."""

    what: str  # "images, from pixels"
    batch: int  # items of one call
    rate: RunSpread  # items per second
    peer: PeerSpeed | None = None


@dataclass(frozen=True)
class MeasuredModel:
    """The model that was measured."""

    name: str
    parameters: int
    weight_bytes: int  # as they are computed with
    precision: str
    device: str
    image_size: int | None  # pixels a side; None without an image tower
    context: int | None  # tokens; None without a text tower
    preprocess: str  # the mode: "reference", "robust"; "" without an image tower


@dataclass(frozen=True)
class SpeedReport:
    """The speed and the memory of one model on one machine."""

    model: MeasuredModel
    machine: MachineFacts
    choices: tuple[Choice, ...]  # how the runtime runs it, and why
    load: RunSpread  # seconds
    memory: tuple[MemoryUse, ...]  # empty if not known
    rows: tuple[SpeedRow, ...]
    peer: str  # "open_clip 3.3.0"; "" if none was measured
    notes: tuple[str, ...]  # sentences: what was not measured or not compared, and why
    seconds: float  # that all of it took

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)
