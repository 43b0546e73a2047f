"""SigLIP's loss in one pass over strips of the similarity matrix, with its gradients.

z_ij = s x_i . y_j + b, and L = 1/N sum_ij softplus(-l_ij z_ij) with l = 1 for pairs, else -1, so
dL/dz_ij = [sigmoid(z_ij) - (i = j)] / N.

Source: Zhai et al. 2023, arXiv:2303.15343, algorithm 1. n pairs of this process, m texts that are
here, E vector size.
"""

import torch
from torch import Tensor

from ecliptic.train.losses.cross_entropy import Gradients, Pairs
from ecliptic.train.losses.ring import Travellers
from ecliptic.train.losses.strips import Strips, own_of, sum_products


def sigmoid(pairs: Pairs, bias: Tensor) -> Gradients:
    """The loss of this process's pairs, and the gradients of the loss of all pairs.

    Both are multiplied by the number of processes, as those of `cross_entropy`.
    """
    student = pairs.student
    total = student.images.new_zeros((), dtype=torch.float64)
    by_bias = torch.zeros_like(total)
    images = torch.zeros_like(student.images)
    carried = [student.texts, torch.zeros_like(student.texts)]
    travellers = Travellers(pairs.ring, len(images), pairs.captions, carried)
    strips = Strips(student.images, student.scale, pairs.captions, pairs.block, bias)
    for hop in travellers.hops():
        texts, gradient = hop.tensors
        for at, z, room in strips.each(texts, hop):
            if hop.home:
                own_of(z, at).neg_()
            total += _sum_softplus(z, room)
            g = z.sigmoid_()
            if hop.home:  # not sigmoid - 1, which loses digits once pairs are told apart
                own_of(g, at).neg_()
            by_bias += g.sum(1).double().sum()
            images[at] += g @ texts
            gradient.addmm_(g.T, student.images[at])
    factor = pairs.ring.size / max(1, sum(travellers.pairs))
    images.mul_(student.scale * factor)
    found = travellers.here[1].mul_(student.scale * factor)
    scale = sum_products(student.images, images)  # z - b is proportional to exp(logit_scale)
    return Gradients(
        (total * factor).to(images), images, found, scale.to(images), (by_bias * factor).to(images)
    )


def _sum_softplus(z: Tensor, room: Tensor) -> Tensor:
    """The sum of ln(1 + exp z) = max(z, 0) + ln(1 + exp -|z|); writes over `room`."""
    above = torch.clamp(z, min=0, out=room).sum(1).double().sum()
    return above + torch.abs(z, out=room).neg_().exp_().log1p_().sum(1).double().sum()
