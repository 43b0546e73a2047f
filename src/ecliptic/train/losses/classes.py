"""The losses as small objects that autograd can differentiate.

Each is called with the unit vectors of the pairs: `loss(images, texts, logit_scale)`. Row i of
both is one pair. The matrix of all similarities is never held: memory is that of a few strips of it
and of the gradients. N pairs of this process, M other texts, E vector size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.train.losses.cross_entropy import Gradients, Pairs, Side, cross_entropy
from ecliptic.train.losses.ring import Alone, Ring
from ecliptic.train.losses.sigmoid import sigmoid

BLOCK = 512  # rows of a strip; 256 to 512 were fastest on CPUs


@dataclass(frozen=True, eq=False)
class Extras:
    """What a loss may get beside the pairs.

    Args:
        captions: (N,) integers, equal for equal captions, which are no negatives of each other.
        negatives: (M, E) unit vectors of captions that fit no image of the batch.
        teacher: the vectors and the logit_scale of a teacher for the same pairs.
        bias: what the sigmoid loss adds to all logits, a tensor of one value.
        ring: the processes that share the batch.
    """

    captions: Tensor | None = None
    negatives: Tensor | None = None
    teacher: tuple[Tensor, Tensor, Tensor] | None = None
    bias: Tensor | None = None
    ring: Ring | None = None


class Loss(Protocol):
    """A loss over a batch of pairs."""

    def __call__(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar."""


class InfoNCE:
    """The mean of the cross entropies of images over texts and of texts over images.

    Args:
        block: the most rows of the similarity matrix that are held at once.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; open_clip `ClipLoss`.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self.block = check_count("block", block)

    def __call__(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar.

        Raises:
            ShapeError: shapes that do not fit.
            ConfigError: a teacher, which this loss does not use.
        """
        extras = extras or Extras()
        if extras.teacher is not None:
            raise ConfigError("InfoNCE has no teacher; use Distillation.")
        _refuse_bias(extras)
        return _stream(cross_entropy, self.block, images, texts, logit_scale, extras)


