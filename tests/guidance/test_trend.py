"""More guidance, more similarity: on an ideal denoiser and on a small trained one.

Means must rise with the scale, and Page's trend test over paired seeds must find p < 1e-6.
"""

from collections.abc import Callable

import pytest
import torch
from scipy.stats import page_trend_test
from torch import Tensor, nn

from ecliptic.guidance import cosine_schedule, guided, sample

SCHEDULE = cosine_schedule()
# Not from 1: the factor s / a of v multiplies the errors of a trained network without bound there.
TIMES = torch.linspace(0.97, 0, 31)
SEEDS = 128
Similarity = Callable[[Tensor], Tensor]


def encoder(width: int) -> nn.Module:
    """A frozen random encoder (B, width) -> (B, 8)."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, 8)).requires_grad_(False)


def similarity(width: int) -> Similarity:
    net = encoder(width)
    wanted = net(torch.randn(1, width, generator=torch.Generator().manual_seed(3)))
    return lambda x: torch.cosine_similarity(net(x), wanted)


def ideal_denoiser(data: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The best prediction of x0 for a set of examples: their mean, weighted by nearness."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        a, s = SCHEDULE.alphas(t)[:, None], SCHEDULE.sigmas(t)[:, None]
        far = (x[:, None] - a[:, None] * data).square().sum(dim=2) / (2 * s.square())
        return torch.softmax(-far, dim=1) @ data

    return denoise


def rises(means: Tensor, scores: Tensor) -> bool:
    """Whether means rise strictly, and Page's test is sure. Scores are (seeds, scales)."""
    return bool((means.diff() > 0).all()) and page_trend_test(scores.numpy()).pvalue < 1e-6


def scores_of(
    denoise: Callable[[Tensor, Tensor], Tensor], kind: str, width: int, scales: list[float]
) -> Tensor:
    """(seeds, scales) similarities of what is drawn from the same noise."""
    alike = similarity(width)
    noise = torch.randn(SEEDS, width, generator=torch.Generator().manual_seed(0))

    def draw(scale: float) -> Tensor:
        levels = {"alphas": SCHEDULE.alphas, "sigmas": SCHEDULE.sigmas}
        pulled = guided(denoise, lambda x0: 1 - alike(x0), scale, kind, **levels)  # type: ignore[arg-type]
        return sample(pulled, noise, kind, SCHEDULE, times=TIMES)  # type: ignore[arg-type]

    return torch.stack([alike(draw(scale)) for scale in scales], dim=1)


def test_an_ideal_denoiser_is_guided_monotonically() -> None:
    data = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    scores = scores_of(ideal_denoiser(data), "x0", 6, [-4.0, 0.0, 1.0, 2.0, 4.0, 8.0])
    assert rises(scores.mean(dim=0), scores), scores.mean(dim=0)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A small network that learnt to denoise 8 x 8 gratings, predicting v."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(65, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
    net.append(nn.Linear(128, 64))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(400):
        x0 = gratings(64)
        noise, t = torch.randn_like(x0), torch.rand(64)
        a, s = SCHEDULE.alphas(t)[:, None], SCHEDULE.sigmas(t)[:, None]
        v = net(torch.cat([a * x0 + s * noise, t[:, None]], dim=1))
        optimiser.zero_grad()
        (v - (a * noise - s * x0)).square().mean().backward()
        optimiser.step()
    return net.requires_grad_(False)


def gratings(count: int) -> Tensor:
    """(count, 64) waves of any direction and phase."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    angle, phase = torch.rand(2, count, 1, 1) * 6.2832
    return torch.sin(angle.cos() * x + angle.sin() * y + phase).flatten(1)


def test_a_trained_denoiser_is_guided_monotonically(trained: nn.Module) -> None:
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return trained(torch.cat([x, t[:, None]], dim=1))  # type: ignore[no-any-return]

    scores = scores_of(denoise, "v", 64, [-5.0, 0.0, 2.5, 5.0, 10.0, 20.0])
    assert rises(scores.mean(dim=0), scores), scores.mean(dim=0)
