"""The weighted sum of several losses as one loss. B batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError

ImageLoss = Callable[[Tensor], Tensor]  # images or x0 (B, ...) -> (B,), made smaller


class WeightedLoss:
    """Sum of losses, each times its weight; remembers the value of each part.

    Args:
        parts: pairs of a loss and its weight.

    Raises:
        ConfigError: no part, or a weight that is not finite.
    """

    def __init__(self, parts: Sequence[tuple[ImageLoss, float]]) -> None:
        if not parts:
            raise ConfigError("a weighted loss needs at least one (loss, weight).")
        for _, weight in parts:
            check_finite(weight, "a weight of a loss", "pass a finite number.", ConfigError)
        self.parts = tuple(parts)
        self.values: Mapping[str, Tensor] = {}  # by name, (B,) without the weight, of the last call

    def __call__(self, images: Tensor) -> Tensor:
        """(B, ...) -> (B,)."""
        total = images.new_zeros(len(images), dtype=torch.promote_types(images.dtype, torch.float))
        values = {}
        for number, (loss, weight) in enumerate(self.parts):
            value = loss(images)
            if value.shape != (len(images),):
                raise ShapeError(
                    f"the loss {name_of(loss)} must give one number for each of the {len(images)} "
                    f"images, got the shape {tuple(value.shape)}; take the mean of the other axes."
                )
            values[f"{number} {name_of(loss)}"] = value.detach()
            total = total + weight * value
        self.values = values
        return total

    def at(self, noise: float) -> None:
        """Tell each part how much noise is left, 1 to 0."""
        for loss, _ in self.parts:
            tell_noise(loss, noise)

    def restart(self) -> None:
        """Let each part begin again, as for a new run."""
        for loss, _ in self.parts:
            restart(loss)


def restart(loss: ImageLoss) -> None:
    """Call `loss.restart()` if the loss changes from call to call, such as by its cutouts."""
    if (begin := getattr(loss, "restart", None)) is not None:
        begin()


def tell_noise(loss: ImageLoss, noise: float) -> None:
    """Call `loss.at(noise)` if the loss changes with the noise."""
    if (at := getattr(loss, "at", None)) is not None:
        at(noise)


def name_of(loss: ImageLoss) -> str:
    """The name of a loss, for messages."""
    return getattr(loss, "__name__", type(loss).__name__)