class Distillation:
    """InfoNCE, and the Kullback-Leibler divergence from the softmaxes of a teacher.

    Args:
        weight: of the divergence; that of InfoNCE is 1 - weight.
        block: the most rows of the similarity matrix that are held at once.

    Source: the gradient of open_clip `DistillClipLoss`, whose value is larger by the entropy of the
    teacher (cross entropy instead of divergence).
    """

    def __init__(self, weight: float = 1.0, block: int = BLOCK) -> None:
        if not 0 <= weight <= 1:
            raise ConfigError(f"the weight of the teacher must be from 0 to 1, got {weight!r}.")
        self.weight, self.block = weight, check_count("block", block)

    def __call__(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar.

        Raises:
            ShapeError: shapes that do not fit.
            ConfigError: no teacher, or negatives, of which the teacher knows nothing.
        """
        extras = extras or Extras()
        if extras.teacher is None:
            raise ConfigError("Distillation needs the teacher's vectors; pass Extras(teacher=...).")
        if extras.negatives is not None:
            raise ConfigError("Distillation takes no negatives; leave them out, or use InfoNCE.")
        _refuse_bias(extras)
        return _stream(
            cross_entropy, self.block, images, texts, logit_scale, extras, share=self.weight
        )


class SigLip:
    """The mean over the images of softplus(-l z), for all texts, with z = s cos + bias.

    Args:
        block: the most rows of the similarity matrix that are held at once.

    Source: Zhai et al. 2023, arXiv:2303.15343, algorithm 1.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self.block = check_count("block", block)

    def __call__(
        self, images: Tensor, texts: Tensor, logit_scale: Tensor, extras: Extras | None = None
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar.

        Raises:
            ShapeError: shapes that do not fit.
            ConfigError: no bias, or a teacher, which this loss does not use.
        """
        extras = extras or Extras()
        if extras.teacher is not None:
            raise ConfigError("SigLip has no teacher; use Distillation.")
        if (bias := extras.bias) is None:
            raise ConfigError("SigLip needs a bias, -10 at the start; pass Extras(bias=...).")

        def gradients(pairs: Pairs) -> Gradients:
            return sigmoid(pairs, bias.detach().to(pairs.student.images))

        return _stream(gradients, self.block, images, texts, logit_scale, extras, bias=bias)


def _refuse_bias(extras: Extras) -> None:
    if extras.bias is not None:
        raise ConfigError("a softmax does not change with a bias; leave it out, or use SigLip.")


def _stream(
    gradients: Callable[[Pairs], Gradients],
    block: int,
    images: Tensor,
    texts: Tensor,
    logit_scale: Tensor,
    extras: Extras,
    *,
    share: float = 0.0,
    bias: Tensor | None = None,
) -> Tensor:
    _check_shapes(images, texts, extras)
    if extras.negatives is not None:
        texts = torch.cat([texts, extras.negatives.to(texts)])
    ring = extras.ring or Alone()
    how = _How(gradients, _distinct(extras.captions, len(texts), ring), ring, block, extras, share)
    found: Tensor = _Streamed.apply(how, images, texts, logit_scale, bias)
    return found


@dataclass(frozen=True, eq=False)
class _How:
    gradients: Callable[[Pairs], Gradients]
    captions: Tensor | None
    ring: Ring
    block: int
    extras: Extras
    share: float

    def pairs(self, images: Tensor, texts: Tensor, logit_scale: Tensor) -> Pairs:
        """The pairs in full precision, whatever autocast says."""
        dtype = torch.promote_types(images.dtype, torch.float32)

        def side(x: Tensor, y: Tensor, scale: Tensor) -> Side:
            x, y, scale = (v.detach().to(x.device, dtype) for v in (x, y, scale))
            return Side(x, y, scale.exp())

        teacher = self.extras.teacher and side(*self.extras.teacher)
        student = side(images, texts, logit_scale)
        return Pairs(student, self.captions, self.ring, self.block, teacher, self.share)


class _Streamed(torch.autograd.Function):
    """Computes the gradients together with the loss, because nothing else is worth keeping."""

    @staticmethod
    def forward(
        ctx: Any, how: _How, images: Tensor, texts: Tensor, logit_scale: Tensor, bias: Tensor | None
    ) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            found = how.gradients(how.pairs(images, texts, logit_scale))
        ctx.like = images.dtype, texts.dtype, logit_scale
        ctx.bias = bias
        ctx.found = found
        return found.loss

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        found: Gradients = ctx.found
        images, texts, scale = ctx.like
        bias = None if ctx.bias is None or found.bias is None else found.bias * upstream
        return (
            None,
            (found.images * upstream).to(images),
            (found.texts * upstream).to(texts),
            (found.logit_scale * upstream).to(scale).reshape(scale.shape),
            bias if bias is None else bias.to(ctx.bias).reshape(ctx.bias.shape),
        )


def _distinct(captions: Tensor | None, rows: int, ring: Ring) -> Tensor | None:
    """(rows,) numbers of all texts, or None where a process alone has no two equal ones."""
    if captions is None or (ring.size == 1 and len(torch.unique(captions)) == len(captions)):
        return None
    others = rows - len(captions)  # negatives: each its own, and no number of a caption
    own = torch.arange(-1, -1 - others, -1, device=captions.device)
    return torch.cat([captions.long().abs(), own])


def _check_shapes(images: Tensor, texts: Tensor, extras: Extras) -> None:
    if images.ndim != 2 or images.shape != texts.shape:
        raise ShapeError(
            f"images {tuple(images.shape)} and texts {tuple(texts.shape)} must both be (N, E); row "
            "i of both is one pair."
        )
    negatives, captions, teacher = extras.negatives, extras.captions, extras.teacher
    if negatives is not None and (negatives.ndim != 2 or negatives.shape[1] != texts.shape[1]):
        raise ShapeError(
            f"negatives {tuple(negatives.shape)} must be (M, {texts.shape[1]}), vectors like those "
            "of the texts."
        )
    if captions is not None and (captions.ndim != 1 or len(captions) != len(images)):
        raise ShapeError(
            f"captions {tuple(captions.shape)} must be ({len(images)},), one number for each pair."
        )
    if teacher is not None and not len(teacher[0]) == len(teacher[1]) == len(images):
        raise ShapeError(
            f"the teacher has {len(teacher[0])} images and {len(teacher[1])} texts for "
            f"{len(images)} pairs; encode the same pairs with both models."
        )
