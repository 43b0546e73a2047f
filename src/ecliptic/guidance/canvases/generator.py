"""A canvas whose picture is made by a generator of the user; the input of the generator changes.

Source: Patashnik et al. 2021, StyleCLIP, arXiv:2103.17249, section 4 (latent optimisation).
"""

from collections.abc import Callable

from torch import Tensor

from ecliptic.checks import check_finite, check_range
from ecliptic.errors import ConfigError
from ecliptic.guidance.canvases.canvas import Adjustable

RATE = 0.1  # of Adam; `lr` of the authors' optimization/run_optimization.py


class GeneratorCanvas:
    """Pictures `generator(z)`; `z` changes, the generator does not."""

    def __init__(
        self, generator: Callable[[Tensor], Tensor], z: Tensor, rate: float = RATE
    ) -> None:
        """Start from the input `z`.

        Args:
            generator: z -> (B, 3, H, W) values 0 to 1, differentiable.
            z: (B, ...) floats, the input at the start.
            rate: of Adam, in units of z.

        Raises:
            ConfigError: z is not finite floats, or the rate is not above 0.
        """
        if not z.is_floating_point():
            raise ConfigError(f"z must hold floats, which can be changed, got {z.dtype}.")
        check_finite(z, "z", "pass a finite start.", ConfigError)
        check_range("rate", rate, above=True)
        self.generator, self.rate = generator, rate
        self.start = z.detach().clone()
        self.z = z.detach().clone().requires_grad_()

    def parameters(self) -> list[Adjustable]:
        """The input of the generator."""
        return [Adjustable(self.z, self.rate)]

    def render(self) -> Tensor:
        """(B, 3, H, W) of the generator."""
        return self.generator(self.z)

    def after_step(self) -> None:
        """Nothing: every input is allowed."""

    def drift(self, images: Tensor) -> Tensor:  # noqa: ARG002 it is a loss like others
        """(B,) squared distance of z from its start: a loss that keeps the picture.

        Give it a weight in `WeightedLoss`; the default of StyleCLIP's script is 0.008.
        """
        return (self.z - self.start).square().flatten(1).sum(1)
