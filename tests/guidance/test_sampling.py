"""`sample`: steps of every kind, recurrences, seeds, and what is kept when a step fails."""

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, SamplingStoppedError, ShapeError
from ecliptic.guidance import (
    Recurrence,
    SampleStep,
    cosine_schedule,
    flow_schedule,
    karras_schedule,
    sample,
    stored_schedule,
)
from tests.guidance.gaussian import MEAN, SCHEDULES, VARIANCE, ideal


def noise(count: int = 200) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=random, dtype=torch.float64)


def test_it_is_ddim_of_diffusers() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(1000, clip_sample=False, set_alpha_to_one=True, steps_offset=0)
    scheduler.set_timesteps(20)
    schedule = stored_schedule(scheduler.alphas_cumprod)
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4).double()
    x = noise(3)
    theirs = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            theirs = scheduler.step(net(theirs), t, theirs).prev_sample
        times = torch.cat([scheduler.timesteps, torch.tensor([-1])])
        ours = sample(lambda x, t: net(x), x, "eps", schedule, times=times)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("repeats", [1, 3])
def test_every_setting_samples_the_data(eta: float, repeats: int) -> None:
    again = Recurrence(repeats)
    x = sample(ideal("flow"), noise(600), "flow", SCHEDULES["flow"], 60, eta=eta, recurrence=again)
    assert ((x.mean(dim=0) - MEAN).abs() < 4 * (VARIANCE / 600).sqrt()).all()
    assert ((x.var(dim=0) / VARIANCE - 1).abs() < 0.3).all()


def test_recurrences_are_counted_where_they_apply() -> None:
    calls: list[float] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append(float(t[0]))
        return torch.zeros_like(x)

    again = Recurrence(10, first=0.8, last=0.5)
    sample(denoise, noise(2), "flow", flow_schedule(), 10, recurrence=again)
    assert len(calls) == 6 + 4 * 10
    ends = Recurrence(10, first=0.3, last=0.1)
    assert [ends.count(number, 10) for number in range(6, 10)] == [1, 10, 10, 10]


def test_a_run_keeps_no_graph() -> None:
    net = torch.nn.Linear(4, 4).double()
    assert not sample(lambda x, t: net(x), noise(2), "flow", flow_schedule(), 3).requires_grad


def test_a_seed_repeats_exactly_and_a_batch_is_its_samples() -> None:
    def run(x: Tensor, seed: int) -> Tensor:
        return sample(ideal("v"), x, "v", SCHEDULES["v"], 10, eta=1.0, seed=seed)

    x = noise(3)
    assert torch.equal(run(x, 5), run(x, 5))
    assert not torch.equal(run(x, 5), run(x, 6))
    torch.testing.assert_close(run(x, 5)[:1], run(x[:1], 5))


def test_each_step_can_be_watched() -> None:
    seen: list[SampleStep] = []
    last = sample(ideal("flow"), noise(2), "flow", flow_schedule(), 7, watch=seen.append)
    assert [one.number for one in seen] == list(range(1, 8))
    assert torch.equal(seen[-1].x, last)
    torch.testing.assert_close(seen[-1].x0, last)
    seen.clear()
    sample(ideal("flow"), noise(2), "flow", flow_schedule(), 7, watch=seen.append, every=3)
    assert [one.number for one in seen] == [3, 6, 7]


def test_a_run_that_fails_keeps_what_was_reached() -> None:
    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return ideal("flow")(x, t) if float(t[0]) > 0.5 else x * float("nan")

    seen: list[SampleStep] = []
    with pytest.raises(SamplingStoppedError, match="step 6 of 10 stopped: the denoiser") as stop:
        sample(denoise, noise(2), "flow", flow_schedule(), 10, watch=seen.append)
    assert stop.value.step == 5
    assert isinstance(stop.value.reached, Tensor)
    assert torch.equal(stop.value.reached, seen[-1].x0)


def test_schedules_end_without_noise() -> None:
    products = torch.linspace(0.99, 0.01, 100)
    for schedule in (flow_schedule(3.0), cosine_schedule(), stored_schedule(products)):
        times = schedule.times(10)
        assert len(times) == 11
        assert float(schedule.sigmas(times[-1:])) == pytest.approx(0.0, abs=1e-6)
        assert bool((schedule.sigmas(times).diff() < 0).all())
    sigmas = karras_schedule(0.1, 10.0).times(5)
    assert sigmas.tolist()[0] == pytest.approx(10.0)
    assert sigmas.tolist()[-2:] == pytest.approx([0.1, 0.0])


def test_bad_input_is_refused() -> None:
    schedule = flow_schedule()
    with pytest.raises(ConfigError, match="eta must be 0 to 1"):
        sample(ideal("flow"), noise(1), "flow", schedule, eta=2.0)
    with pytest.raises(ConfigError, match="steps"):
        sample(ideal("flow"), noise(1), "flow", schedule, 0)
    zero = stored_schedule(torch.linspace(0.99, 0, 100))
    with pytest.raises(ConfigError, match=r"'eps' begins with noise alone \(a = 0\)"):
        sample(lambda x, t: x, noise(1), "eps", zero, 5)
    with pytest.raises(ConfigError, match=r"begins with no noise \(s = 0\).*a little later"):
        sample(ideal("flow"), noise(1), "flow", schedule, times=torch.tensor([0.0, 0.5]))
    with pytest.raises(ConfigError, match="shift"):
        flow_schedule(0.0)
    with pytest.raises(ConfigError, match="rho"):
        karras_schedule(rho=0.0)
    with pytest.raises(ShapeError, match="the batch is 0"):
        sample(ideal("flow"), noise(0), "flow", schedule)
    with pytest.raises(ConfigError, match="alphas_cumprod must fall"):
        stored_schedule(torch.tensor([0.1, 0.9]))
    with pytest.raises(ConfigError, match="only 3 times"):
        stored_schedule(torch.tensor([0.9, 0.5, 0.1])).times(4)
    with pytest.raises(ConfigError, match="0 < least < most"):
        karras_schedule(2.0, 1.0)
    with pytest.raises(ConfigError, match="shares of the run"):
        Recurrence(2, first=0.2, last=0.6)
