"""Embeds the patches of images as one matrix product: quicker than a convolution on CPUs.

B batch, D width, G patches along one side, K = 3 P P, P pixels along one side of a patch, S image
side.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model import VisionTransformer, WeightState
from ecliptic.runtime.kernels.choosing import Kernel
from ecliptic.runtime.kernels.operators import can_pack, pack, packed_linear
from ecliptic.runtime.kernels.packed import has_hooks
from ecliptic.storage import page_out

_ROWS = 400  # of a product that the packing is told


class PatchEmbedding:
    """The first layer of a vision transformer; packs its weight where that of blocks is packed."""

    def __init__(self) -> None:
        # (D, K), and the state of the weight then; one name, so that threads see both or none
        self._packed: tuple[Tensor, WeightState] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the weight is packed again."""
        return vars(PatchEmbedding())

    def embed(self, tower: VisionTransformer, pixels: Tensor, kernel: Kernel) -> Tensor:
        """(B, 3, S, S) -> (B, T, D), as `VisionTransformer.embed`, up to rounding.

        The plain kernel has the convolution; so has a tower whose convolution was replaced or
        hooked.
        """
        patch = tower.patch
        usual = type(patch) is nn.Conv2d and patch.bias is None and not has_hooks([patch])
        if kernel.name == "plain" or not usual:
            return tower.embed(pixels)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, *[tower.config.image_size] * 2):
            return tower.embed(pixels)  # refuses the shape
        P, G = tower.config.patch_size, tower.config.grid
        rows = pixels.reshape(len(pixels), 3, G, P, G, P).permute(0, 2, 4, 1, 3, 5)
        embedded = self._multiply(kernel.cast(rows.reshape(-1, 3 * P * P)), patch.weight, kernel)
        return tower.embed(pixels, embedded.to(pixels.dtype).view(len(pixels), G * G, -1))

    def _multiply(self, rows: Tensor, weight: Tensor, kernel: Kernel) -> Tensor:
        """(B G G, K) -> (B G G, D)."""
        packable = weight.device.type == "cpu" and can_pack(weight.dtype)
        # PyTorch counts no writes to tensors of inference mode
        if kernel.dtype is None and packable and not weight.is_inference():
            return packed_linear(rows, self._pack(weight))
        return F.linear(rows, kernel.cast(weight).flatten(1))

    def _pack(self, weight: Tensor) -> Tensor:
        known = self._packed
        if known is None or not known[1].holds([weight]):
            state = WeightState.of([weight])
            known = pack(weight.flatten(1), _ROWS), state
            page_out(weight)
            self._packed = known
        return known[0]
