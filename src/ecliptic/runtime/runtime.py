"""`Runtime` runs both towers of a model for inference: the reference's numbers, with less work.

A text vector needs only the tokens up to its end of text, because attention is causal. Sequences,
which diffusion models read, need every token of the wanted layer; above it, only the tokens that
the pooled token sees are computed. Equal rows are computed once. Use the towers of `model` for
gradients. B batch, T tokens, D width, S image side, E vector size.
"""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ecliptic.checks import check_choice
from ecliptic.errors import ConfigError
from ecliptic.model import (
    ImageTower,
    ModifiedResNet,
    TextOutputs,
    TwoTowers,
    VisionTransformer,
    end_positions,
    layer_index,
    wanted_layer,
)
from ecliptic.runtime.blocks import run, run_all, run_packed
from ecliptic.runtime.compiled import CompiledTowers
from ecliptic.runtime.describing import (
    Choice,
    describe_kernels,
    describe_model,
    describe_products,
    describe_reduced,
)
from ecliptic.runtime.kernels.choosing import KernelMode
from ecliptic.runtime.kernels.memory import Measurements
from ecliptic.runtime.kernels.plain import BlockForm
from ecliptic.runtime.kernels.tower import TowerKernels
from ecliptic.runtime.patches import PatchEmbedding
from ecliptic.runtime.precisions import find_numerics, name_of
from ecliptic.runtime.reducing import Reduced, check_names, check_reduced, reduce_blocks


