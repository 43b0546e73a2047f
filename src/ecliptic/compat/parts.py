"""Pieces that the towers of both projects share: the MLP, patches, masks, sharing of weights.

The towers here have the names and the structure of the originals, so that hooks, replaced parts
and removed blocks do what they do there. B batch, T tokens, D width, S image side.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import TextConfig, ViTConfig, activation_of

TransformerConfig = ViTConfig | TextConfig


class Fixed(nn.Module):
    """Refuses to set an attribute of `fixed` to any other value, because nothing would read it."""

    fixed: ClassVar[Mapping[str, Any]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.fixed and value != self.fixed[name]:
            raise ConfigError(
                f"{type(self).__name__}.{name} is always {self.fixed[name]!r} in ecliptic.compat "
                f"and cannot be {value!r}; change the module's parts, or use open_clip for this."
            )
        if isinstance(getattr(type(self), name, None), property):  # torch would hide a module there
            raise ConfigError(f"{name} is computed from the model's parts; change those instead.")
        super().__setattr__(name, value)


class PatchTower(Protocol):
    """The parts of a vision transformer that `embed_patches` reads."""

    conv1: nn.Conv2d
    class_embedding: nn.Parameter
    positional_embedding: nn.Parameter


def make_mlp(sizes: TransformerConfig) -> nn.Sequential:
    """The MLP of a block, with the names `c_fc`, `gelu` and `c_proj`."""
    return nn.Sequential(
        OrderedDict(
            c_fc=nn.Linear(sizes.width, sizes.mlp),
            gelu=activation_of(sizes.activation),
            c_proj=nn.Linear(sizes.mlp, sizes.width),
        )
    )


def empty_parameter(*shape: int) -> nn.Parameter:
    """A parameter without values, which `share_weights` replaces."""
    return nn.Parameter(torch.empty(shape))


def causal_mask(tokens: int) -> Tensor:
    """(T, T) zeros with -inf above the diagonal, on the CPU."""
    return torch.full((tokens, tokens), float("-inf"), device="cpu").triu_(1)


def embed_patches(tower: PatchTower, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) pixels -> (B, T, D) patches after the class token, positions added."""
    x = tower.conv1(pixels.type(tower.conv1.weight.dtype))  # (B, D, grid, grid)
    x = x.flatten(2).permute(0, 2, 1)
    first = tower.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    return add_positions(torch.cat([first, x], dim=1), tower.positional_embedding)


def add_positions(x: Tensor, positions: Tensor) -> Tensor:
    """(B, T, D) + (T, D).

    Raises:
        ShapeError: the numbers of tokens differ.
    """
    if x.shape[1] != len(positions):
        raise ShapeError(
            f"these pixels give {x.shape[1]} tokens, but the image tower has {len(positions)} "
            "position embeddings; use the model's own preprocessing, or interpolate "
            "`positional_embedding` for the other size."
        )
    return x + positions.to(x.dtype)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1."""
    return F.normalize(vectors, dim=-1)


def share_weights(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    """Make `weights` the parameters and buffers of `module`; both sides hold the same tensors."""
    trained = {name: weight.requires_grad for name, weight in weights.items()}
    module.load_state_dict(weights, assign=True)  # sets requires_grad as it was in `module`
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(trained[name])
