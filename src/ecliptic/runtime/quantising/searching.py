"""Quantises a model: fits all linear layers, then keeps the worst in float32 until a bound holds.

Half of the inputs gives the ranges, the other half decides. Towers that are ResNets stay as they
are. B batch, T tokens, N inputs, E vector size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import (
    LINEARS,
    LayerError,
    Quantisation,
    QuantisationReport,
    QuantisedLinear,
    TowerAgreement,
    TwoTowers,
)
from ecliptic.runtime.blocks import run_all
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


@dataclass(frozen=True)
class QuantisedTower:
    """What was found for one tower."""

    linears: Mapping[str, QuantisedLinear]
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
    if not 0 < wanted < 1:
        raise ConfigError(f"min_cosine must be above 0 and below 1, got {wanted!r}.")
    inputs = {"image": pixels, "text": tokens}
    found = [_quantise(measure, inputs[measure.name], wanted) for measure in measures_of(model)]
    if not found:
        raise ConfigError("the model has no tower of transformer blocks; int8 is for those only.")
    linears = {name: linear for one in found for name, linear in one.linears.items()}
    layers = tuple(layer for one in found for layer in one.layers)
    towers = tuple(one.agreement for one in found)
    return Quantisation(linears, QuantisationReport(wanted, towers, layers))


def _quantise(measure: TowerMeasure, inputs: Tensor | None, wanted: float) -> QuantisedTower:
    if inputs is None or len(inputs) < FEWEST:
        count = 0 if inputs is None else len(inputs)
        raise ConfigError(
            f"int8 needs {FEWEST} inputs of the {measure.name} tower or more, got {count}; a few "
            "hundred like those in use are best."
        )
    seen, held = inputs[::2], inputs[1::2]
    forms = [float_form(block) for block in blocks_of(measure)]
    linears = _fit_all(measure, forms, seen)
    layers = sorted(_errors(measure, forms, linears, seen[:_RANKED]), key=lambda row: -row.error)
    search = _Search(measure, forms, linears, [row.name for row in layers], held)
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
    names = {row.name for row in layers[:kept]}
    rows = tuple(replace(row, kept=row.name in names) for row in layers)
    return QuantisedTower({n: q for n, q in linears.items() if n not in names}, agreement, rows)


def _name(measure: TowerMeasure, place: int, part: str) -> str:
    return f"{measure.name}.blocks.{place}.{part}"


def _fit_all(
    measure: TowerMeasure, forms: Sequence[FloatForm], inputs: Tensor
) -> dict[str, QuantisedLinear]:
    """The int8 form of every layer."""
    samples = _record(measure, forms, inputs)
    linears = {}
    for place, form in enumerate(forms):
        for part in LINEARS:
            linear = form.block.get_submodule(part)
            assert isinstance(linear, nn.Linear)  # narrows the type
            inputs_of = samples[place].pop(part).end()
            smooth = part != "mlp.down"  # its inputs are made by the layer before, as bytes
            linears[_name(measure, place, part)] = fit(
                linear.weight, linear.bias, inputs_of, smooth=smooth
            )
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
    measure: TowerMeasure,
    forms: Sequence[FloatForm],
    linears: Mapping[str, QuantisedLinear],
    inputs: Tensor,
) -> Iterator[LayerError]:
    """The error of each layer alone, in the output of its block, for the tokens that count."""
    for step in walk(measure, forms, inputs):
        usual = forms[step.place]
        wanted = run_all([usual], step.x, causal=measure.causal)[step.counted]
        for part in LINEARS:
            name = _name(measure, step.place, part)
            form = QuantisedBlock(usual.block, {part: linears[name]}, rest=usual)
            found = run_all([form], step.x, causal=measure.causal)[step.counted]
            yield LayerError(name, float((found - wanted).norm() / wanted.norm()), kept=False)


class _Search:
    """Vectors of one tower with its first `kept` layers, by their error, in float32."""

    def __init__(
        self,
        measure: TowerMeasure,
        forms: Sequence[FloatForm],
        linears: Mapping[str, QuantisedLinear],
        order: list[str],
        inputs: Tensor,
    ) -> None:
        self._measure, self._float, self._linears = measure, forms, linears
        self._order, self._inputs = order, inputs
        self._known: dict[int, Tensor] = {}
        self.wanted = self.vectors(len(order))  # (N, E), all layers in float32

    def vectors(self, kept: int) -> Tensor:
        """(N, E) raw vectors."""
        if kept not in self._known:
            self._known[kept] = vectors_of(self._measure, self._forms(kept), self._inputs)
        return self._known[kept]

    def cosines(self, kept: int) -> Tensor:
        """(N,) with float32."""
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
        left = {name: self._linears[name] for name in self._order[kept:]}
        some = Quantisation(left, QuantisationReport(0, (), ()))
        return [
            QuantisedBlock(usual.block, some.of_block(self._measure.name, place), rest=usual)
            for place, usual in enumerate(self._float)
        ]


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
