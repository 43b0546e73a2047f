"""A tower of transformer blocks whose forms are given, for measuring. B batch, T tokens, E vector.

Vectors are computed as in `Runtime`; `walk` goes through the blocks one at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.model import Block, TextTower, TwoTowers, VisionTransformer, end_positions
from ecliptic.runtime.blocks import run, run_all, run_packed
from ecliptic.runtime.kernels.plain import BlockForm

_BATCH = 32  # inputs at a time


class ImageMeasure:
    """The image tower; inputs are pixels (B, 3, S, S)."""

    name, causal = "image", False

    def __init__(self, tower: VisionTransformer) -> None:
        self.tower = tower

    def start(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The input (B, T, D) of the first block, and the pooled place (B,) of each row."""
        x = self.tower.embed(inputs.to(self.tower.positions))
        return x, torch.zeros(len(x), dtype=torch.long, device=x.device)

    def finish(self, forms: Sequence[BlockForm], x: Tensor, ends: Tensor) -> Tensor:
        """Run all blocks and pool: (B, E)."""
        state = run(forms, x, ends, causal=False)
        return self.tower.ln_post(state) @ self.tower.projection  # type: ignore[no-any-return]


class TextMeasure:
    """The text tower; inputs are ids (B, T)."""

    name, causal = "text", True

    def __init__(self, tower: TextTower) -> None:
        self.tower = tower

    def start(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The input (B, T, D) of the first block, and the end of text (B,) of each row."""
        inputs = inputs.to(self.tower.positions.device)
        ends = end_positions(inputs, self.tower.config.end_of_text)
        return self.tower.embed(inputs[:, : int(ends.max()) + 1]), ends

    def finish(self, forms: Sequence[BlockForm], x: Tensor, ends: Tensor) -> Tensor:
        """Run all blocks and pool: (B, E)."""
        return self.tower.project(self.tower.ln_final(run_packed(forms, x, ends)))


TowerMeasure = ImageMeasure | TextMeasure


def measures_of(model: TwoTowers) -> list[TowerMeasure]:
    """The towers that are made of transformer blocks."""
    found: list[TowerMeasure] = []
    if isinstance(model.image, VisionTransformer):
        found.append(ImageMeasure(model.image))
    if model.text is not None:
        found.append(TextMeasure(model.text))
    return found


def blocks_of(measure: TowerMeasure) -> list[Block]:
    """The blocks of the tower, first to last."""
    return list(measure.tower.blocks)  # type: ignore[arg-type]


def batches_of(inputs: Tensor) -> list[Tensor]:
    """Some inputs at a time."""
    return list(torch.split(inputs, _BATCH))


def vectors_of(measure: TowerMeasure, forms: Sequence[BlockForm], inputs: Tensor) -> Tensor:
    """(N, E) raw vectors of N inputs, a batch at a time, float32 at least."""
    found = torch.cat([measure.finish(forms, *measure.start(x)) for x in batches_of(inputs)])
    return found.to(torch.promote_types(found.dtype, torch.float32))


@dataclass(frozen=True)
class Step:
    """One block on its way through a tower."""

    place: int
    x: Tensor  # (B, T, D), input of the block
    counted: Tensor  # (B, T), tokens up to the end of text; of the last block the pooled ones
    used: Tensor  # (B, T), tokens up to the end of text


def walk(measure: TowerMeasure, forms: Sequence[BlockForm], inputs: Tensor) -> Iterator[Step]:
    """Yield each block before it runs, all tokens of the last one too."""
    x, ends = measure.start(inputs)
    used = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if measure.causal:
        used = torch.arange(x.shape[1], device=x.device) <= ends[:, None]
    for place, form in enumerate(forms):
        last = place == len(forms) - 1
        counted = F.one_hot(ends, x.shape[1]).bool() if last else used
        yield Step(place, x, counted, used)
        x = run_all([form], x, causal=measure.causal)
