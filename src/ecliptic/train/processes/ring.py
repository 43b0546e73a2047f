"""The ring of the processes that torchrun started."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessRing:
    """Sends tensors around the processes of a group.

    Each turn starts all sends and receives together, as blocking ones in ring order can wait for
    each other for ever.

    Args:
        group: of processes; None: all.
        arrive: told what this process is about to do together with the others.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None = None,
        arrive: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.group, self.arrive = group, arrive
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def count(self, rows: int) -> tuple[int, ...]:
        """Tell every process how many rows this one has; returns those of each."""
        self.arrive("counting the pairs of a batch")
        device = "cuda" if dist.get_backend(self.group) == "nccl" else "cpu"
        own = torch.tensor([rows], dtype=torch.int64, device=device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own, group=self.group)
        return tuple(int(count) for count in found)

    def turn(self, tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
        """Send (k, ...) tensors to the next process; receive (rows, ...) from the previous one."""
        if self.size == 1:
            return list(tensors)
        self.arrive("exchanging vectors")
        after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        found = [tensor.new_empty(rows, *tensor.shape[1:]) for tensor in tensors]
        jobs = []
        for sent, received in zip(tensors, found, strict=True):
            if sent.numel():
                jobs.append(self._job(dist.isend, sent.contiguous(), after))
            if received.numel():
                jobs.append(self._job(dist.irecv, received, before))
        for work in dist.batch_isend_irecv(jobs) if jobs else ():
            work.wait()
        return found

    def _job(self, kind: Callable[..., Any], tensor: Tensor, peer: int) -> dist.P2POp:
        where = peer if self.group is None else dist.get_global_rank(self.group, peer)
        return dist.P2POp(kind, tensor, where, self.group)
