"""Trainees whose gradients are those of all processes: DDP, or weights that are sharded (FSDP2)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from ecliptic.errors import ConfigError
from ecliptic.train.batch import Batch
from ecliptic.train.layers import blocks_of
from ecliptic.train.trainee import Trainee


def distribute(
    trainee: Trainee,
    kind: Literal["ddp", "fsdp"],
    device: torch.device,
    arrive: Callable[[str], None] = lambda _: None,
) -> nn.Module:
    """What encodes a batch in the place of `trainee`; what is frozen must be so already.

    Args:
        trainee: with the same weights in all processes.
        kind: "ddp", whole weights in each process, or "fsdp", a share of them.
        device: of this process.
        arrive: told what this process is about to do together with the others.

    Raises:
        ConfigError: batch norms in training, whose statistics would be those of a part of a batch.
    """
    if norms := trainee.moving_norms():
        raise ConfigError(
            f"with several processes, the {len(norms)} batch norms of this model ({norms[0]}, ...) "
            "would each see a part of the batch, so the result would depend on their number; train "
            'a transformer, freeze the ResNet with trains = "text", or use one process.'
        )
    if kind == "fsdp":
        return Sharded(trainee, device, arrive)
    return DistributedDataParallel(trainee, device_ids=[device] if device.type == "cuda" else None)


class Sharded(nn.Module):
    """A trainee whose trained towers are cut into shards, block by block.

    A frozen tower stays whole. So do the temperature and the bias: they are single numbers, and
    their gradients are averaged by `finish`.
    """

    def __init__(
        self, trainee: Trainee, device: torch.device, arrive: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.trainee, self.arrive = trainee, arrive
        self.roots: list[FSDPModule] = []
        trainee.text_groups = 1  # each group would fetch all the blocks once more
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for tower in trainee.towers().values():
            if any(parameter.requires_grad for parameter in tower.parameters()):
                tower.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                for block in blocks_of(tower):
                    fully_shard(block, mesh=mesh)
                self.roots.append(fully_shard(tower, mesh=mesh))

    def forward(self, batch: Batch) -> tuple[Tensor, ...]:
        """As the trainee."""
        return self.trainee(batch)  # type: ignore[no-any-return]

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Add gradients up in this process, within the block."""
        self._synchronise(False)
        try:
            yield
        finally:
            self._synchronise(True)

    def finish(self) -> None:
        """Average the gradients of the parameters that are not sharded."""
        self.arrive("averaging gradients")
        scalars = (self.trainee.model.logit_scale, self.trainee.logit_bias)
        for parameter in scalars:
            if parameter is not None and parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()

    def _synchronise(self, wanted: bool) -> None:
        for root in self.roots:
            root.set_requires_gradient_sync(wanted)
