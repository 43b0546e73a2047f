"""Towers compiled by `torch.compile`: fewer and larger kernels, and CUDA graphs on NVIDIA GPUs.

One program holds for every number of items, so an odd last batch compiles nothing anew. A CUDA
graph is recorded for each size, so batches and lengths are padded to a few sizes.
B batch, T tokens, D width, E vector size, S image side.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.model import ModifiedResNet, TextTower, VisionTransformer
from ecliptic.runtime.blocks import run
from ecliptic.runtime.kernels.float8 import Float8Block
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock

BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)  # items; above them, multiples of the last
LENGTHS = (8, 16, 24, 32, 48, 64)  # tokens; above them, the whole context
Backend = str | Callable[[Any, Any], Any]


class CompiledTowers:
    """Compiles each tower when it is first used, which takes seconds to a minute."""

    def __init__(self, backend: Backend = "inductor") -> None:
        self.backend = backend
        self._programs: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}
        self._in_place: list[Sequence[BlockForm]] = []

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: programs are compiled again."""
        return vars(CompiledTowers(self.backend))

    def image(
        self,
        tower: VisionTransformer | ModifiedResNet,
        pixels: Tensor,
        forms: Sequence[BlockForm] = (),
    ) -> Tensor:
        """(B, 3, S, S) pixels on the tower's device and in its dtype -> (B, E) raw vectors.

        `forms` are those of its blocks; none are the plain ones.
        """
        count = len(pixels)
        if not count:
            return pixels.new_empty(0, _embed_of(tower))
        size = padded_size(count, BATCHES)
        work = _run_resnet if isinstance(tower, ModifiedResNet) else _run_image
        return self._call(work, tower, forms, _repeat_last(pixels, size))[:count]

    def text(
        self, tower: TextTower, tokens: Tensor, ends: Tensor, forms: Sequence[BlockForm] = ()
    ) -> Tensor:
        """(B, T) ids and (B,) places of their ends of text -> (B, E) raw vectors."""
        count, context = len(tokens), tokens.shape[1]
        if not count:
            return tower.positions.new_empty(0, _embed_of(tower))
        length = min(padded_size(int(ends.max()) + 1, LENGTHS), context)
        size = padded_size(count, BATCHES)
        tokens, ends = _repeat_last(tokens[:, :length], size), _repeat_last(ends, size)
        return self._call(_run_text, tower, forms, tokens, ends)[:count]

    def _call(
        self,
        work: Callable[..., Tensor],
        tower: Any,
        forms: Sequence[BlockForm],
        *inputs: Tensor,
    ) -> Tensor:
        self._keep_in_place(forms)
        for given in inputs:
            torch._dynamo.mark_dynamic(given, 0)
        if work is _run_text:
            torch._dynamo.mark_dynamic(inputs[0], 1)
        try:
            # a copy, because a CUDA graph writes its next result to the same place
            return self._program(work, inputs[0].device)(tower, forms, *inputs).clone()
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = _first_line(error.inner_exception)
            raise ConfigError(
                f"torch.compile cannot compile this tower here ({reason}); install "
                'the compiler that it names, or load with kernels="auto".'
            ) from error

    def _keep_in_place(self, forms: Sequence[BlockForm]) -> None:
        """Let programs read the weights of `forms` where they are, in the sizes that they have.

        CUDA graphs would copy them in each call, and a second model would make their sizes unknown.
        """
        if forms and not any(known is forms for known in self._in_place):
            self._in_place.append(forms)
            for form in forms:
                for tensor in form.tensors() if isinstance(form, Float8Block) else ():
                    torch._dynamo.mark_static_address(tensor)
                    torch._dynamo.mark_static(tensor)

    def _program(self, work: Callable[..., Tensor], device: torch.device) -> Callable[..., Tensor]:
        if work not in self._programs:
            graphs = device.type == "cuda" and self.backend == "inductor"
            self._programs[work] = torch.compile(
                work,
                backend=self.backend,
                fullgraph=True,
                mode="reduce-overhead" if graphs else None,
            )
        return self._programs[work]


def _embed_of(tower: VisionTransformer | ModifiedResNet | TextTower) -> int:
    """E of a tower."""
    if isinstance(tower, ModifiedResNet):
        return tower.pool.out.out_features
    return tower.config.width if tower.projection is None else tower.projection.shape[1]


def padded_size(size: int, sizes: tuple[int, ...]) -> int:
    """The first of `sizes` that is not below `size`; above all, a multiple of the last."""
    return next((s for s in sizes if s >= size), -(-size // sizes[-1]) * sizes[-1])


def _repeat_last(rows: Tensor, size: int) -> Tensor:
    """`rows`, and copies of the last one, to `size` rows: ordinary values, never NaN."""
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


def _run_resnet(tower: ModifiedResNet, _: Sequence[BlockForm], pixels: Tensor) -> Tensor:
    return tower(pixels)  # type: ignore[no-any-return]


def _run_image(tower: VisionTransformer, forms: Sequence[BlockForm], pixels: Tensor) -> Tensor:
    x = tower.embed(pixels)
    first = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)  # the class token
    blocks = forms or [PlainBlock(block) for block in tower.blocks]  # type: ignore[arg-type]
    state = run(blocks, x, first, causal=False)
    return tower.ln_post(state) @ tower.projection  # type: ignore[no-any-return]


def _run_text(tower: TextTower, forms: Sequence[BlockForm], tokens: Tensor, ends: Tensor) -> Tensor:
    blocks = forms or [PlainBlock(block) for block in tower.blocks]  # type: ignore[arg-type]
    return tower.project(tower.ln_final(run(blocks, tower.embed(tokens), ends, causal=True)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
