"""The guided prediction beside one that is written out here, from the denoiser and the VAE."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.guidance import guided_pipeline
from ecliptic.guidance.pipelines.steps import combine
from tests.diffusion.pipelines import quiet
from tests.guidance.pipelines.tiny_pipelines import draw, pipe

SCALE, WEIGHT = 30.0, 4.0


def dark(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B,): how bright the middle is."""
    return images[..., 4:12, 4:12].square().mean(dim=(1, 2, 3))


class Listener:
    """Keeps the arguments of each call of a denoiser, and what the scheduler got for it."""

    def __init__(self, made: Any) -> None:
        self.calls: list[tuple[Tensor, Tensor, dict[str, Any]]] = []
        self.outputs: list[Tensor] = []
        self.forward, step = made.unet.forward, made.scheduler.step

        def heard_step(output: Tensor, *args: Any, **given: Any) -> Any:
            self.outputs.append(output)
            return step(output, *args, **given)

        made.unet.register_forward_pre_hook(
            lambda _, args, given: self.calls.append((*args[:2], given)), with_kwargs=True
        )
        made.scheduler.step = heard_step


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_the_gradient_passes_through_the_combined_prediction(rescale: float) -> None:
    made = pipe("sd1")
    listener = Listener(made)
    call = {"guidance_scale": WEIGHT, "guidance_rescale": rescale, "output_type": "latent"}
    with guided_pipeline(made, loss=dark, scale=SCALE) as guided:
        draw(guided, "sd1", 2, **call)
    for (x, t, given), output in zip(listener.calls, listener.outputs, strict=True):
        wanted = by_hand(made, listener, x.chunk(2)[0], t, given, rescale)
        torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-5)


def by_hand(
    made: Any, listener: Listener, x: Tensor, t: Tensor, given: dict[str, Any], rescale: float
) -> Tensor:
    """eps + s scale grad L, each piece written out."""
    product = made.scheduler.alphas_cumprod[t]
    given = given | {"return_dict": False}
    with torch.enable_grad(), quiet():
        x = x.detach().clone().requires_grad_()
        texts = given.pop("encoder_hidden_states").chunk(2)
        plain, worded = (
            listener.forward(x, t, encoder_hidden_states=text, **given)[0] for text in texts
        )
        eps = (1 - WEIGHT) * plain + WEIGHT * worded
        if rescale:
            even = torch.stack(
                [row * (w.std() / row.std()) for row, w in zip(eps, worded, strict=True)]
            )
            eps = rescale * even + (1 - rescale) * eps
        x0 = (x - (1 - product).sqrt() * eps) / product.sqrt()
        images = (made.vae.decode(x0 / 0.18215).sample + 1) / 2
        (slope,) = torch.autograd.grad(dark(images).sum(), x)
    return (eps + (1 - product).sqrt() * SCALE * slope).detach()


def test_the_gradient_of_one_half_alone_is_another() -> None:
    """So the test above would find the way of the community pipeline."""
    made = pipe("sd1")
    listener = Listener(made)
    with guided_pipeline(made, loss=dark, scale=SCALE) as guided:
        draw(guided, "sd1", 2, guidance_scale=WEIGHT, output_type="latent")
    x, t, given = listener.calls[1]
    text = given["encoder_hidden_states"].chunk(2)[0]
    only = given | {"encoder_hidden_states": torch.cat([text, text])}
    wrong = by_hand(made, listener, x.chunk(2)[0], t, only, 0.0)
    right = by_hand(made, listener, x.chunk(2)[0], t, given, 0.0)
    assert (wrong - right).norm() > 0.01 * right.norm()


def test_a_combination_of_equal_halves_is_that_half() -> None:
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(combine(x, x, 7.5, 0.0), x)
    torch.testing.assert_close(combine(x, x, 7.5, 0.7), x)
