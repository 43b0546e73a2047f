"""Latents to images with gradients: the pipeline's own VAE, in tiles, or a linear map fitted to it.

B batch, C channels of the latents, h and w their size, H and W that of the image.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ecliptic.checks import check_choice
from ecliptic.guidance.pipelines.precision import keep_gradient

Decode = Literal["vae", "tiled", "linear"]
TILE = 64  # latents, the side of a tile: 512 pixels with a VAE that makes 8 of each
OVERLAP = 16  # latents that two tiles share
_FITS, _SIDE = 8, 16  # random latents of the linear fit, and their side


def check_decode(name: str) -> None:
    """Raise ConfigError unless `name` is a way to decode."""
    check_choice("decode", name, get_args(Decode))


class Decoder:
    """(B, C, h, w) latents as the pipeline has them to (B, 3, H, W) float32 images, about 0..1.

    Values outside 0..1 are kept, so that losses can see them. A VAE that overflows in float16
    (`force_upcast` of its config, as of SDXL's) is copied to float32; the pipeline's own stays.

    Args:
        vae: of the pipeline.
        how: "vae", "tiled" or "linear".
        tile: latents, the side of a tile.
        overlap: latents that two tiles share.
    """

    @torch.inference_mode(False)  # its tensors become part of a gradient
    def __init__(self, vae: Any, how: Decode, tile: int = TILE, overlap: int = OVERLAP) -> None:
        self.vae, self.how, self.tile, self.overlap = vae, how, tile, overlap
        if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            self.vae = copy_in_float32(vae)
        self.error: float | None = None  # of the linear map, see `fit_linear`
        if how == "linear":
            self._matrix, self.error = fit_linear(self._decode, vae.config.latent_channels, vae)

    def __call__(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, H, W); "linear" gives images of the size h, w."""
        if self.how == "linear":
            flat = torch.einsum("rc,bchw->brhw", self._matrix[:, :-1].to(latents), latents)
            return flat + self._matrix[:, -1:, None].to(latents)
        if self.how == "vae" or max(latents.shape[-2:]) <= self.tile:
            return self._decode(latents)
        return decode_tiles(self._decode, latents, self.tile, self.overlap)

    def _decode(self, latents: Tensor) -> Tensor:
        return keep_gradient(self._decode_scaled, latents, self.vae.dtype)

    def _decode_scaled(self, latents: Tensor) -> Tensor:
        config, dtype = self.vae.config, self.vae.dtype
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and std is not None:  # some of SDXL's
            std, mean = (latents.new_tensor(each)[:, None, None] for each in (std, mean))
            latents = latents * std / config.scaling_factor + mean
        else:
            latents = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
        images = self.vae.decode(latents.to(dtype), return_dict=False)[0]
        return images.to(torch.promote_types(dtype, torch.float32)) / 2 + 0.5  # type: ignore[no-any-return]


def copy_in_float32(vae: Any) -> Any:
    """A VAE of the same weights in float32, without gradients for them."""
    with torch.device("meta"):
        copy = type(vae).from_config(vae.config)
    copy.load_state_dict({k: v.float() for k, v in vae.state_dict().items()}, assign=True)
    return copy.eval().requires_grad_(False)


def decode_tiles(
    decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int, overlap: int
) -> Tensor:
    """Decode squares one by one and blend them over what they share.

    Each tile is computed again in the backward pass, so only one is in memory at a time.

    Args:
        decode: (B, C, h, w) -> (B, 3, H, W), by the same factor in both.
        latents: (B, C, h, w).
        tile: the side of a tile.
        overlap: latents that neighbours share.
    """
    total = weight = None
    for top in _starts(latents.shape[-2], tile, overlap):
        for left in _starts(latents.shape[-1], tile, overlap):
            part = latents[..., top : top + tile, left : left + tile]
            if torch.is_grad_enabled() and part.requires_grad:
                images = checkpoint(decode, part, use_reentrant=False)
            else:
                images = decode(part)
            factor = images.shape[-1] // part.shape[-1]
            if total is None or weight is None:
                size = [side * factor for side in latents.shape[-2:]]
                total = images.new_zeros(*images.shape[:2], *size)
                weight = images.new_zeros(*size)
            ramp = _ramp(images.shape[-2], overlap * factor)[:, None] * _ramp(
                images.shape[-1], overlap * factor
            )
            ramp, y, x = ramp.to(images), top * factor, left * factor
            right, below = total.shape[-1] - x - images.shape[-1], total.shape[-2] - y
            around = (x, right, y, below - images.shape[-2])
            total, weight = total + F.pad(images * ramp, around), weight + F.pad(ramp, around)
    assert total is not None  # there is at least one tile
    assert weight is not None
    blended: Tensor = total / weight
    return blended


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin; the last one ends at the edge."""
    if size <= tile:
        return [0]
    return [*range(0, size - tile, tile - overlap), size - tile]


def _ramp(size: int, overlap: int) -> Tensor:
    """(size,) weights that rise from both ends over the overlap, and are nowhere 0."""
    place = torch.arange(1, size + 1, dtype=torch.float32)
    return torch.minimum(place, place.flip(0)).clamp(max=max(overlap, 1))


def fit_linear(decode: Callable[[Tensor], Tensor], channels: int, vae: Any) -> tuple[Tensor, float]:
    """The linear map from latents to colours that is nearest to a decoder.

    Least squares on random latents of variance 1 that change slowly and fast, against the decoder's
    images averaged to the size of the latents. The same map each time.

    Returns:
        (3, C + 1) float32 matrix, the last column is added; and its error on other random latents:
        root mean square over the standard deviation of the images, 0 (exact) to about 1 (nothing).
    """
    random = torch.Generator().manual_seed(0)
    weight = next(vae.parameters())

    def draw() -> tuple[Tensor, Tensor]:
        x = sum(
            F.interpolate(
                torch.randn(_FITS, channels, side, side, generator=random), size=(_SIDE, _SIDE)
            )
            for side in (1, 2, 4, 8, 16)
        )
        x = torch.as_tensor(x) / 5**0.5  # (fits, C, side, side), variance 1
        with torch.no_grad():
            images = decode(x.to(weight.device)).cpu().double()
        colours = F.adaptive_avg_pool2d(images, _SIDE).movedim(1, -1).reshape(-1, 3)
        rows = x.double().movedim(1, -1).reshape(-1, channels)
        return torch.cat([rows, torch.ones(len(rows), 1).double()], dim=1), colours

    rows, colours = draw()
    matrix = torch.linalg.lstsq(rows, colours).solution  # (C + 1, 3)
    rows, colours = draw()
    error = (rows @ matrix - colours).square().mean().sqrt()
    spread = (colours - colours.mean(dim=0)).square().mean().sqrt()
    return matrix.T.float().to(weight.device), float(error / spread)
