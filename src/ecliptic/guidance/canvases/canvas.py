"""What an optimiser may ask of a canvas, and the canvas that changes only inside a mask.

B pictures of 3 colours, H high and W wide; values 0 to 1.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ecliptic.checks import check_range
from ecliptic.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Adjustable:
    """A tensor that is changed, and how fast."""

    tensor: Tensor  # a leaf that requires gradients
    rate: float  # of Adam: about the change in one step, in units of the tensor

    def __post_init__(self) -> None:
        check_range("the rate of a canvas", self.rate, above=True)


class Canvas(Protocol):
    """A picture that is computed from tensors which can be changed."""

    def parameters(self) -> list[Adjustable]:
        """The tensors to change; always the same ones."""

    def render(self) -> Tensor:
        """(B, 3, H, W) values 0 to 1 with gradients to the parameters."""

    def after_step(self) -> None:
        """Bring the parameters back to what is allowed; called after each step."""


class MaskedCanvas:
    """A canvas that shows another one inside a mask, and a picture outside, bit for bit."""

    def __init__(self, canvas: Canvas, picture: Tensor, mask: Tensor) -> None:
        """Keep `picture` outside the mask.

        Args:
            canvas: shown where the mask is 1.
            picture: (B, 3, H, W) values 0 to 1, shown where the mask is 0.
            mask: (1, 1, H, W) values 0 to 1; between them the two are mixed.

        Raises:
            ShapeError: the mask has another size than the picture.
            ConfigError: the mask is 0 everywhere, so nothing could change.
        """
        check_mask(mask, picture)
        self.canvas, self.picture, self.mask = canvas, picture, mask

    def parameters(self) -> list[Adjustable]:
        """Those of the inner canvas."""
        return self.canvas.parameters()

    def render(self) -> Tensor:
        """(B, 3, H, W): the inner canvas where the mask is 1."""
        inside = self.canvas.render()
        mixed = self.picture + self.mask * (inside - self.picture)
        return mixed.where(self.mask > 0, self.picture)

    def after_step(self) -> None:
        """As the inner canvas."""
        self.canvas.after_step()


def check_mask(mask: Tensor, picture: Tensor) -> None:
    """Raise unless a mask (1, 1, H, W) fits a picture (B, 3, H, W) and lets something change."""
    if mask.ndim != 4 or mask.shape[1] != 1 or mask.shape[-2:] != picture.shape[-2:]:
        wide, high = mask.shape[-1], mask.shape[-2]
        raise ShapeError(
            f"the mask is {wide} x {high} pixels, but the picture is {picture.shape[-1]} x "
            f"{picture.shape[-2]}; make the mask as large as the picture."
        )
    if not bool((mask > 0).any()):
        raise ConfigError(
            "the mask is black everywhere, so nothing may change; paint white what may change."
        )
