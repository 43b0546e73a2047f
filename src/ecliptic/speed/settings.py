"""`SpeedSettings`: what one measurement covers and how long it takes. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from ecliptic.checks import check_choice, check_count, check_range
from ecliptic.errors import ConfigError

PeerName = Literal["open_clip", "none"]
MOST_BATCH = 4096  # items of a batch: 2.5 GB of pixels at 224 pixels a side


@dataclass(frozen=True)
class SpeedSettings:
    """What is measured, and for how long.

    Raises:
        ConfigError: no batch, one below 1 or above `MOST_BATCH`, or one that stands twice; seconds
            that are not a finite number above 0; an unknown peer.
    """

    batches: tuple[int, ...] = (1, 8, 32)  # items of one call, of images and of captions
    seconds: float = 60.0  # of all measurements; loading and opening the peer come on top
    peer: PeerName = "open_clip"  # measured in turns with ecliptic, or "none"

    def __post_init__(self) -> None:
        if not self.batches:
            raise ConfigError("name at least one batch, such as 1 or 32.")
        for batch in self.batches:
            if check_count("a batch", batch) > MOST_BATCH:
                raise ConfigError(
                    f"a batch must be at most {MOST_BATCH:,}, got {batch:,}: more pixels than that "
                    "may not fit into memory."
                )
        if len(set(self.batches)) < len(self.batches):
            raise ConfigError(f"each batch is measured once; {self._repeated()} stands twice.")
        check_range("seconds", self.seconds, above=True)
        check_choice("peer", self.peer, ("open_clip", "none"))

    def _repeated(self) -> int:
        return next(batch for batch in self.batches if self.batches.count(batch) > 1)
