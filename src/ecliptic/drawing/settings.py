"""The settings of a training of the drawing model, as its recipe has them."""

from dataclasses import dataclass, field
from pathlib import Path

from ecliptic.checks import check_count
from ecliptic.model import DrawingConfig
from ecliptic.train import DrawingsConfig


@dataclass(frozen=True)
class ConditionSettings:
    """Which vector stands for an example."""

    text: float = 0.6  # share of the vectors of captions; the others are of the drawing itself
    nothing: float = 0.1  # share of examples without a vector
    noise: float = 0.5  # greatest length of the noise that is added to a vector of length 1


@dataclass(frozen=True)
class TimeSettings:
    """The normal distribution whose logistic is the time, 0 without noise and 1 noise alone."""

    mean: float = 1.4
    deviation: float = 1.2


@dataclass(frozen=True)
class DrawingData:
    """Where the drawings are."""

    root: Path
    sources: tuple[DrawingsConfig, ...]


@dataclass(frozen=True)
class DrawingSettings:
    """One training of the drawing model."""

    data: DrawingData
    name: str = "drawing"
    seed: int = 0
    steps: int = 10000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 300
    cooldown: int = 3000  # last steps, in which the rate falls to 0
    ema: float = 0.999
    log_every: int = 100
    keep_every: int = 250
    captions: int = 6  # of each drawing, beside its name
    concepts: tuple[str, ...] = ()  # names that the model is measured with
    condition: ConditionSettings = field(default_factory=ConditionSettings)
    time: TimeSettings = field(default_factory=TimeSettings)
    model: DrawingConfig = field(default_factory=DrawingConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "keep_every", "captions"):
            check_count(name, getattr(self, name))