class Runtime:
    """Runs the towers of one model without gradients.

    The runtime always uses the current weights of its model: copies that kernels made of them are
    made again after a change. Torch counts no writes to `tensor.data`, so those are not seen; use
    `kernels="plain"` with them.
    """

    def __init__(
        self,
        model: TwoTowers,
        precision: str | torch.dtype | None = None,
        device: torch.device | None = None,
        kernels: KernelMode = "plain",
        quantisation: Reduced | None = None,
    ) -> None:
        """Move and cast `model` in place; the temperature stays float32.

        Args:
            model: with one tower or both.
            precision: "auto", "fp32", "bf16" or "fp16"; None leaves the weights as they are.
            device: None leaves them where they are.
            kernels: "plain" for PyTorch's own operators; "auto" measures which kernels are quickest
                for the sizes in use, once on each machine, and uses those; "compiled" has whole
                towers compiled by `torch.compile`, for vectors in large numbers, above all on GPUs.
                Hidden layers are computed by the plain kernels then.
            quantisation: int8 layers of this model, which is float32 on the CPU, or fp8 layers,
                for bfloat16; they are used until a weight of their tower changes, for hidden layers
                too, though these are never compared. fp8 is for GPUs; `kernels="plain"` computes
                it on every device, but not quicker.

        Raises:
            ConfigError: no such precision, or no such mode of kernels, or int8 or fp8 layers for a
                model of another precision or device, or int8 for compiled towers.
        """
        check_choice("kernels", kernels, get_args(KernelMode))
        self.model, self.kernels = model, kernels
        memory = Measurements()
        self._image, self._text = TowerKernels(kernels, memory), TowerKernels(kernels, memory)
        self._patches = PatchEmbedding()
        self._compiled = CompiledTowers() if kernels == "compiled" else None
        self._quantisation = quantisation
        if precision is not None or device is not None:
            _place(model, device, None if precision is None else find_numerics(precision).weights)
        self._quantise()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the int8 or fp8 layers only if they are those of the weights."""
        return vars(self) | {"_quantisation": self.quantisation}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._quantise()

    def _quantise(self) -> None:
        """Let the kernels of each tower use its int8 or fp8 layers."""
        if self._quantisation is None:
            return
        check_reduced(self._quantisation.kind, _first_weight(self.model), self.kernels)
        check_names(self._quantisation, {n: len(blocks) for n, blocks, _ in self._transformers()})
        for name, blocks, kernels in self._transformers():
            kernels.reduce(reduce_blocks(name, blocks, self._quantisation, self.kernels))

    def _transformers(self) -> Iterator[tuple[str, nn.ModuleList, TowerKernels]]:
        """The name, the blocks and the kernels of each tower that has blocks."""
        if isinstance(self.model.image, VisionTransformer):
            yield "image", self.model.image.blocks, self._image
        if self.model.text is not None:
            yield "text", self.model.text.blocks, self._text

    @property
    def quantisation(self) -> Reduced | None:
        """The int8 or fp8 layers; None if there are none, or once a weight of a block changed."""
        holds = all(kernels.reduced(blocks) for _, blocks, kernels in self._transformers())
        return self._quantisation if holds else None

    @property
    def precision(self) -> str:
        """The precision of the towers: "fp32", "int8", ..., or torch's name of another dtype."""
        if self._quantisation is not None and (found := self.quantisation) is not None:
            return found.kind
        return name_of(_first_weight(self.model).dtype)

    @property
    def device(self) -> torch.device:
        """The device of the towers."""
        return _first_weight(self.model).device

    @torch.inference_mode()
    def text(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, E) raw vectors, equal to the text tower's up to rounding.

        Raises:
            ShapeError: a row without an end of text.
            MissingTowerError: there is no text tower.
        """
        tower = self.model.text_tower
        tokens = tokens.to(tower.positions.device)
        ends = end_positions(tokens, tower.config.end_of_text)
        if self._compiled is not None:
            forms = self._text.reduced(tower.blocks)
            return self._compiled.text(tower, tokens, ends, forms)
        x = tower.embed(tokens[:, : int(ends.max()) + 1])
        kernel = self._text.kernel(tower.blocks, int(ends.sum()) + len(ends))
        blocks = self._text.forms(tower.blocks, kernel)
        state = run_packed(blocks, kernel.cast(x), ends).to(x.dtype)
        return tower.project(tower.ln_final(state))

    @torch.no_grad()  # inference mode is not faster here, and training cannot use its tensors
    def text_outputs(
        self,
        tokens: Tensor,
        *,
        layer: int | None = -1,
        final_norm: bool = True,
        pooled: bool = True,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> TextOutputs:
        """As `TextTower.outputs`, up to rounding, with the same arguments and errors."""
        tower = self.model.text_tower
        tokens = tokens.to(tower.positions.device)
        wanted = wanted_layer(layer, tower.config.depth, pooled=pooled)
        ends = end_positions(tokens, tower.config.end_of_text) if pooled else None
        copies = None
        if embedded is None and mask is None:
            tokens, ends, copies = _drop_copies(tokens, ends)
        x, hiding = tower.embed(tokens, embedded), tower.hiding(tokens, mask)
        kernel = self._text.kernel(tower.blocks, tokens.numel())
        blocks = self._text.forms(tower.blocks, kernel)
        dtype, sequence, state = x.dtype, None, None
        x = kernel.cast(x)
        hiding = None if hiding is None else hiding.to(x.dtype)
        if wanted is not None:
            x = run_all(blocks[:wanted], x, causal=True, mask=hiding)
            sequence = x.to(dtype)
        if ends is not None:
            state = tower.ln_final(_run_to_ends(blocks[wanted or 0 :], x, ends, hiding).to(dtype))
        if sequence is not None and final_norm:
            sequence = tower.ln_final(sequence)
        vectors = None if state is None else tower.project(state)
        return TextOutputs(*(_repeat(found, copies) for found in (sequence, state, vectors)))

    @torch.inference_mode()
    def image(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors, equal to the image tower's up to rounding.

        Raises:
            ShapeError: pixels of another size.
            ConfigError: a ResNet in train mode, whose batch norms would mix the images of a batch.
            MissingTowerError: there is no image tower.
        """
        tower = self.model.image_tower
        pixels = _move_to(tower, pixels)
        if isinstance(tower, ModifiedResNet):
            _check_eval(tower)
        if self._compiled is not None:
            forms = () if isinstance(tower, ModifiedResNet) else self._image.reduced(tower.blocks)
            return self._compiled.image(tower, pixels, forms)
        if isinstance(tower, ModifiedResNet):
            # Channels last: convolutions on CPU then do not reorder their inputs and outputs.
            return tower(pixels.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]
        blocks, x = self._start(tower, pixels)
        first = torch.zeros(len(x), dtype=torch.long, device=x.device)  # the class token
        state = run(blocks, x, first, causal=False).to(pixels.dtype)
        return tower.ln_post(state) @ tower.projection  # type: ignore[no-any-return]

    @torch.no_grad()
    def image_sequence(
        self, pixels: Tensor, *, layer: int = -2, final_norm: bool = False
    ) -> Tensor:
        """(B, 3, S, S) pixels -> (B, T, D) hidden layer `layer`, class token first.

        Equal to `VisionTransformer.sequence` up to rounding. IP-Adapter "plus" reads the defaults.

        Raises:
            ConfigError: no such layer, or the tower is a ResNet and has no tokens.
            MissingTowerError: there is no image tower.
        """
        tower = _check_transformer(self.model.image_tower, layer)
        count = layer_index(layer, tower.config.depth)
        pixels = _move_to(tower, pixels)
        blocks, x = self._start(tower, pixels)
        x = run_all(blocks[:count], x, causal=False).to(pixels.dtype)
        return tower.ln_post(x) if final_norm else x

    def _start(self, tower: VisionTransformer, pixels: Tensor) -> tuple[list[BlockForm], Tensor]:
        """The blocks of `tower` in the forms for `pixels`, and their input (B, T, D)."""
        kernel = self._image.kernel(tower.blocks, len(pixels) * len(tower.positions))
        x = self._patches.embed(tower, pixels, kernel)
        return self._image.forms(tower.blocks, kernel), kernel.cast(x)

    def image_sequence_shape(self, layer: int) -> tuple[int, int]:
        """(T, D) of the `image_sequence` of each image; raises the same errors."""
        config = _check_transformer(self.model.image_tower, layer).config
        layer_index(layer, config.depth)
        return 1 + config.grid**2, config.width

    @property
    def widened(self) -> tuple[str, ...]:
        """Towers stored in half precision and computed in float32: "image", "text".

        Their vectors differ from those of `kernels="plain"` by more than rounding. It is measured
        on this machine, once.
        """
        halves = (torch.bfloat16, torch.float16)
        return tuple(
            name
            for name, blocks, kernels in self._transformers()
            if _first_weight(self.model).dtype in halves
            and any(one.chosen == "widened" for one in kernels.choices(blocks, measure=True))
        )

    def choose(self) -> tuple[Choice, ...]:
        """Choose the kernels for every number of rows now, not at its first use; then `describe`.

        It takes about 0.3 s for each tower and range of rows that was never measured on this
        machine.
        """
        return self._describe(measure=True)

    def describe(self) -> tuple[Choice, ...]:
        """What was chosen to run this model, and why; measures nothing."""
        return self._describe(measure=False)

    def _describe(self, *, measure: bool) -> tuple[Choice, ...]:
        reduced = self.quantisation if self._quantisation else None
        choices = list(describe_model(self.model, self.precision, self.device))
        if reduced is not None:
            choices[0] = describe_reduced(self.model, reduced)
        for name, blocks, kernels in self._transformers():
            if reduced is not None:
                choices.append(describe_products(name, kernels.mode, reduced, self.device))
                continue
            found = kernels.choices(blocks, measure=measure)
            missing = kernels.lacks(blocks, found)
            what = f"{name} kernels"
            choices.append(describe_kernels(what, kernels.mode, found, missing=missing))
        return tuple(choices)


