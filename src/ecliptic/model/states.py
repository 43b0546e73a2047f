"""The intermediate values that a tower computes before its vectors.

`hidden[0]` is the input of the first block and `hidden[i]` the output of block i, before the final
norm, so `hidden[-2]` is the penultimate layer that diffusion models read.
B batch, T tokens, D width, H heads, E vector size.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model.layers import Block


@dataclass(frozen=True)
class TowerStates:
    """All intermediate values of one forward pass."""

    hidden: tuple[Tensor, ...]  # depth + 1 of (B, T, D)
    attention: tuple[Tensor, ...]  # depth of (B, H, T, T); empty without `look`
    last: Tensor  # (B, T, D), hidden[-1] after the final norm
    pooled: Tensor  # (B, D), before the projection
    vectors: Tensor  # (B, E), raw: not unit length


@dataclass(frozen=True)
class TextOutputs:
    """The outputs of a text encoder that diffusion models read; None if not asked for."""

    sequence: Tensor | None  # (B, T, D), the wanted hidden layer
    pooled: Tensor | None  # (B, D), last layer at the first end of text, normed, not projected
    vectors: Tensor | None  # (B, E), `pooled` projected, raw: not unit length


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    *,
    causal: bool,
    look: bool,
    mask: Tensor | None = None,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run `blocks`; return the hidden layers, and the attention weights if `look`."""
    hidden, attention = [x], []
    for block in blocks:
        assert isinstance(block, Block)  # narrows the type of a ModuleList's items
        if look:
            x, weights = block.look(x, causal=causal, mask=mask)
            attention.append(weights)
        else:
            x = block(x, causal=causal, mask=mask)
        hidden.append(x)
    return tuple(hidden), tuple(attention)


def wanted_layer(layer: int | None, depth: int, *, pooled: bool) -> int | None:
    """How many blocks to run for the sequence of hidden layer `layer`; None if `layer` is None.

    Raises:
        ConfigError: no such layer, or neither output is wanted.
    """
    if layer is not None:
        return layer_index(layer, depth)
    if not pooled:
        raise ConfigError(
            "layer=None leaves out the sequence and pooled=False the vector, so nothing is left "
            "to compute; ask for one of them."
        )
    return None


def layer_index(layer: int, depth: int) -> int:
    """How many blocks to run for hidden layer `layer`: 0 to depth, or -1 for the last.

    Raises:
        ConfigError: no such layer.
    """
    count = layer + depth + 1 if layer < 0 else layer
    if not 0 <= count <= depth:
        raise ConfigError(
            f"layer {layer} does not exist: this tower has layers 0 (before the first block) "
            f"to {depth}, or -1 (the last) to {-depth - 1}."
        )
    return count
