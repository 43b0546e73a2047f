"""Which example of which source stands in each row of each batch: arithmetic in the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError
from ecliptic.train.data.permutation import permute

CYCLE = 256  # steps after which the counts of the sources repeat
_HELD_OUT = 0x48454C44  # key of the order whose first part is held out; the same for every seed


@dataclass(frozen=True)
class RowPlace:
    """One row of a batch."""

    source: int
    epoch: int  # of the source
    index: int  # of the example in the source
    position: int  # in the endless stream of the source


class Mixture:
    """Rows of batches from several sources, by weight.

    Each batch has the same share of each source, up to whole rows; what is left over is made up for
    within `CYCLE` steps. A source is read in a new order in every epoch, each example once.

    Args:
        lengths: examples of each source.
        weights: of each source.
        batch: rows of a batch, over all processes.
        seed: of the orders.
        held_out: share of every source that is never in a row.

    Raises:
        ConfigError: no source, an empty one, or weights that are not positive.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        weights: Sequence[float],
        batch: int,
        seed: int,
        held_out: float = 0.0,
    ) -> None:
        if not lengths:
            raise ConfigError("there is nothing to train on; name a source in data.sources.")
        if min(weights) <= 0:
            raise ConfigError(f"weights of sources must be above 0, got {list(weights)}.")
        self.lengths, self.seed = tuple(lengths), seed
        self.held = tuple(round(held_out * n) for n in lengths)
        self.trained = tuple(n - h for n, h in zip(lengths, self.held, strict=True))
        if min(self.trained) < 1:
            raise ConfigError(
                f"source {self.trained.index(min(self.trained))} of data.sources has no example to "
                "train on; check its path, or lower data.held_out."
            )
        self._taken = _count_rows(np.array(weights, float), batch)  # (CYCLE + 1, sources)

    def rows(self, step: int) -> list[RowPlace]:
        """The rows of the batch of `step`, source by source."""
        cycle, number = divmod(step, CYCLE)
        first = cycle * self._taken[-1] + self._taken[number]
        counts = self._taken[number + 1] - self._taken[number]
        found: list[RowPlace] = []
        for source, count in enumerate(counts.tolist()):
            positions = first[source] + np.arange(count)
            epochs = positions // self.trained[source]
            for epoch in np.unique(epochs).tolist():
                here = positions[epochs == epoch]
                indices = self._order(source, epoch, here % self.trained[source]).tolist()
                rows = zip(indices, here.tolist(), strict=True)
                found += [RowPlace(source, epoch, index, position) for index, position in rows]
        return found

    def replace(self, row: RowPlace, attempt: int) -> RowPlace:
        """Another example in the place of one that cannot be read; `attempt` counts from 1."""
        count = self.trained[row.source]
        place = (row.position + attempt * (count // 2 + 1)) % count
        [index] = self._order(row.source, row.epoch, np.array([place])).tolist()
        return RowPlace(row.source, row.epoch, index, row.position)

    def _order(self, source: int, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of examples at places (0 to trained - 1) of the order of an epoch."""
        at = permute(places, self.trained[source], self.seed, source, epoch)
        if held := self.held[source]:
            at = permute(at + held, self.lengths[source], _HELD_OUT, source)
        return at

    def held_out(self, source: int) -> NDArray[np.int64]:
        """Indices of the examples of a source that are never in a row."""
        places = np.arange(self.held[source])
        return permute(places, self.lengths[source], _HELD_OUT, source)


def _count_rows(weights: NDArray[np.float64], batch: int) -> NDArray[np.int64]:
    """(CYCLE + 1, sources), rows of each source before each step of a cycle.

    Every step gives each source its share; rows that are left go to those who lack most.
    """
    share = weights / weights.sum() * batch
    taken = np.zeros((CYCLE + 1, len(weights)), np.int64)
    for step in range(CYCLE):
        lacking = share * (step + 1) - taken[step]
        counts = np.floor(lacking + 1e-9).clip(0).astype(np.int64)
        while counts.sum() < batch:
            counts[np.argmax(lacking - counts)] += 1
        while counts.sum() > batch:
            counts[np.argmin(np.where(counts > 0, lacking - counts, np.inf))] -= 1
        taken[step + 1] = taken[step] + counts
    return taken
