"""The guided distribution of Gaussian data is known: each kind reaches it, wrong ones do not."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ecliptic.guidance import Parametrisation, guided, steer
from tests.guidance.gaussian import KINDS, SCALE, SCHEDULES, WANTED, Denoise, ideal, loss, run

STEPS = 250


def levels(kind: Parametrisation) -> dict[str, Callable[[Tensor], Tensor]]:
    schedule = SCHEDULES[kind]
    if kind in ("karras", "flow"):
        return {}
    return {"alphas": schedule.alphas, "sigmas": schedule.sigmas}


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_samples_the_exact_distribution(kind: Parametrisation) -> None:
    outcome = run(kind, guided(ideal(kind), loss, SCALE, kind, **levels(kind)), STEPS)
    assert outcome.right, outcome


def test_noise_on_the_way_changes_nothing() -> None:
    denoise = guided(ideal("v"), loss, SCALE, "v", **levels("v"))
    outcome = run("v", denoise, 200, eta=1.0, count=600)
    assert ((outcome.ratio - 1).abs() < 3 * outcome.error).all(), outcome
    assert ((outcome.variance - 1).abs() < 0.2).all(), outcome  # 3 standard errors of 600


def wrong(how: str) -> Denoise:
    """Guidance of the noise as published and drawn elsewhere, wrong by one thing."""
    denoise, schedule = ideal("eps"), SCHEDULES["eps"]

    def steered(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.alphas(t)[:, None].double(), schedule.sigmas(t)[:, None].double()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            eps = denoise(x, t)
            (g,) = torch.autograd.grad(-SCALE * loss((x - s * eps) / a).sum(), x)
        for_x0 = SCALE * WANTED.expand_as(g)  # gradient for x0, without the denoiser's own
        found = {
            "without the share of noise": eps - g,
            "wrong sign": eps + s * g,
            "gradient for x0": eps - s * for_x0,
            "gradient for x0 over a": eps - s * for_x0 / a,
        }
        return found[how].detach()

    return steered


@pytest.mark.parametrize(
    "how",
    ["without the share of noise", "wrong sign", "gradient for x0", "gradient for x0 over a"],
)
def test_wrong_formulas_are_found(how: str) -> None:
    outcome = run("eps", wrong(how), STEPS)
    assert not outcome.right
    assert ((outcome.ratio - 1).abs() > 0.3).all(), outcome


def test_the_step_of_the_community_pipeline_is_far_too_strong() -> None:
    """It adds sigma^2 g to x in each step, where Euler's needs sigma (sigma - next sigma) g."""
    kind: Parametrisation = "karras"
    times = SCHEDULES[kind].times(400).double()
    x = torch.zeros(1, 4, dtype=torch.float64)
    right, theirs = x.clone(), x.clone()
    for now, then in pairwise(times):
        for name in ("right", "theirs"):
            y = right if name == "right" else theirs
            a, s = torch.ones(1, 1).double(), now.reshape(1, 1)
            with torch.enable_grad():
                y = y.detach().requires_grad_()
                x0 = ideal(kind)(y, now[None])
                (g,) = torch.autograd.grad(-SCALE * loss(x0).sum(), y)
            y, x0 = y.detach(), x0.detach()
            if name == "right":
                x0 = steer(kind, x0, g, a, s)
                right = x0 + (then / now) * (y - x0)
            else:
                theirs = x0 + (then / now) * (y - x0) + s.square() * g
    unguided = torch.zeros_like(x)
    for now, then in pairwise(times):
        x0 = ideal(kind)(unguided, now[None])
        unguided = x0 + (then / now) * (unguided - x0)
    times_too_strong = (theirs - unguided) / (right - unguided)
    assert ((times_too_strong > 30) & (times_too_strong < 50)).all(), times_too_strong


@pytest.mark.parametrize("kind", KINDS)
def test_scale_0_is_the_unguided_denoiser_to_the_last_bit(kind: Parametrisation) -> None:
    x, t = torch.randn(5, 4, dtype=torch.float64), torch.full((5,), 0.7, dtype=torch.float64)
    same = guided(ideal(kind), loss, 0.0, kind, **levels(kind))(x, t)
    assert torch.equal(same, ideal(kind)(x, t))


@pytest.mark.parametrize("through", ["denoiser", "x0"])
def test_a_negative_scale_makes_the_loss_larger(through: str) -> None:
    def mean_loss(scale: float) -> float:
        denoise = guided(ideal("v"), loss, scale, "v", through=through, **levels("v"))  # type: ignore[arg-type]
        outcome = run("v", denoise, 20)
        return -float(outcome.ratio.mean())

    assert mean_loss(-0.5) > mean_loss(0.0) > mean_loss(0.5)
