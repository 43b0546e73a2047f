"""Streamed losses and gradients are those of plain autograd over the whole matrix."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ecliptic.train.losses import Distillation, InfoNCE, Loss, SigLip

from . import plain
from .plain import Case, make_case

SCALES, BLOCKS = (1.0, 14.3, 100.0), (7, 64, 300)


def check(loss: Loss, case: Case, wanted: Callable[[Case], Tensor], tolerance: float) -> None:
    """Loss and all gradients, relative to the size of each; the loss also times a factor."""
    found, plainly = loss(case.image, case.text, case.logit_scale, **case.more), wanted(case)
    pairs = zip(
        (found, *torch.autograd.grad(3 * found, case.leaves())),
        (plainly, *torch.autograd.grad(3 * plainly, case.leaves())),
        strict=True,
    )
    for place, (ours, theirs) in enumerate(pairs):
        assert ours.shape == theirs.shape
        error = float((ours - theirs).detach().norm())
        assert error <= tolerance * float(theirs.detach().norm()) + 1e-14, place


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("captions", "negatives"),
    [(0, 0), (40, 0), (0, 9), (40, 9)],
    ids=["plain", "same", "hard", "both"],
)
def test_info_nce_is_exact(block: int, scale: float, captions: int, negatives: int) -> None:
    case = make_case(90, scale=scale, captions=captions, negatives=negatives)
    check(InfoNCE(block), case, plain.info_nce, 1e-10)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("captions", "negatives"), [(0, 0), (40, 9)], ids=["plain", "both"])
def test_sig_lip_is_exact(block: int, scale: float, captions: int, negatives: int) -> None:
    case = make_case(90, scale=scale, captions=captions, negatives=negatives, bias=-10)
    check(SigLip(block), case, plain.sig_lip, 1e-10)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("captions", [0, 40], ids=["plain", "same"])
def test_distillation_is_exact(block: int, weight: float, captions: int) -> None:
    case = make_case(90, scale=50, captions=captions, teacher=True)
    check(Distillation(weight, block), case, lambda c: plain.distillation(c, weight), 1e-10)


@pytest.mark.parametrize("captions", [0, 1], ids=["plain", "all equal"])
@pytest.mark.parametrize("pairs", [1, 2, 8])
def test_few_pairs_and_batches_of_one_caption_are_exact(pairs: int, captions: int) -> None:
    made = (
        (InfoNCE(3), plain.info_nce, make_case(pairs, captions=captions)),
        (SigLip(3), plain.sig_lip, make_case(pairs, captions=captions, bias=-2)),
        (
            Distillation(0.5, 3),
            lambda case: plain.distillation(case, 0.5),
            make_case(pairs, captions=captions, teacher=True),
        ),
    )
    for loss, wanted, case in made:
        check(loss, case, wanted, 1e-10)


def test_pairs_without_negatives_have_no_loss() -> None:
    case = make_case(6, captions=1)
    alone = make_case(1)
    for one in (case, alone):
        loss = InfoNCE()(one.image, one.text, one.logit_scale, **one.more)
        assert float(loss.detach()) == 0
        assert not any(bool(g.any()) for g in torch.autograd.grad(loss, one.leaves()))


def test_no_pairs_have_a_loss_of_zero() -> None:
    case = make_case(0, bias=-1)
    loss = SigLip()(case.image, case.text, case.logit_scale, **case.more)
    loss = loss + InfoNCE()(case.image, case.text, case.logit_scale)
    assert float(loss.detach()) == 0
    loss.backward()
    assert case.logit_scale.grad is not None
    assert float(case.logit_scale.grad) == 0


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("scale", SCALES)
def test_float32_is_as_exact_as_it_can_be(scale: float, block: int) -> None:
    exact = make_case(300, scale=scale, captions=280, negatives=20)
    case = exact.to(torch.float32)
    found = InfoNCE(block)(case.image, case.text, case.logit_scale, **case.more)
    wanted = plain.info_nce(case.to(torch.float64))
    right = float(wanted.detach())
    assert abs(float(found.detach()) - right) <= 1e-6 * right
    case_64 = case.to(torch.float64)
    ours = torch.autograd.grad(found, case.leaves())
    theirs = torch.autograd.grad(plain.info_nce(case_64), case_64.leaves())
    plainly = torch.autograd.grad(plain.info_nce(case), case.leaves())
    for mine, right, usual in zip(ours, theirs, plainly, strict=True):
        size = float(right.norm())
        error = float((mine - right).norm()) / size
        rounding = float((usual - right).norm()) / size  # of autograd in float32
        assert error <= max(1e-6, 2 * rounding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_around_the_loss_changes_nothing(dtype: torch.dtype) -> None:
    case = make_case(40, scale=100, negatives=5, bias=-10).to(dtype)
    siglip = case.more
    softmax = {name: value for name, value in siglip.items() if name != "bias"}
    for loss, more in ((InfoNCE(16), softmax), (SigLip(16), siglip)):
        outside = loss(case.image, case.text, case.logit_scale, **more)
        with torch.autocast("cpu", torch.bfloat16):
            inside = loss(case.image, case.text, case.logit_scale, **more)
        assert inside.dtype == torch.float32
        assert torch.equal(inside, outside)
        leaves = [leaf for leaf in case.leaves() if leaf is not siglip["bias"]]
        for ours, theirs in zip(
            torch.autograd.grad(inside, leaves), torch.autograd.grad(outside, leaves), strict=True
        ):
            assert ours.dtype == dtype
            assert torch.equal(ours, theirs)


def test_a_hard_negative_equal_to_a_caption_is_none_for_its_image() -> None:
    case = make_case(5, negatives=2)
    ids = torch.tensor([0, 1, 2, 3, 4, 2, 9])  # the first negative is the caption of pair 2
    case.more["captions"] = ids
    check(InfoNCE(2), case, plain.info_nce, 1e-10)
    negatives = case.more["negatives"]
    alone = InfoNCE()(
        case.image[2:3],
        case.text[2:3],
        case.logit_scale,
        negatives=negatives[:1],
        captions=torch.tensor([7, 7]),
    )
    assert float(alone.detach()) == 0
