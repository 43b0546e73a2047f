"""The similarity matrix of a batch in strips of a few rows, so that it is never held as a whole.

n images of this process, m texts that are here, b rows of a strip, E vector size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ecliptic.train.losses.ring import Hop

NEVER = -1e30  # a logit that stands for -infinity, but whose differences are not NaN
STRIP_BYTES = 24 << 20  # of one strip; two are held at once


class Strips:
    """The logits of the images of this process with the texts that are here, strip by strip.

    Args:
        images: (n, E) unit vectors.
        scale: the factor on the cosines.
        captions: (n,) of the images' own texts; None: all differ.
        block: the most rows of a strip; it has fewer where they would not fit `STRIP_BYTES`.
        bias: added to each logit.
    """

    def __init__(
        self,
        images: Tensor,
        scale: Tensor,
        captions: Tensor | None,
        block: int,
        bias: Tensor | None = None,
    ) -> None:
        self.images, self.scale, self.bias = images, scale, bias
        self.captions = None if captions is None else captions[: len(images)]
        self.block = block

    def each(self, texts: Tensor, hop: Hop) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The rows and the logits (b, m) of each strip, and room for as many numbers.

        The caller may write over both; the next strip has the same memory.
        """
        fit = STRIP_BYTES // max(1, len(texts) * texts.element_size())
        step = max(1, min(self.block, fit, len(self.images)))
        logits, room = texts.new_empty(2, step, len(texts))
        for start in range(0, len(self.images), step):
            rows = slice(start, min(start + step, len(self.images)))
            z = logits[: rows.stop - rows.start]
            torch.mm(self.images[rows] * self.scale, texts.T, out=z)
            if self.bias is not None:
                z += self.bias
            self._hide_equal(z, rows, hop)
            yield rows, z, room[: len(z)]

    def _hide_equal(self, z: Tensor, rows: slice, hop: Hop) -> None:
        """Take texts with the caption of another pair out of the sums, but never the own text."""
        if self.captions is None or hop.captions is None:
            return
        equal = self.captions[rows, None] == hop.captions
        if hop.home:
            own_of(equal, rows).fill_(False)
        z.masked_fill_(equal, NEVER)


def own_of(strip: Tensor, rows: slice) -> Tensor:
    """The places (b,) where the images of a strip meet their own texts."""
    return strip.diagonal(offset=rows.start)[: rows.stop - rows.start]


def sum_products(a: Tensor, b: Tensor) -> Tensor:
    """The sum of all a_ij b_ij, in float64 over the rows, without a copy of either."""
    return torch.einsum("ne,ne->n", a, b).double().sum()


class OnlineSum:
    """ln of sums of exponentials over numbers that come strip by strip.

    Args:
        most: (k,) the largest number so far, `NEVER` at the start; changed in place.
        total: (k,) the sum of exp(number - most) so far; changed in place.
    """

    def __init__(self, most: Tensor, total: Tensor) -> None:
        self.most, self.total = most, total

    @classmethod
    def start(cls, count: int, like: Tensor) -> "OnlineSum":
        """`count` sums over nothing, with the dtype and device of `like`."""
        return cls(like.new_full((count,), NEVER), like.new_zeros(count))

    def add(self, numbers: Tensor, room: Tensor, dim: int, at: slice = slice(None)) -> None:
        """Add a strip of numbers, summed along `dim`, to the sums `at`; writes over `room`."""
        if numbers.numel() == 0:
            return
        most = torch.maximum(self.most[at], numbers.amax(dim))
        shifted = torch.sub(numbers, most.unsqueeze(dim), out=room).exp_()
        self.total[at] = self.total[at] * (self.most[at] - most).exp_() + shifted.sum(dim)
        self.most[at] = most

    def value(self) -> Tensor:
        """(k,) ln of the sums."""
        return self.most + self.total.log()
