"""int8 layers in ecliptic's own layout: which tensors of the file they are, and what JSON says.

The weight of a layer `X` is left out. In its place are `int8.X.weight`, `.scales`, `.bias` and
`.smoothing`; the JSON has the step and the zero of each layer's inputs, and the report.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checks import is_finite
from ecliptic.errors import ConfigError, CorruptFileError
from ecliptic.model import TENSORS, CodedWeight, Quantisation, QuantisationReport, QuantisedLinear
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import release

KEY = "int8"  # in the JSON
_PREFIX = "int8."


def stored_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of the file."""
    tensors, int8 = dict(checkpoint.weights), checkpoint.quantisation
    for name, layer in int8.linears.items() if int8 else ():
        del tensors[f"{name}.weight"]
        tensors |= {f"{_PREFIX}{name}.{part}": getattr(layer, part) for part in TENSORS}
    return tensors


def stored_facts(quantisation: Quantisation) -> dict[str, Any]:
    """The JSON."""
    layers = quantisation.linears.items()
    return {
        "space": quantisation.space,
        "inputs": {name: [layer.scale, layer.zero] for name, layer in layers},
        "report": to_dict(quantisation.report),
    }


def read_layers(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], path: Path
) -> tuple[dict[str, Tensor], Quantisation]:
    """The tensors of the float32 model, and its int8 layers.

    Raises:
        CorruptFileError: layers and JSON do not fit together, or impossible numbers.
    """
    weights = {name: one for name, one in tensors.items() if not name.startswith(_PREFIX)}
    linears: dict[str, QuantisedLinear] = {}
    try:
        report = from_dict(QuantisationReport, facts["report"], where="int8.report")
        for name, (scale, zero) in facts["inputs"].items():
            parts = {part: tensors[f"{_PREFIX}{name}.{part}"] for part in TENSORS}
            linears[name] = QuantisedLinear(**parts, scale=_number(scale), zero=int(zero))
            weights[f"{name}.weight"] = CodedWeight(linears[name])
            release(parts["weight"])  # it was only checked
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CorruptFileError(
            f"{path}: its int8 layers are not whole ({type(error).__name__}: {error}); convert the "
            "model again."
        ) from error
    stored = sum(name.startswith(_PREFIX) for name in tensors)
    if stored != len(TENSORS) * len(linears):
        raise CorruptFileError(
            f"{path} holds int8 tensors that its JSON does not name; convert the model again."
        )
    space = facts.get("space")
    return weights, Quantisation(linears, report, space if isinstance(space, str) else None)


def _number(value: Any) -> float:
    if not is_finite(value):
        raise ValueError(f"{value!r} is no step")
    return float(value)
