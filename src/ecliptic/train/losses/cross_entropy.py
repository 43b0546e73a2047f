"""InfoNCE in two passes over strips of the similarity matrix, with its gradients.

z_ij = s x_i . y_j of image i and text j, N pairs. The loss is the mean of both cross entropies,

    L = 1/2N sum_i (r_i - z_ii) + (c_i - z_ii),   r_i = ln sum_j exp z_ij,   c_j = ln sum_i exp z_ij

and dL/dz_ij = [exp(z_ij - r_i) + exp(z_ij - c_j) - 2 (i = j)] / 2N. The first pass finds r and c,
the second one the gradients. With a teacher, whose softmaxes are p, the loss is (1 - w) L plus
w / 2N times the sum of KL(p || q) over rows and columns, where q are the softmaxes of z.

Source: Radford et al. 2021, arXiv:2103.00020, figure 3; Cheng et al. 2024, arXiv:2410.17243.
n pairs of this process, m texts that are here, E vector size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.train.losses.ring import Hop, Ring, Travellers
from ecliptic.train.losses.strips import OnlineSum, Strips, own_of, sum_products


@dataclass(frozen=True, eq=False)
class PairVectors:
    """The vectors of one model for the pairs of this process."""

    images: Tensor  # (n, E)
    texts: Tensor  # (m, E), those of the pairs first
    scale: Tensor  # the factor on the cosines


@dataclass(frozen=True, eq=False)
class Pairs:
    """What a loss streams over."""

    student: PairVectors
    captions: Tensor | None  # (m,) equal numbers for equal captions
    ring: Ring
    block: int  # the most rows of a strip
    teacher: PairVectors | None = None
    teacher_share: float = 0.0  # w


@dataclass(frozen=True, eq=False)
class Gradients:
    """The share of this process in a loss, and the gradients of its vectors."""

    loss: Tensor
    images: Tensor  # (n, E)
    texts: Tensor  # (m, E)
    logit_scale: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Sums:
    rows: Tensor  # (n,) r of the images of this process
    columns: Tensor  # (m,) c of the texts of this process
    own: Tensor  # (n,) z_ii


def cross_entropy(pairs: Pairs) -> Gradients:
    """The loss of this process's pairs, and the gradients of the loss of all pairs.

    Both are multiplied by the number of processes: distributed training takes the mean over the
    processes, and gets the loss and the gradient that one process would compute.
    """
    sums = _find_sums(pairs, pairs.student)
    taught = _find_sums(pairs, pairs.teacher) if pairs.teacher else None
    return _SecondPass(pairs, sums, taught).run()


def _find_sums(pairs: Pairs, side: PairVectors) -> _Sums:
    n, texts = len(side.images), side.texts
    rows, columns = OnlineSum.start(n, texts), OnlineSum.start(len(texts), texts)
    own = texts.new_zeros(n)
    strips = Strips(side.images, side.scale, pairs.captions, pairs.block)
    carried = [texts, columns.most, columns.total]
    travellers = Travellers(pairs.ring, n, pairs.captions, carried)
    for hop in travellers.hops():
        vectors, most, total = hop.tensors
        for at, z, room in strips.each(vectors, hop):
            if hop.home:
                own[at] = own_of(z, at)
            rows.add(z, room, 1, at)
            OnlineSum(most, total).add(z, room, 0)
    return _Sums(rows.value(), OnlineSum(*travellers.here[1:]).value(), own)


class _SecondPass:
    """Adds up the gradients and the divergence from the teacher."""

    def __init__(self, pairs: Pairs, sums: _Sums, taught: _Sums | None) -> None:
        self.pairs, self.sums, self.taught = pairs, sums, taught
        self.images = torch.zeros_like(pairs.student.images)
        self.divergence = pairs.student.images.new_zeros((), dtype=torch.float64)

    def run(self) -> Gradients:
        """Stream over all texts once, and scale what was added up."""
        pairs, student, sums = self.pairs, self.pairs.student, self.sums
        n = len(student.images)
        carried = [student.texts, sums.columns, torch.zeros_like(student.texts)]
        if pairs.teacher is not None and self.taught is not None:
            carried += [pairs.teacher.texts, self.taught.columns]
        travellers = Travellers(pairs.ring, n, pairs.captions, carried)
        strips = Strips(student.images, student.scale, pairs.captions, pairs.block)
        for hop in travellers.hops():
            texts, columns, gradient = hop.tensors[:3]
            taught = self._teach(hop)
            for at, z, room in strips.each(texts, hop):
                g = self._differentiate(at, z, room, columns, hop, next(taught, None))
                self.images[at] += g @ texts
                gradient.addmm_(g.T, student.images[at])
        factor = pairs.ring.size / (2 * max(1, sum(travellers.pairs)))
        texts = travellers.here[2].mul_(student.scale * factor)
        images = self.images.mul_(student.scale * factor)
        own = ((sums.rows - sums.own) + (sums.columns[:n] - sums.own)).double().sum()
        loss = (1 - pairs.teacher_share) * own + pairs.teacher_share * self.divergence
        scale = sum_products(student.images, images)  # z is proportional to exp(logit_scale)
        return Gradients((loss * factor).to(images), images, texts, scale.to(images))

    def _differentiate(
        self,
        at: slice,
        z: Tensor,
        room: Tensor,
        columns: Tensor,
        hop: Hop,
        taught: "_Taught | None",
    ) -> Tensor:
        """2N dL/dz of a strip of logits (b, m), in `room`; writes over the logits."""
        rows, share = self.sums.rows[at, None], self.pairs.teacher_share
        if taught is not None:
            self._add_divergence(z, rows, columns, taught)
        g = torch.sub(z, rows, out=room).exp_()
        g[:, : hop.pairs] += z[:, : hop.pairs].sub_(columns[: hop.pairs]).exp_()
        if hop.home:
            own_of(g, at).sub_(2 * (1 - share))
        if taught is not None:
            g.sub_(taught.by_row.exp_().add_(taught.by_column.exp_()), alpha=share)
        return g

    def _add_divergence(self, z: Tensor, rows: Tensor, columns: Tensor, taught: "_Taught") -> None:
        for ln_p, ln_sum in ((taught.by_row, rows), (taught.by_column, columns)):
            difference = ln_p - (z - ln_sum)  # of two logarithms
            self.divergence += difference.mul_(ln_p.exp()).double().sum()

    def _teach(self, hop: Hop) -> Iterator["_Taught"]:
        """The teacher's softmaxes for the texts that are here, strip by strip."""
        if self.pairs.teacher is None or self.taught is None:
            return
        side, (texts, columns) = self.pairs.teacher, hop.tensors[3:]
        strips = Strips(side.images, side.scale, self.pairs.captions, self.pairs.block)
        for at, z, room in strips.each(texts, hop):
            by_row = torch.sub(z, self.taught.rows[at, None], out=room)
            yield _Taught(by_row, z.sub_(columns))


@dataclass(frozen=True, eq=False)
class _Taught:
    by_row: Tensor  # (b, m) ln of the teacher's softmax over the texts of each image
    by_column: Tensor  # (b, m) ln of the one over the images of each text
