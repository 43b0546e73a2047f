"""Finds the process of a run that died or hangs, so that the error can name it.

A thread of every process writes signs of life of its own process into the store of the run and
reads those of the others: a count that the thread itself raises (the process lives), and a count
that the work raises before it waits for the others (how far it has come).
"""

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, field

from torch._C._distributed_c10d import Store  # as torch.distributed.Store

from ecliptic.errors import printable

PAUSE = 0.25  # seconds between two signs of life
SILENCE = 3.0  # seconds without one, after which a process counts as dead once others have failed
GRACE = 10.0  # seconds that the work has to end by itself, before the thread ends the process
LARGEST_REASON = 500  # characters of an error


@dataclass
class Sign:
    """What a process tells of itself."""

    ticks: int = 0  # raised by the thread
    arrivals: int = 0  # raised by the work, the same number of times in all processes
    moves: int = 0  # raised by the work whenever it gets on
    doing: str = "starting"
    ended: bool = False
    reason: str = ""  # of a failure that began in this process


@dataclass
class Seen:
    """The last sign of a process, and when it changed, by the clock of this process."""

    sign: Sign = field(default_factory=Sign)
    ticked: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    def take(self, sign: Sign, now: float) -> None:
        """Note a sign that was read."""
        if sign.ticks != self.sign.ticks:
            self.ticked = now
        if (sign.moves, sign.arrivals) != (self.sign.moves, self.sign.arrivals):
            self.moved = now
        self.sign = sign


class Watch:
    """Watches the processes of a run from each of them.

    Args:
        store: of the run; the watch has this connection for itself.
        rank, size: of this process and of all of them.
        timeout: seconds after which a process that does not get on counts as lost.
    """

    def __init__(self, store: Store, rank: int, size: int, timeout: float) -> None:
        self.store, self.rank, self.timeout = store, rank, timeout
        self.own = Sign()
        self.lost = ""  # what the thread found
        self.seen = [Seen() for _ in range(size)]
        self._store_lost = ""
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def start(self) -> None:
        """Begin, once all processes have called `announce`."""
        self._thread.start()

    def announce(self) -> None:
        """Write the first sign of this process."""
        self.store.set(f"sign/{self.rank}", json.dumps(asdict(self.own)))

    def missing(self) -> list[int]:
        """Ranks that have not called `announce`."""
        return [r for r in range(len(self.seen)) if not self.store.check([f"sign/{r}"])]

    def stop(self) -> None:
        """End the thread."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(timeout=GRACE)

    def arrive(self, doing: str) -> None:
        """Note that this process now waits for the others, to do `doing` together."""
        self.own.arrivals += 1
        self.own.doing = doing

    def proceed(self, doing: str = "") -> None:
        """Note that the work of this process gets on."""
        self.own.moves += 1
        self.own.doing = doing or self.own.doing

    def end(self, reason: str = "") -> None:
        """Tell the others that this process ends; the reason is given if it is the cause."""
        self.own.ended, self.own.reason = True, reason[:LARGEST_REASON]
        self._exchange()

    def explain(self) -> str:
        """Which process is lost; "" if none is. Waits for a few signs of life to come."""
        begun = time.monotonic()
        patience = 0.8 * self.timeout
        if begun - self.seen[self.rank].moved > patience:  # it waited: whoever is behind is lost
            patience = 0
        while time.monotonic() < begun + SILENCE + 4 * PAUSE:
            self._exchange()
            if found := self._find(silence=SILENCE, patience=patience):
                return found
            time.sleep(PAUSE)
        return ""

    def _follow(self) -> None:
        """The thread: exchange signs, and end the process if its work does not end by itself."""
        since: float | None = None
        while not self._done.wait(PAUSE):
            self.own.ticks += 1
            self._exchange()
            self.lost = self._find(silence=self.timeout, patience=self.timeout)
            if not self.lost:
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE:
                self.end()
                sys.stderr.write(f"error: {printable(self.lost)}\n")
                sys.stderr.flush()
                os._exit(1)  # the work waits in a call that nothing can interrupt

    def _exchange(self) -> None:
        """Write the own sign, read those of the others."""
        with self._lock:
            try:
                self.store.set(f"sign/{self.rank}", json.dumps(asdict(self.own)))
                keys = [f"sign/{rank}" for rank in range(len(self.seen))]
                found = [Sign(**json.loads(text)) for text in self.store.multi_get(keys)]
            except (RuntimeError, ValueError) as error:  # of the store's connection
                self._store_lost = self._store_lost or str(error).splitlines()[0]
                return
            now = time.monotonic()
            for seen, sign in zip(self.seen, found, strict=True):
                seen.take(sign, now)

    def _find(self, *, silence: float, patience: float) -> str:
        """Words for the processes that are lost, as far as it can be known."""
        now, size = time.monotonic(), len(self.seen)
        words = [
            f"rank {rank} of {size} ended with {seen.sign.reason}"
            for rank, seen in enumerate(self.seen)
            if seen.sign.reason
        ]
        if words:
            return "; ".join(words)
        if self._store_lost:
            return (
                f"torchrun, or rank 0 of {size}, or its machine is gone: the processes cannot "
                f"reach each other's signs of life any more ({self._store_lost})."
            )
        others = [(r, s) for r, s in enumerate(self.seen) if not s.sign.ended]
        for rank, seen in others:
            quiet = now - seen.ticked
            if rank != self.rank and quiet > silence:
                words.append(
                    f"rank {rank} of {size} has given no sign of life for {quiet:.0f} s, last seen "
                    f"{seen.sign.doing}; it was killed, ran out of memory, or its machine is gone."
                )
        if words:
            return " ".join(words)
        most = max(seen.sign.arrivals for seen in self.seen)
        for rank, seen in others:
            still = now - seen.moved
            if seen.sign.arrivals < most and still > patience:
                words.append(
                    f"rank {rank} of {size} has not got on for {still:.0f} s, last seen "
                    f"{seen.sign.doing}, while others wait for it; if it only needs longer, raise "
                    "processes.timeout."
                )
        return " ".join(words)
