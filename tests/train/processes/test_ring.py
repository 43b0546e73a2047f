"""Losses over a ring of processes equal those of one process, in float64."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ecliptic.train.losses import Distillation, InfoNCE, Loss, SigLip
from ecliptic.train.processes import ProcessRing, join
from ecliptic.train.settings import ProcessSettings
from tests.train.processes.together import TIMEOUT, run_together

LOSSES: dict[str, Loss] = {"infonce": InfoNCE(5), "kl": Distillation(0.6, 5), "siglip": SigLip(5)}
NEGATIVES = 9


def draw(pairs: int, width: int = 16) -> Tensor:
    g = torch.Generator().manual_seed(pairs + width)
    return F.normalize(torch.randn(pairs, width, generator=g, dtype=torch.float64), dim=-1)


def differentiate(
    name: str, rows: slice, others: slice, pairs: int, ring: ProcessRing | None
) -> dict[str, Tensor]:
    """The loss and all gradients of some rows of a batch."""
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, pairs // 2, (pairs,), generator=g)
    leaves = {
        "images": draw(pairs)[rows],
        "texts": F.normalize(draw(pairs, 17)[rows, :16], dim=-1),
        "negatives": draw(NEGATIVES)[others],
        "scale": torch.tensor(4.0, dtype=torch.float64),
        "bias": torch.tensor(-3.0, dtype=torch.float64),
    }
    leaves = {key: leaf.clone().requires_grad_() for key, leaf in leaves.items()}
    more: dict[str, Any] = {"captions": ids[rows], "ring": ring}
    if name == "kl":
        scale = torch.tensor(3.0, dtype=torch.float64)
        more["teacher"] = draw(pairs, 8)[rows], draw(pairs, 8).flip(0)[rows], scale
    else:
        more["negatives"] = leaves["negatives"]
        more["captions"] = torch.cat([ids[rows], pairs + torch.arange(NEGATIVES)[others]])
    if name == "siglip":
        more["bias"] = leaves["bias"]
    loss = LOSSES[name](leaves["images"], leaves["texts"], leaves["scale"], **more)
    loss.backward()
    found = {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    return found | {"loss": loss.detach()}


def check_losses(rank: int, splits: tuple[tuple[int, ...], ...]) -> None:
    with join(ProcessSettings(timeout=TIMEOUT), "cpu") as world:
        for split in splits:
            pairs, start = sum(split), sum(split[:rank])
            rows = slice(start, start + split[rank])
            others = slice(NEGATIVES * rank // world.size, NEGATIVES * (rank + 1) // world.size)
            for name in LOSSES:
                one = differentiate(name, slice(None), slice(None), pairs, None)
                many = differentiate(name, rows, others, pairs, ProcessRing())
                for key, expected in one.items():
                    found = many[key].clone()
                    if key in ("loss", "scale", "bias"):
                        dist.all_reduce(found)
                    else:
                        expected = expected[others if key == "negatives" else rows]
                    torch.testing.assert_close(
                        found / world.size, expected, rtol=1e-10, atol=1e-12, msg=f"{name} {key}"
                    )


@pytest.mark.parametrize(
    "splits",
    [
        ((8, 8), (12, 5), (24, 0)),
        pytest.param(((4, 4, 4, 4), (7, 6, 5, 2), (8, 0, 9, 0)), marks=pytest.mark.slow),
    ],
    ids=["2", "4"],
)
def test_e5_losses_of_processes_equal_those_of_one(splits: tuple[tuple[int, ...], ...]) -> None:
    run_together(check_losses, len(splits[0]), splits)
