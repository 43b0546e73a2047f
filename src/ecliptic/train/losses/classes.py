"""The losses as small objects that autograd can differentiate.

Each is called with the unit vectors of the pairs: `loss(image, text, logit_scale)`. Row i of both
is one pair. The matrix of all similarities is never held: memory is that of a few strips of it and
of the gradients. N pairs of this process, M negatives, E vector size.

What a loss takes besides, by name:

- `captions`: (N + M,) integers, equal for equal captions, which are no negatives of each other;
  those of the negatives last. None: all differ.
- `negatives`: (M, E) unit vectors of captions that fit no image of the batch.
- `ring`: the processes that share the batch. The loss and its gradients are multiplied by their
  number, as distributed training takes the mean over the processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.train.losses.cross_entropy import Gradients, Pairs, PairVectors, cross_entropy
from ecliptic.train.losses.ring import Alone, Ring
from ecliptic.train.losses.sigmoid import sigmoid

BLOCK = 512  # rows of a strip; 256 to 512 were fastest on CPUs
Loss = Callable[..., Tensor]  # one of the classes below


class InfoNCE:
    """The mean of the cross entropies of images over texts and of texts over images.

    Negatives take part in the first of them, the one of images.

    Args:
        block: the most rows of the similarity matrix that are held at once.

    Source: Radford et al. 2021, arXiv:2103.00020, figure 3; open_clip `ClipLoss`.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self.block = check_count("block", block)

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        *,
        captions: Tensor | None = None,
        negatives: Tensor | None = None,
        ring: Ring | None = None,
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar.

        Raises:
            ShapeError: shapes that do not fit.
        """
        texts = _join(image, text, negatives, captions)
        how = _How(cross_entropy, self.block, captions, ring)
        return _stream(how, image, texts, logit_scale)


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
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        *,
        teacher: tuple[Tensor, Tensor, Tensor],
        captions: Tensor | None = None,
        ring: Ring | None = None,
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale -> a scalar.

        `teacher` holds what a teacher says of the same pairs: (N, E') and (N, E') unit vectors, and
        ln of its scale. No gradient reaches it.

        Raises:
            ShapeError: shapes that do not fit.
        """
        texts = _join(image, text, None, captions)
        _check_teacher(image, *teacher)
        how = _How(cross_entropy, self.block, captions, ring, teacher, self.weight)
        return _stream(how, image, texts, logit_scale)


class SigLip:
    """The mean over the images of softplus(-l z), for all texts, with z = s cos + bias.

    Args:
        block: the most rows of the similarity matrix that are held at once.

    Source: Zhai et al. 2023, arXiv:2303.15343, algorithm 1.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self.block = check_count("block", block)

    def __call__(
        self,
        image: Tensor,
        text: Tensor,
        logit_scale: Tensor,
        *,
        bias: Tensor,
        captions: Tensor | None = None,
        negatives: Tensor | None = None,
        ring: Ring | None = None,
    ) -> Tensor:
        """(N, E) and (N, E) unit vectors, ln of the scale, a bias of one value -> a scalar.

        Raises:
            ShapeError: shapes that do not fit.
        """
        texts = _join(image, text, negatives, captions)

        def gradients(pairs: Pairs) -> Gradients:
            return sigmoid(pairs, bias.detach().to(pairs.student.images))

        return _stream(_How(gradients, self.block, captions, ring), image, texts, logit_scale, bias)


def _join(image: Tensor, text: Tensor, negatives: Tensor | None, captions: Tensor | None) -> Tensor:
    """(N + M, E) all texts, those of the pairs first, after a look at all shapes."""
    if image.ndim != 2 or image.shape != text.shape:
        raise ShapeError(
            f"image {tuple(image.shape)} and text {tuple(text.shape)} must both be (N, E); row i "
            "of both is one pair."
        )
    if negatives is not None and (negatives.ndim != 2 or negatives.shape[1] != text.shape[1]):
        raise ShapeError(
            f"negatives {tuple(negatives.shape)} must be (M, {text.shape[1]}), vectors like those "
            "of the texts."
        )
    texts = text if negatives is None else torch.cat([text, negatives.to(text)])
    if captions is not None and captions.shape != (len(texts),):
        raise ShapeError(
            f"captions {tuple(captions.shape)} must be ({len(texts)},), one number for each text, "
            "those of negatives last."
        )
    return texts


def _check_teacher(image: Tensor, images: Tensor, texts: Tensor, scale: Tensor) -> None:
    if images.ndim != 2 or images.shape != texts.shape or len(images) != len(image):
        raise ShapeError(
            f"the teacher's vectors {tuple(images.shape)} and {tuple(texts.shape)} must both be "
            f"({len(image)}, E'), for the same pairs as those of the student."
        )
    _check_number("logit_scale of the teacher", scale)


def _check_number(name: str, number: Tensor) -> None:
    if number.numel() != 1:
        raise ShapeError(f"{name} must be one number, got a tensor {tuple(number.shape)}.")


@dataclass(frozen=True, eq=False)
class _How:
    gradients: Callable[[Pairs], Gradients]
    block: int
    captions: Tensor | None
    ring: Ring | None
    teacher: tuple[Tensor, Tensor, Tensor] | None = None
    share: float = 0.0  # of the teacher

    def pairs(self, images: Tensor, texts: Tensor, logit_scale: Tensor) -> Pairs:
        """The pairs in full precision, whatever autocast says."""
        dtype = torch.promote_types(images.dtype, torch.float32)

        def side(x: Tensor, y: Tensor, scale: Tensor) -> PairVectors:
            x, y, scale = (v.detach().to(images.device, dtype) for v in (x, y, scale))
            return PairVectors(x, y, scale.exp())

        ring = self.ring or Alone()
        captions = None if self.captions is None else self.captions.to(images.device)
        if ring.size == 1 and captions is not None and len(torch.unique(captions)) == len(captions):
            captions = None  # nothing to hide
        student = side(images, texts, logit_scale)
        teacher = self.teacher and side(*self.teacher)
        return Pairs(student, captions, ring, self.block, teacher, self.share)


def _stream(
    how: _How, images: Tensor, texts: Tensor, logit_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    _check_number("logit_scale", logit_scale)
    if bias is not None:
        _check_number("bias", bias)
    found: Tensor = _Streamed.apply(  # type: ignore[no-untyped-call]
        how, images, texts, logit_scale, bias
    )
    return found


class _Streamed(torch.autograd.Function):
    """Computes the gradients together with the loss, because nothing else is worth keeping."""

    @staticmethod
    def forward(
        ctx: Any, how: _How, images: Tensor, texts: Tensor, logit_scale: Tensor, bias: Tensor | None
    ) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            found = how.gradients(how.pairs(images, texts, logit_scale))
        ctx.found, ctx.like = found, (images.dtype, texts.dtype, logit_scale, bias)
        return found.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        found: Gradients = ctx.found
        images, texts, scale, bias = ctx.like

        def alike(gradient: Tensor, like: Tensor) -> Tensor:
            return (gradient * upstream).to(like).reshape(like.shape)

        return (
            None,
            (found.images * upstream).to(images),
            (found.texts * upstream).to(texts),
            alike(found.logit_scale, scale),
            None if found.bias is None else alike(found.bias, bias),
        )
