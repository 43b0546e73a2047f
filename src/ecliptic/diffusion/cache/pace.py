"""How much a writer of a cache computes at a time, so that a kill loses little of its work."""

import math
import time

from ecliptic.errors import ConfigError

_FIRST = 8  # prompts, while the speed is not known


class Pace:
    """Sizes of the turns of one writer, each about an eighth to a quarter of `seconds` long."""

    def __init__(self, seconds: float, most: int) -> None:
        """Start with small turns of at most `most` prompts.

        Raises:
            ConfigError: `seconds` is not a positive number.
        """
        if not (0 < seconds < math.inf):
            raise ConfigError(
                f"seconds must be a number above 0, not {seconds}: after so much work a cache "
                "writes a file; 10 is a good choice."
            )
        self.size = _FIRST  # prompts of the next turn
        self.seconds = seconds
        self._most = most
        self._started = self._since = time.monotonic()  # of the turn; of the unsaved work
        self._last = 0.0  # seconds of the last turn

    def start(self, *, unsaved: bool) -> None:
        """Begin a turn; `unsaved` tells whether results of earlier turns wait to be written."""
        self._started = time.monotonic()
        if not unsaved:
            self._since = self._started

    def end(self) -> None:
        """End a turn, and choose the size of the next from the time it took."""
        self._last = time.monotonic() - self._started
        if self._last < self.seconds / 8:
            self.size = min(2 * self.size, self._most)
        elif self._last > self.seconds / 4:
            self.size = max(self.size // 2, 1)

    def is_due(self) -> bool:
        """Whether the unsaved work would be older than `seconds` after one more turn."""
        return time.monotonic() - self._since + self._last >= self.seconds
