"""What a loss cannot compute is refused with what to pass instead."""

import re

import pytest
import torch

from ecliptic.errors import ConfigError, EclipticError, ShapeError
from ecliptic.train.losses import Distillation, InfoNCE, SigLip

VECTORS, SCALE = torch.eye(3), torch.tensor(1.0)


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        ((VECTORS, VECTORS[:2], SCALE), {}, "image (3, 3) and text (2, 3) must both be (N, E)"),
        ((VECTORS[0], VECTORS[0], SCALE), {}, "row i of both is one pair"),
        (
            (VECTORS, VECTORS, SCALE),
            {"negatives": torch.ones(2, 4)},
            "negatives (2, 4) must be (M, 3)",
        ),
        (
            (VECTORS, VECTORS, SCALE),
            {"captions": torch.arange(3), "negatives": VECTORS},
            "captions (3,) must be (6,), one number for each text, those of negatives last",
        ),
        (
            (VECTORS, VECTORS, torch.ones(3)),
            {},
            "logit_scale must be one number, got a tensor (3,)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    arguments: tuple[torch.Tensor, ...], more: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ShapeError, match=re.escape(message)):
        InfoNCE()(*arguments, **more)
    with pytest.raises(ShapeError, match=re.escape(message)):
        SigLip()(*arguments, **more, bias=SCALE)


def test_a_teacher_of_other_pairs_is_refused() -> None:
    loss = Distillation()
    with pytest.raises(ShapeError, match=re.escape("(2, 3) and (2, 3) must both be (3, E')")):
        loss(VECTORS, VECTORS, SCALE, teacher=(VECTORS[:2], VECTORS[:2], SCALE))
    with pytest.raises(ShapeError, match="logit_scale of the teacher must be one number"):
        loss(VECTORS, VECTORS, SCALE, teacher=(VECTORS, VECTORS, torch.ones(2)))
    with pytest.raises(ShapeError, match="bias must be one number"):
        SigLip()(VECTORS, VECTORS, SCALE, bias=torch.ones(2))


@pytest.mark.parametrize("kind", [InfoNCE, SigLip, Distillation])
def test_a_block_without_rows_is_refused(kind: type) -> None:
    with pytest.raises(EclipticError, match="block must be"):
        kind(block=0)


def test_a_weight_that_is_no_share_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be from 0 to 1, got 1\.5"):
        Distillation(1.5)


def test_a_loss_takes_only_what_it_uses() -> None:
    with pytest.raises(TypeError, match="bias"):
        InfoNCE()(VECTORS, VECTORS, SCALE, bias=SCALE)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="negatives"):
        Distillation()(  # type: ignore[call-arg]
            VECTORS, VECTORS, SCALE, teacher=(VECTORS, VECTORS, SCALE), negatives=VECTORS
        )
