"""How texts reach the images of other processes when several share a batch.

Images stay. Texts travel from process to process with what is known of them, and are home again
after as many turns as there are processes, so no process ever holds the whole batch
(Cheng et al. 2024, Inf-CL, arXiv:2410.17243).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Ring(Protocol):
    """The processes that share a batch."""

    @property
    def rank(self) -> int:
        """The number of this process."""

    @property
    def size(self) -> int:
        """The number of processes."""

    def count(self, rows: int) -> tuple[int, ...]:
        """Tell every process how many rows this one has; returns those of each."""

    def turn(self, tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
        """Send (k, ...) tensors to the next process; receive (rows, ...) from the previous one."""


class Alone:
    """The ring of one process, in which nothing moves."""

    rank = 0
    size = 1

    def count(self, rows: int) -> tuple[int, ...]:
        """The rows of the only process."""
        return (rows,)

    def turn(self, tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
        """The same tensors."""
        del rows
        return list(tensors)


@dataclass(frozen=True, eq=False)
class Hop:
    """The texts that are here for one turn: those of pairs first, then those without an image."""

    tensors: list[Tensor]  # (m, ...), what travels with each text; changes in place travel on
    captions: Tensor | None  # (m,) equal numbers for equal captions; None: all differ
    pairs: int  # texts that belong to an image
    home: bool  # text i belongs to image i of this process


class Travellers:
    """Tensors with one row per text that travel around a ring together.

    Args:
        ring: the processes.
        pairs: of this process, n.
        captions: (m,) numbers of the texts of this process, or None.
        tensors: (m, ...) of this process, the n texts of pairs first.
    """

    def __init__(
        self, ring: Ring, pairs: int, captions: Tensor | None, tensors: Sequence[Tensor]
    ) -> None:
        self.ring = ring
        self.pairs = ring.count(pairs)  # of each process
        self.rows = ring.count(len(tensors[0]))
        self._captions = captions
        self.here = list(tensors)

    def hops(self) -> Iterator[Hop]:
        """The texts of each process in turn, those of this one first; afterwards they are home."""
        captions = self._captions
        for hop in range(self.ring.size):
            owner = (self.ring.rank - hop) % self.ring.size
            yield Hop(self.here, captions, self.pairs[owner], owner == self.ring.rank)
            carried = self.here if captions is None else [*self.here, captions]
            before = (owner - 1) % self.ring.size
            carried = self.ring.turn(carried, self.rows[before])
            self.here = carried[: len(self.here)]
            captions = None if captions is None else carried[-1]
