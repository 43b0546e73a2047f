"""The losses written with the whole similarity matrix, for autograd; N pairs, M negatives."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 16


@dataclass(frozen=True, eq=False)
class Case:
    """The inputs of a loss."""

    image: Tensor  # (N, E)
    text: Tensor  # (N, E)
    logit_scale: Tensor
    more: dict[str, Any] = field(default_factory=dict)  # by the names of the losses' arguments

    def leaves(self) -> list[Tensor]:
        """All that gets a gradient."""
        rest = [self.more[name] for name in ("negatives", "bias") if name in self.more]
        return [self.image, self.text, self.logit_scale, *rest]

    def to(self, dtype: torch.dtype) -> "Case":
        """The same numbers in another precision, as new leaves."""

        def cast(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(v.detach().to(dtype) for v in value)
            if not value.is_floating_point():
                return value
            return value.detach().to(dtype, copy=True).requires_grad_()

        three = (cast(v) for v in (self.image, self.text, self.logit_scale))
        return replace(Case(*three), more={name: cast(value) for name, value in self.more.items()})


def make_case(
    pairs: int,
    *,
    scale: float = 14.3,
    captions: int = 0,
    negatives: int = 0,
    bias: float | None = None,
    teacher: bool = False,
    seed: int = 0,
) -> Case:
    """Random float64 vectors; `captions`: how many differ, 0 for no ids."""
    generator = torch.Generator().manual_seed(seed)

    def unit(rows: int, width: int = WIDTH) -> Tensor:
        vectors = torch.randn(rows, width, generator=generator, dtype=torch.float64)
        return F.normalize(vectors, dim=-1)

    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    more: dict[str, Any] = {}
    if captions:
        ids = torch.randint(-captions, captions, (pairs + negatives,), generator=generator)
        more["captions"] = ids % captions * (1 - 2 * (ids % 2))  # some below zero
    if negatives:
        more["negatives"] = unit(negatives).requires_grad_()
    if bias is not None:
        more["bias"] = number(bias).requires_grad_()
    if teacher:
        more["teacher"] = unit(pairs, 8), unit(pairs, 8), number(3.0)
    image, text = (unit(pairs).requires_grad_() for _ in range(2))
    return Case(image, text, number(scale).log().requires_grad_(), more)


def info_nce(case: Case) -> Tensor:
    """Both cross entropies over the whole matrix."""
    rows, columns = _logits(case)
    own = columns.diagonal()
    return ((rows.logsumexp(1) - own).mean() + (columns.logsumexp(0) - own).mean()) / 2


def distillation(case: Case, weight: float) -> Tensor:
    """The weighted mean of InfoNCE and of both divergences."""
    _, z = _logits(case)
    images, texts, scale = case.more["teacher"]
    taught = _hide(scale.exp() * images @ texts.T, case.more.get("captions"))

    def diverge(p: Tensor, q: Tensor) -> Tensor:
        terms = p.softmax(1) * (p.log_softmax(1) - q.log_softmax(1))
        return terms.masked_fill(p.isneginf(), 0).sum(1).mean()

    divergence = (diverge(taught, z) + diverge(taught.T, z.T)) / 2
    return (1 - weight) * info_nce(case) + weight * divergence


def sig_lip(case: Case) -> Tensor:
    """Softplus over the whole matrix."""
    z, pairs = _logits(case)[0] + case.more["bias"], len(case.image)
    signs = 2 * torch.eye(pairs, z.shape[1], dtype=z.dtype) - 1
    return -F.logsigmoid(signs * z).masked_fill(z.isneginf(), 0).sum() / pairs


def _logits(case: Case) -> tuple[Tensor, Tensor]:
    """(N, N + M) with the negatives, and (N, N) without."""
    negatives = case.more.get("negatives")
    texts = case.text if negatives is None else torch.cat([case.text, negatives])
    z = _hide(case.logit_scale.exp() * case.image @ texts.T, case.more.get("captions"))
    return z, z[:, : len(case.text)]


def _hide(z: Tensor, captions: Tensor | None) -> Tensor:
    if captions is None:
        return z
    equal = captions[: len(z), None] == captions
    equal.fill_diagonal_(False)
    return z.masked_fill(equal, float("-inf"))
