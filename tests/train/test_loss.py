"""The loss equals open_clip's, the temperature stays in bounds, and only matrices decay."""

import math

import pytest
import torch
import torch.nn.functional as F

from ecliptic.errors import ShapeError
from ecliptic.model import ClipConfig, TextConfig, ViTConfig, random_model
from ecliptic.train import OptimiserSettings, clamp_temperature, contrastive_loss
from ecliptic.train.optimiser import adamw, rate_at
from tests import peers

CONFIG = ClipConfig(
    embed=8,
    image=ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2, mlp=32),
    text=TextConfig(vocabulary=20, context=6, width=16, depth=1, heads=2, mlp=32, end_of_text=19),
)


def test_the_loss_and_its_gradients_are_open_clips() -> None:
    clip_loss = peers.open_clip().ClipLoss()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 16, generator=generator) for _ in range(2))
    scale = torch.tensor(2.6593)
    mine = [t.clone().requires_grad_() for t in (a, b, scale)]
    theirs = [t.clone().requires_grad_() for t in (a, b, scale)]
    ours = contrastive_loss(*mine)
    peer = clip_loss(
        F.normalize(theirs[0], dim=-1), F.normalize(theirs[1], dim=-1), theirs[2].exp()
    )
    torch.testing.assert_close(ours, peer)
    ours.backward()
    peer.backward()
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-5, atol=1e-7)


def test_perfect_and_random_pairs_have_the_expected_loss() -> None:
    apart = torch.eye(10)
    assert float(contrastive_loss(apart, apart, torch.tensor(math.log(100.0)))) < 1e-6
    same = torch.ones(10, 4)
    assert float(contrastive_loss(same, same, torch.tensor(0.0))) == pytest.approx(math.log(10))


def test_uneven_pairs_are_refused() -> None:
    with pytest.raises(ShapeError, match="row i of both must be one pair"):
        contrastive_loss(torch.ones(3, 4), torch.ones(2, 4), torch.tensor(1.0))


@pytest.mark.parametrize(("value", "wanted"), [(9.0, math.log(100)), (-3.0, 0.0), (2.0, 2.0)])
def test_the_temperature_is_clamped(value: float, wanted: float) -> None:
    model = random_model(CONFIG)
    model.logit_scale.data.fill_(value)
    clamp_temperature(model)
    assert float(model.logit_scale.detach()) == pytest.approx(wanted)


def test_only_matrices_decay() -> None:
    model = random_model(CONFIG)
    decaying, plain = adamw(model, OptimiserSettings(decay=0.2)).param_groups
    assert decaying["weight_decay"] == 0.2
    assert plain["weight_decay"] == 0.0
    assert all(p.ndim >= 2 for p in decaying["params"])
    assert any(p is model.logit_scale for p in plain["params"])
    assert len(decaying["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    settings = OptimiserSettings(rate=2.0, warmup=4)
    assert [rate_at(step, 100, settings) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert rate_at(4, 100, settings) == 2.0
    assert rate_at(52, 100, settings) == pytest.approx(1.0)
    assert rate_at(99, 100, settings) < 1e-3


def test_the_rate_starts_anew_at_a_restart() -> None:
    settings = OptimiserSettings(rate=2.0, warmup=4, restarts=(50, 80), restart_rate=0.5)
    assert rate_at(27, 100, settings) == pytest.approx(1.0)
    assert rate_at(49, 100, settings) < 5e-3
    assert rate_at(50, 100, settings) == rate_at(80, 100, settings) == 0.5
    assert rate_at(65, 100, settings) == rate_at(90, 100, settings) == pytest.approx(0.25)
