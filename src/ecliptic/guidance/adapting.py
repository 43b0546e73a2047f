"""Trains a generator of the user so that all its pictures change as a text changes.

Source: Gal et al. 2022, StyleGAN-NADA, arXiv:2108.00946, section 4: a copy of the generator stays
as it was; for the same input, the change from its picture should follow the text.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecliptic.checks import check_count, check_range, is_finite
from ecliptic.errors import ConfigError
from ecliptic.guidance.losses.directions import DirectionalLoss

Sample = Callable[[torch.Generator], Tensor]  # draws the inputs of a batch, (B, ...)


@dataclass(frozen=True)
class Adapted:
    """What a training of a generator reached."""

    losses: tuple[float, ...]  # of each step, mean over its batch
    notice: str = ""  # why it stopped early; "" if it did not


def adapt_generator(
    generator: nn.Module,
    loss: DirectionalLoss,
    sample: Sample,
    steps: int,
    *,
    rate: float = 0.002,
    report: Callable[[int, float], object] | None = None,
    seed: int = 0,
) -> Adapted:
    """Train the parameters of `generator` that require gradients, in place.

    A loss or gradient that becomes NaN or infinite stops the training before that step is made.

    Args:
        generator: z -> (B, 3, H, W) values 0 to 1. Freeze what should stay.
        loss: the directional loss, made without a picture.
        sample: draws the inputs z of a batch with the random numbers that it gets.
        steps: of Adam.
        rate: of Adam, without momentum as in the authors' ZSSGAN/train.py.
        report: called after each step with its number, from 1, and its loss.
        seed: of the inputs; the loss has its own.

    Raises:
        ConfigError: steps or a rate that cannot be, or nothing that can be trained.
    """
    check_count("steps", steps)
    check_range("rate", rate, above=True)
    trained = [weight for weight in generator.parameters() if weight.requires_grad]
    if not trained:
        raise ConfigError(
            "no parameter of the generator requires gradients; call requires_grad_() on those to "
            "train."
        )
    frozen = copy.deepcopy(generator)
    adam = torch.optim.Adam(trained, lr=rate, betas=(0.0, 0.99))
    random = torch.Generator().manual_seed(seed)
    loss.restart()
    losses: list[float] = []
    for step in range(steps):
        z = sample(random)
        with torch.no_grad():
            before = frozen(z)
        value = loss(generator(z), before).mean()
        if not _set_gradients(value, trained):
            notice = f"the loss or its gradient became NaN or infinite in step {step + 1}."
            return Adapted(tuple(losses), notice)
        adam.step()
        adam.zero_grad()
        losses.append(float(value.detach()))
        if report is not None:
            report(step + 1, losses[-1])
    return Adapted(tuple(losses))


def _set_gradients(value: Tensor, weights: list[nn.Parameter]) -> bool:
    """Give each weight its gradient, and no other tensor; false if something is not finite."""
    gradients = torch.autograd.grad(value, weights, allow_unused=True)
    if not all(is_finite(one) for one in (value, *gradients) if one is not None):
        return False
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    return True
