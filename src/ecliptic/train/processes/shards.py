"""Tensors of which each process holds a share (DTensor), and whole ones, by the same calls."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_shard(tensor: Tensor) -> bool:
    """Whether this process holds only a share of `tensor`."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor; all processes must call it for a share, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_whole(
    tensors: Mapping[str, Tensor], *, wanted: bool = True, device: str | None = None
) -> dict[str, Tensor]:
    """The whole of each tensor, on its device or on `device`.

    All processes must call it for shares; those without `wanted` get nothing.
    """
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor.detach())
        if wanted:
            found[name] = value.to(device or value.device).contiguous()
    return found


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor, or the share of this process of it, into `target`."""
    if isinstance(target, DTensor):
        value = value.to(target.device, target.dtype)
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(value)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Cut the gradients to the norm `most` of all of them together; returns their norm before."""
    kept = list(parameters)
    found = [p.grad for p in kept if p.grad is not None]
    shares = [gradient for gradient in found if isinstance(gradient, DTensor)]
    if not shares:
        return float(nn.utils.clip_grad_norm_(kept, most))
    rest = [gradient for gradient in found if not isinstance(gradient, DTensor)]
    norms = [whole(nn.utils.get_total_norm(shares)), nn.utils.get_total_norm(rest)]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_
    torch._foreach_mul_([gradient.to_local() for gradient in shares] + rest, factor)
    return float(norm)
