"""Both towers for inference: the reference's numbers with less work, never a gradient.

Text vectors are computed only up to each row's end-of-text: attention is causal, so what follows
cannot change them. Sequences, which diffusion models read, need every token of the wanted layer;
above it again only what the pooled token sees is computed, and equal rows are computed once.
B batch, T tokens, D width, E vector size.
"""

import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import (
    ImageTower,
    ModifiedResNet,
    TextOutputs,
    TextTower,
    end_positions,
    layer_index,
    wanted_layer,
)
from ecliptic.runtime.blocks import run, run_all, run_packed


@torch.inference_mode()
def encode_text(tower: TextTower, tokens: Tensor) -> Tensor:
    """(B, T) ids -> (B, E) raw vectors, equal to `tower(tokens)` up to rounding."""
    ends = end_positions(tokens, tower.config.end_of_text)
    x = tower.embed(tokens[:, : int(ends.max()) + 1])
    return tower.project(tower.ln_final(run_packed(tower.blocks, x, ends)))


@torch.no_grad()  # inference mode is no faster here, and its tensors could not be trained on
def text_outputs(
    tower: TextTower,
    tokens: Tensor,
    *,
    layer: int | None = -1,
    final_norm: bool = True,
    pooled: bool = True,
    embedded: Tensor | None = None,
    mask: Tensor | None = None,
) -> TextOutputs:
    """`tower.outputs` with the same arguments, up to rounding; errors are the same too."""
    wanted = wanted_layer(layer, tower.config.depth, pooled=pooled)
    ends = end_positions(tokens, tower.config.end_of_text) if pooled else None
    copies = None
    if embedded is None and mask is None:
        tokens, ends, copies = _once(tokens, ends)
    x, hiding = tower.embed(tokens, embedded), tower.hiding(tokens, mask)
    sequence = state = None
    if wanted is not None:
        x = sequence = run_all(tower.blocks[:wanted], x, causal=True, mask=hiding)
    if ends is not None:
        state = tower.ln_final(_at_ends(tower.blocks[wanted or 0 :], x, ends, hiding))
    if sequence is not None and final_norm:
        sequence = tower.ln_final(sequence)
    vectors = None if state is None else tower.project(state)
    return TextOutputs(*(_repeat(found, copies) for found in (sequence, state, vectors)))


def _once(tokens: Tensor, ends: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Each different row, its end, and which of them row b is (None: all are different)."""
    places: dict[tuple[int, ...], int] = {}
    if tokens.ndim != 2:
        return tokens, ends, None  # refused later, kindly
    copies = [places.setdefault(tuple(row), len(places)) for row in tokens.tolist()]
    if len(places) == len(tokens):
        return tokens, ends, None
    firsts = torch.tensor([copies.index(n) for n in range(len(places))], device=tokens.device)
    repeats = torch.tensor(copies, device=tokens.device)
    return tokens[firsts], None if ends is None else ends[firsts], repeats


def _at_ends(blocks: nn.ModuleList, x: Tensor, ends: Tensor, mask: Tensor | None) -> Tensor:
    """What leaves `blocks` at `ends`: (B, D); `x` stays as it is."""
    if not len(blocks):
        return x[torch.arange(len(x), device=x.device), ends]
    if mask is not None:  # nothing is cut: what may see nothing looks at all tokens alike
        return run(blocks, x, ends, causal=True, mask=mask)
    x = x[:, : int(ends.max()) + 1]
    if len(blocks) == 1:  # computes one token of each row already, so there is nothing to pack
        return run(blocks, x, ends, causal=True)
    return run_packed(blocks, x.clone(), ends)


def _repeat(found: Tensor | None, copies: Tensor | None) -> Tensor | None:
    """Row `copies[b]` of `found` for each b."""
    return found if found is None or copies is None else found[copies]


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


@torch.no_grad()
def image_sequence(
    tower: ImageTower, pixels: Tensor, *, layer: int = -2, final_norm: bool = False
) -> Tensor:
    """(B, 3, S, S) pixels -> (B, T, D) hidden layer `layer`, class token first.

    Equal to `tower.sequence` up to rounding. The defaults are what IP-Adapter "plus" reads.

    Raises:
        ConfigError: there is no such layer, or the tower is a ResNet and has no tokens.
    """
    if isinstance(tower, ModifiedResNet):
        raise ConfigError(
            "a ResNet has no sequence of tokens; image conditioning that reads one needs a "
            "vision transformer."
        )
    blocks = tower.blocks[: layer_index(layer, tower.config.depth)]
    x = run_all(blocks, tower.embed(pixels), causal=False)
    return tower.ln_post(x) if final_norm else x


def _check_eval(tower: ModifiedResNet) -> None:
    if any(module.training for module in tower.modules() if isinstance(module, nn.BatchNorm2d)):
        raise ConfigError(
            "the ResNet is in train mode, in which the vector of a picture depends on its batch "
            "and every call changes the statistics; call `clip.model.eval()` before encoding."
        )
