"""The losses are open_clip's, value and gradients."""

from typing import Any

import torch
from torch import Tensor

from ecliptic.train.losses import Distillation, InfoNCE, SigLip
from tests import peers

from .plain import Case, make_case


def check(found: Tensor, wanted: Tensor, ours: Case, theirs: Case, apart: float = 0.0) -> None:
    """`apart`: by how much the peer's value is larger."""
    torch.testing.assert_close(found, wanted - apart, rtol=1e-10, atol=0)
    pairs = zip(
        torch.autograd.grad(found, ours.leaves()),
        torch.autograd.grad(wanted, theirs.leaves()),
        strict=True,
    )
    for mine, peers_own in pairs:
        torch.testing.assert_close(mine, peers_own, rtol=1e-8, atol=1e-12)


def twice(**more: Any) -> tuple[Case, Case]:
    case = make_case(30, **more)
    return case, case.to(torch.float64)


def test_info_nce_is_clip_loss() -> None:
    peer = peers.open_clip().ClipLoss()
    ours, theirs = twice(scale=30)
    found = InfoNCE(8)(ours.image, ours.text, ours.logit_scale)
    check(found, peer(theirs.image, theirs.text, theirs.logit_scale.exp()), ours, theirs)


def test_sig_lip_is_sig_lip_loss() -> None:
    peer = peers.open_clip().loss.SigLipLoss()
    ours, theirs = twice(scale=10, bias=-10)
    found = SigLip(8)(ours.image, ours.text, ours.logit_scale, bias=ours.more["bias"])
    scale, bias = theirs.logit_scale.exp(), theirs.more["bias"]
    check(found, peer(theirs.image, theirs.text, scale, bias), ours, theirs)


def test_distillation_is_distill_clip_loss_without_the_teachers_entropy() -> None:
    peer = peers.open_clip().loss.DistillClipLoss()
    ours, theirs = twice(scale=30, teacher=True)
    images, texts, scale = teacher = ours.more["teacher"]
    found = Distillation(0.5, 8)(ours.image, ours.text, ours.logit_scale, teacher=teacher)
    both = peer(
        theirs.image, theirs.text, theirs.logit_scale.exp(), images, texts, scale.exp()
    )  # InfoNCE and soft cross entropy
    z = scale.exp() * images @ texts.T
    entropy = sum(torch.special.entr(p.softmax(1)).sum(1).mean() for p in (z, z.T)) / 2
    check(found, sum(both) / 2, ours, theirs, float(entropy) / 2)
