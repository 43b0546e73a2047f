"""Finds the linear layers that can be int8 or fp8: all but the worst, until a bound holds.

Half of the inputs gives the ranges of int8, the other half decides. Towers that are ResNets stay as
they are. B batch, T tokens, N inputs, E vector size.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import (
    LINEARS,
    Float8Layers,
    LayerError,
    Quantisation,
    QuantisationReport,
    QuantisedLinear,
    ReducedName,
    TowerAgreement,
    TwoTowers,
    names_of_block,
)
from ecliptic.runtime.blocks import run_all
from ecliptic.runtime.kernels.float8 import Float8Block, Float8Linear
from ecliptic.runtime.kernels.packed import PackedBlock, float_form
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock
from ecliptic.runtime.kernels.quantised import QuantisedBlock
from ecliptic.runtime.quantising.fitting import fit
from ecliptic.runtime.quantising.recording import InputSample, RecordingBlock
from ecliptic.runtime.quantising.towers import (
    Step,
    TowerMeasure,
    batches_of,
    blocks_of,
    measures_of,
    vectors_of,
    walk,
)

FloatForm = PackedBlock | PlainBlock
FEWEST = 20  # inputs of a tower
NEAREST = 10  # neighbours whose agreement is reported
_RANKED = 16  # inputs on which the error of each layer is measured


# place of a block, names of layers -> the form of the block with these layers in int8 or fp8
Reduce: TypeAlias = Callable[[int, Collection[str]], BlockForm]


@dataclass(frozen=True)
class _Found:
    """What was found for one tower."""

    names: frozenset[str]  # of the layers in int8 or fp8
    agreement: TowerAgreement
    layers: tuple[LayerError, ...]


@torch.inference_mode()
def quantise(
    model: TwoTowers, pixels: Tensor | None, tokens: Tensor | None, wanted: float
) -> Quantisation:
    """Find the int8 layers of `model`, which is float32 on the CPU.

    Args:
        model: is not changed.
        pixels: (N, 3, S, S) for a vision transformer: rows 0, 2, ... give the ranges, rows 1, 3,
            ... are compared with float32.
        tokens: (N, T) ids for the text tower, in the same way.
        wanted: the smallest cosine of a vector with that of float32.

    Raises:
        ConfigError: too few inputs, no tower of transformer blocks, or `wanted` not below 1.
    """
    linears: dict[str, QuantisedLinear] = {}

    def search(measure: TowerMeasure, inputs: Tensor) -> _Found:
        forms = [float_form(block) for block in blocks_of(measure)]
        fitted = _fit_all(measure, forms, inputs[::2])

        def reduce(place: int, names: Collection[str]) -> BlockForm:
            parts = names_of_block(measure.name, place).items()
            layers = {part: fitted[name] for part, name in parts if name in names}
            return QuantisedBlock(forms[place].block, layers, rest=forms[place])

        found = _search(measure, forms, reduce, inputs, wanted)
        linears.update((name, layer) for name, layer in fitted.items() if name in found.names)
        return found

    report, _ = _search_all("int8", model, (pixels, tokens), wanted, search)
    return Quantisation(linears, report)


@torch.inference_mode()
def find_float8(
    model: TwoTowers,
    pixels: Tensor | None,
    tokens: Tensor | None,
    wanted: float,
    *,
    plain: bool = False,
) -> Float8Layers:
    """Find the layers of `model`, which is bfloat16, that can be computed in 8-bit floats.

    Arguments and errors are those of `quantise`; vectors are compared with those of bfloat16.
    `plain` multiplies in float32, as on devices without such products.
    """

    def search(measure: TowerMeasure, inputs: Tensor) -> _Found:
        blocks = blocks_of(measure)
        layers = [
            {part: Float8Linear.of(block.get_submodule(part), plain=plain) for part in LINEARS}  # type: ignore[arg-type]
            for block in blocks
        ]

        def reduce(place: int, names: Collection[str]) -> BlockForm:
            parts = names_of_block(measure.name, place).items()
            some = {part: layers[place][part] for part, name in parts if name in names}
            return Float8Block(blocks[place], some)

        return _search(measure, [PlainBlock(block) for block in blocks], reduce, inputs, wanted)

    report, names = _search_all("fp8", model, (pixels, tokens), wanted, search)
    return Float8Layers(names, report)


def _search_all(
    kind: ReducedName,
    model: TwoTowers,
    inputs: tuple[Tensor | None, Tensor | None],
    wanted: float,
    search: Callable[[TowerMeasure, Tensor], _Found],
) -> tuple[QuantisationReport, frozenset[str]]:
    """Search in each tower: the report, and the names of all layers that were found."""
    if not 0 < wanted < 1:
        raise ConfigError(f"min_cosine must be above 0 and below 1, got {wanted!r}.")
    found = []
    for measure in measures_of(model):
        given = inputs[("image", "text").index(measure.name)]
        if given is None or len(given) < FEWEST:
            raise ConfigError(
                f"{kind} needs {FEWEST} inputs of the {measure.name} tower or more, got "
                f"{0 if given is None else len(given)}; a few hundred like those in use are best."
            )
        found.append(search(measure, given))
    if not found:
        raise ConfigError(
            f"the model has no tower of transformer blocks; {kind} is for those only."
        )
    layers = tuple(layer for one in found for layer in one.layers)
    report = QuantisationReport(wanted, tuple(one.agreement for one in found), layers)
    return report, frozenset[str]().union(*(one.names for one in found))


def _search(
    measure: TowerMeasure,
    forms: Sequence[FloatForm],
    reduce: Reduce,
    inputs: Tensor,
    wanted: float,
) -> _Found:
    """Keep the layers with the largest errors as they are until the bound holds."""
    seen, held = inputs[::2], inputs[1::2]
    layers = sorted(_errors(measure, forms, reduce, seen[:_RANKED]), key=lambda row: -row.error)
    search = _Search(measure, forms, reduce, [row.name for row in layers], held)
    kept = search.fewest_kept(wanted)
    index = torch.cat([search.wanted, vectors_of(measure, forms, seen)])
    agreement = TowerAgreement(
        measure.name,
        float(search.cosines(kept).min()),
        float(search.cosines(kept).mean()),
        _recall(search.vectors(kept), search.wanted, index),
        len(held),
        len(seen),
    )
    rows = tuple(replace(row, kept=place < kept) for place, row in enumerate(layers))
    return _Found(frozenset(row.name for row in rows if not row.kept), agreement, rows)


def _fit_all(
    measure: TowerMeasure, forms: Sequence[FloatForm], inputs: Tensor
) -> dict[str, QuantisedLinear]:
    """The int8 form of every layer."""
    samples = _record(measure, forms, inputs)
    linears = {}
    for place, form in enumerate(forms):
        for part, name in names_of_block(measure.name, place).items():
            linear = form.block.get_submodule(part)
            assert isinstance(linear, nn.Linear)  # narrows the type
            inputs_of = samples[place].pop(part).end()
            smooth = part != "mlp.down"  # its inputs are made by the layer before, as bytes
            linears[name] = fit(linear.weight, linear.bias, inputs_of, smooth=smooth)
    return linears


def _record(
    measure: TowerMeasure, forms: Sequence[FloatForm], inputs: Tensor
) -> list[dict[str, InputSample]]:
    """Inputs of every layer, of each block by their names in it; pooled tokens count twice."""
    batches = batches_of(inputs)
    calls = 2 * len(batches)
    samples = [{part: InputSample(calls) for part in LINEARS} for _ in forms]
    now: list[Step] = []

    def take(part: str, x: Tensor) -> None:
        for rows in (now[-1].used, now[-1].counted):
            samples[now[-1].place][part].add(x[rows])

    recording = [RecordingBlock(form, take) for form in forms]
    for batch in batches:
        for step in walk(measure, recording, batch):
            now[:] = [step]
    return samples


def _errors(
    measure: TowerMeasure, forms: Sequence[FloatForm], reduce: Reduce, inputs: Tensor
) -> Iterator[LayerError]:
    """The error of each layer alone, in the output of its block, for the tokens that count."""
    for step in walk(measure, forms, inputs):
        wanted = run_all([forms[step.place]], step.x, causal=measure.causal)[step.counted]
        for name in names_of_block(measure.name, step.place).values():
            form = reduce(step.place, {name})
            found = run_all([form], step.x, causal=measure.causal)[step.counted]
            yield LayerError(name, float((found - wanted).norm() / wanted.norm()), kept=False)


class _Search:
    """Vectors of one tower with its first `kept` layers, by their error, as they are."""

    def __init__(
        self,
        measure: TowerMeasure,
        forms: Sequence[FloatForm],
        reduce: Reduce,
        order: list[str],
        inputs: Tensor,
    ) -> None:
        self._measure, self._float, self._reduce = measure, forms, reduce
        self._order, self._inputs = order, inputs
        self._known: dict[int, Tensor] = {}
        self.wanted = self.vectors(len(order))  # (N, E), all layers as they are

    def vectors(self, kept: int) -> Tensor:
        """(N, E) raw vectors."""
        if kept not in self._known:
            self._known[kept] = vectors_of(self._measure, self._forms(kept), self._inputs)
        return self._known[kept]

    def cosines(self, kept: int) -> Tensor:
        """(N,) with the model as it is."""
        return F.cosine_similarity(self.vectors(kept).double(), self.wanted.double()).clamp(max=1)

    def fewest_kept(self, wanted: float) -> int:
        """The smallest number of layers for which the bound holds, by bisection."""
        low, high = -1, len(self._order)  # the bound holds at `high`
        while high - low > 1:
            middle = (low + high) // 2
            if float(self.cosines(middle).min()) >= wanted:
                high = middle
            else:
                low = middle
        return high

    def _forms(self, kept: int) -> list[BlockForm]:
        left = frozenset(self._order[kept:])
        return [self._reduce(place, left) for place in range(len(self._float))]


def _recall(found: Tensor, wanted: Tensor, index: Tensor) -> float:
    """Share of the nearest in `index` that a search with `found` gives too, themselves left out.

    Rows of `found` and `wanted` (N, E) are the first rows of `index`.
    """
    index = F.normalize(index, dim=-1)
    count = min(NEAREST, len(index) - 1)

    def nearest(queries: Tensor) -> Tensor:
        cosines = F.normalize(queries, dim=-1) @ index.T
        cosines[:, : len(queries)].fill_diagonal_(-2)  # the query itself
        return cosines.topk(count).indices  # (N, NEAREST)

    same = nearest(found)[:, :, None] == nearest(wanted)[:, None]
    return float(same.any(dim=-1).float().mean())