def _place(model: TwoTowers, device: torch.device | None, dtype: torch.dtype | None) -> None:
    """Move and cast the towers in place; the temperature is only moved."""
    for tower in (model.image, model.text):
        if tower is not None:
            tower.to(device, dtype)
    model.logit_scale.data = model.logit_scale.data.to(device, torch.float32)


def _first_weight(model: TwoTowers) -> Tensor:
    """A weight of a tower, for its device and dtype."""
    return next((model.image or model.text or model).parameters())


def _move_to(tower: ImageTower, pixels: Tensor) -> Tensor:
    """Move `pixels` to the device and dtype of `tower`; a GPU copies them while it computes."""
    weight = next(tower.parameters())
    if weight.device.type == "cuda" and pixels.device.type == "cpu":
        # page-locked, so that nobody waits; converted there, because a CPU would convert first
        pixels = pixels.pin_memory().to(weight.device, non_blocking=True)
    return pixels.to(weight.device, weight.dtype)


def _check_transformer(tower: ImageTower, layer: int) -> VisionTransformer:
    if isinstance(tower, ModifiedResNet):
        raise ConfigError(
            f"the image tower is a ResNet, which has no tokens and so no token layer {layer}; use "
            "a vision transformer, or the vector."
        )
    return tower


def _check_eval(tower: ModifiedResNet) -> None:
    if any(module.training for module in tower.modules() if isinstance(module, nn.BatchNorm2d)):
        raise ConfigError(
            "the ResNet is in train mode, in which the vector of an image depends on its batch "
            "and every call changes the statistics; call `clip.model.eval()` before encoding."
        )


def _drop_copies(
    tokens: Tensor, ends: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the distinct rows, their ends, and the index of row b in them (None: all distinct)."""
    places: dict[tuple[int, ...], int] = {}
    if tokens.ndim != 2:
        return tokens, ends, None  # refused later, with its shape
    copies = [places.setdefault(tuple(row), len(places)) for row in tokens.tolist()]
    if len(places) == len(tokens):
        return tokens, ends, None
    firsts = torch.tensor([copies.index(n) for n in range(len(places))], device=tokens.device)
    repeats = torch.tensor(copies, device=tokens.device)
    return tokens[firsts], None if ends is None else ends[firsts], repeats


def _run_to_ends(
    blocks: Sequence[BlockForm], x: Tensor, ends: Tensor, mask: Tensor | None
) -> Tensor:
    """Run `blocks` and return their output at `ends`: (B, D); `x` is not changed."""
    if not blocks:
        return x[torch.arange(len(x), device=x.device), ends]
    if mask is not None:  # no token is cut: one that sees no token attends to all of them equally
        return run(blocks, x, ends, causal=True, mask=mask)
    x = x[:, : int(ends.max()) + 1]
    if len(blocks) == 1:  # `run` computes one token per row here, so packing saves nothing
        return run(blocks, x, ends, causal=True)
    return run_packed(blocks, x.clone(), ends)


def _repeat(found: Tensor | None, copies: Tensor | None) -> Tensor | None:
    """Row `copies[b]` of `found` for each b."""
    return found if found is None or copies is None else found[copies]
