"""Both towers for inference: the reference's vectors with less work, never a gradient.

Text is computed only up to each row's end-of-text: attention is causal, so what follows cannot
change the vector. B batch, T tokens, E vector size.
"""

import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import ImageTower, ModifiedResNet, TextTower, end_positions
from ecliptic.runtime.blocks import run, run_packed


@torch.inference_mode()
def encode_text(tower: TextTower, tokens: Tensor) -> Tensor:
    """(B, T) ids -> (B, E) raw vectors, equal to `tower(tokens)` up to rounding."""
    ends = end_positions(tokens, tower.config.end_of_text)
    x = tower.embed(tokens[:, : int(ends.max()) + 1])
    return tower.project(tower.ln_final(run_packed(tower.blocks, x, ends)))


@torch.inference_mode()
def encode_image(tower: ImageTower, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) pixels -> (B, E) raw vectors, equal to `tower(pixels)` up to rounding.

    Raises:
        ConfigError: a ResNet in train mode, whose batch norms would mix the pictures of a batch.
    """
    if isinstance(tower, ModifiedResNet):
        _check_eval(tower)
        # Channels last: convolutions on CPU need not reorder what lies between them.
        return tower(pixels.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]
    x = tower.embed(pixels)
    first = torch.zeros(len(x), dtype=torch.long, device=x.device)  # the class token
    return tower.ln_post(run(tower.blocks, x, first, causal=False)) @ tower.projection  # type: ignore[no-any-return]


def _check_eval(tower: ModifiedResNet) -> None:
    if any(module.training for module in tower.modules() if isinstance(module, nn.BatchNorm2d)):
        raise ConfigError(
            "the ResNet is in train mode, in which the vector of a picture depends on its batch "
            "and every call changes the statistics; call `clip.model.eval()` before encoding."
        )
