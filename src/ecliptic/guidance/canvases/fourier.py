"""Pixels in a Fourier basis with decorrelated colours: steps of Adam change all scales alike.

In this basis a step makes smooth changes as easily as sharp ones, so the picture has less of the
fine noise that fools a network. Source: Olah, Mordvintsev, Schubert 2017, Feature Visualization,
distill.pub, section "Preconditioning and Parameterization". The colour matrix and the scale of
1/f are those of its code, lucid: `optvis/param/color.py` and `optvis/param/spatial.py`.
B pictures, H high, W wide.
"""

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_finite, check_range
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance.canvases.canvas import Adjustable
from ecliptic.guidance.chance import generator_of

# Square root of the covariance of colours in ImageNet: `color_correlation_svd_sqrt` of lucid.
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
RATE = 0.05  # of Adam, as in lucid's `optvis/render.py`
NOISE = 0.01  # standard deviation of the coefficients at the start, as in lucid
NEAREST = 0.75 / 255  # a start may be so far from black and white: the sigmoid never reaches them


class FourierCanvas:
    """Pictures whose Fourier coefficients are changed; a sigmoid keeps them in 0 to 1."""

    def __init__(self, coefficients: Tensor, size: tuple[int, int], rate: float = RATE) -> None:
        """Take the coefficients as they are; `blank` and `of` make them.

        Args:
            coefficients: (B, 3, H, W // 2 + 1, 2), real and imaginary.
            size: H and W, pixels.
            rate: of Adam.

        Raises:
            ConfigError: the rate is not a finite number above 0.
        """
        check_range("rate", rate, above=True)
        self.size, self.rate = size, rate
        self.coefficients = coefficients.detach().clone().requires_grad_()

    @classmethod
    def blank(
        cls, size: tuple[int, int], batch: int = 1, seed: int = 0, noise: float = NOISE
    ) -> "FourierCanvas":
        """Grey pictures with a little noise; without any for `noise` 0.

        Raises:
            ConfigError: a size, batch or noise that cannot be.
        """
        high, wide = (check_count(f"the {n}", x) for n, x in zip(("height", "width"), size))  # noqa: B905
        check_count("batch", batch)
        check_range("noise", noise)
        generator = generator_of(seed)
        shape = (batch, 3, high, wide // 2 + 1, 2)
        return cls(noise * torch.randn(shape, generator=generator), (high, wide))

    @classmethod
    def of(cls, picture: Tensor, rate: float = RATE) -> "FourierCanvas":
        """Start from a picture (B, 3, H, W) with values 0 to 1; it renders within 1/255 of it.

        Raises:
            ShapeError, ConfigError: it is no such picture.
        """
        check_picture(picture)
        high, wide = picture.shape[-2:]
        near = picture.detach().double().clamp(NEAREST, 1 - NEAREST)
        inverse = torch.linalg.inv(_colour_matrix())
        planes = torch.einsum("ij,bjhw->bihw", inverse.to(near), near.logit())
        spectrum = torch.fft.rfft2(planes) / _scale(high, wide)
        return cls(torch.view_as_real(spectrum).to(picture.dtype), (high, wide), rate)

    def parameters(self) -> list[Adjustable]:
        """The coefficients."""
        return [Adjustable(self.coefficients, self.rate)]

    def render(self) -> Tensor:
        """(B, 3, H, W) values 0 to 1."""
        scale = _scale(*self.size).to(self.coefficients)
        spectrum = torch.view_as_complex(self.coefficients) * scale
        planes = torch.fft.irfft2(spectrum, s=self.size)  # (B, 3, H, W)
        return torch.einsum("ij,bjhw->bihw", _colour_matrix().to(planes), planes).sigmoid()

    def after_step(self) -> None:
        """Nothing: every coefficient is allowed."""


def check_picture(picture: Tensor) -> None:
    """Raise unless `picture` is (B, 3, H, W) with values 0 to 1."""
    if picture.ndim != 4 or picture.shape[1] != 3 or not picture.numel():
        raise ShapeError(
            f"a picture must be (B, 3, H, W), got {tuple(picture.shape)}; add the batch with "
            "picture[None] and put the colours first."
        )
    check_finite(picture, "the picture", "pass values 0 to 1.", ConfigError)
    if not picture.is_floating_point() or picture.amin() < 0 or picture.amax() > 1:
        raise ConfigError(
            f"a picture must hold values 0 to 1, got {float(picture.amin()):g} to "
            f"{float(picture.amax()):g} of {picture.dtype}; divide bytes by 255."
        )


def _scale(high: int, wide: int) -> Tensor:
    """(H, W // 2 + 1) factors of the coefficients: 1/f, and 1 / 4 as in lucid's `fft_image`."""
    down, right = torch.fft.fftfreq(high), torch.fft.rfftfreq(wide)
    frequency = (down[:, None].double() ** 2 + right.double() ** 2).sqrt()
    slowest = frequency.clamp(min=1 / max(high, wide))
    scale: Tensor = (high * wide) ** 0.5 / slowest / 4
    return scale


def _colour_matrix() -> Tensor:
    """(3, 3) independent colours to red, green, blue; scaled as lucid's `to_valid_rgb` does."""
    matrix = torch.tensor(COLOURS, dtype=torch.float64)
    longest: Tensor = torch.linalg.vector_norm(matrix, dim=0).max()
    return matrix / longest
