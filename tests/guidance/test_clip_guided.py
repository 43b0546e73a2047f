"""`clip_guided_diffusion` on a small model of pixels: the scale, seeds, and what it refuses."""

import pytest
import torch
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, SamplingStoppedError
from ecliptic.guidance import ClipLoss, SampleStep, clip_guided_diffusion


class Blobs:
    """The best denoiser of images that are one smooth colour each, with variance 0.1."""

    shape = (3, 32, 32)
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        product = self.alphas_cumprod[t.long()][:, None, None, None]
        a, s = product.sqrt(), (1 - product).sqrt()
        mean = x.mean(dim=(2, 3), keepdim=True) / a
        x0 = mean * (0.1 * product / (0.1 * product + s.square() / 1024)) + 0 * x
        return (x - a * x0) / s


def test_the_scale_raises_the_similarity(clip: Clip) -> None:
    judge = ClipLoss(clip, "a red fox", cutouts=0)

    def similarity(scale: float) -> float:
        found = clip_guided_diffusion(Blobs(), clip, "a red fox", scale, 20, count=6, cutouts=2)
        assert found.shape == (6, 3, 32, 32)
        return float(judge.similarity(found).mean())

    found = [similarity(scale) for scale in (-2000.0, 0.0, 2000.0)]
    assert found == sorted(found)
    assert found[0] < found[1] < found[2]


def test_a_seed_repeats_exactly(clip: Clip) -> None:
    def run(seed: int) -> Tensor:
        return clip_guided_diffusion(Blobs(), clip, "a cat", 50, 5, seed=seed, cutouts=2)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_what_was_reached_is_kept(clip: Clip) -> None:
    class Breaks(Blobs):
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            return super().__call__(x, t) / (t > 500).float()[:, None, None, None]

    seen: list[SampleStep] = []
    with pytest.raises(SamplingStoppedError) as stop:
        clip_guided_diffusion(Breaks(), clip, "a cat", 0, 10, watch=seen.append)
    assert isinstance(stop.value.reached, Tensor)
    assert stop.value.step == len(seen) > 0


def test_a_model_without_a_schedule_is_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="no attribute 'alphas_cumprod'"):
        clip_guided_diffusion(lambda x, t: x, clip, "a cat")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="only 1000 times"):
        clip_guided_diffusion(Blobs(), clip, "a cat", num_steps=1001)
