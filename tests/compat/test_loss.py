"""The contrastive loss over several processes is open_clip's."""

from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
import torch.nn.functional as F

from ecliptic.compat import open_clip
from tests import peers

PROCESSES = 2


def compare(rank: int, folder: Path) -> None:
    """One process: the loss and its gradients with every way to gather."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES
    )
    torch.manual_seed(rank)
    pair = [F.normalize(torch.randn(3, 8), dim=-1) for _ in range(2)]
    for local, grad in product((False, True), repeat=2):
        found = []
        for library in (open_clip, peers.open_clip()):
            given = [x.clone().requires_grad_() for x in pair]
            loss = library.ClipLoss(local, grad, rank=rank, world_size=PROCESSES)
            value = loss(*given, torch.tensor(5.0))
            found.append([value, *torch.autograd.grad(value, given)])
        torch.testing.assert_close(found[0], found[1])
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_losses_and_gradients_of_two_processes_are_open_clips(tmp_path: Path) -> None:
    peers.open_clip()  # or skip
    torch.multiprocessing.spawn(compare, (tmp_path,), nprocs=PROCESSES)
