"""Checks weights against sizes, with one error that lists all differences."""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Size, Tensor

from ecliptic.checkpoints.key_tables import KeyTable, Translation
from ecliptic.errors import WeightsMismatchError
from ecliptic.model import ClipConfig, build

MOST_LINES = 20  # of one kind in a message; the others are counted


def conform(
    config: ClipConfig, found: Translation, table: KeyTable, what: str
) -> dict[str, Tensor]:
    """The native weights of exactly the model that `config` describes.

    Args:
        config: the sizes to check against.
        found: the tensors of the file after its key table; left unchanged.
        table: that key table, so that the message can use the file's own names.
        what: the file, for the message.

    Raises:
        WeightsMismatchError: tensors are missing, unexpected or of a wrong shape.
    """
    expected = native_shapes(config)
    weights = dict(found.weights)
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:
        weights["logit_scale"] = weights["logit_scale"].reshape(())  # some save it as (1,)
    differences = [
        *sorted(found.problems),
        *_list_missing(expected, weights, found, table),
        *_list_misshapen(expected, weights, table),
        *_list_unexpected(expected, weights, found, table),
    ]
    if differences:
        raise mismatch_error(what, differences)
    return {name: weights[name] for name in expected}


def native_shapes(config: ClipConfig) -> dict[str, Size]:
    """Name and shape of every tensor of a checkpoint with these sizes.

    A checkpoint of one tower has no `logit_scale`, because a temperature needs both towers.
    """
    shapes = {name: tensor.shape for name, tensor in build(config).state_dict().items()}
    if config.image is None or config.text is None:
        shapes.pop("logit_scale", None)
    return shapes


def mismatch_error(what: str, differences: list[str]) -> WeightsMismatchError:
    """The error for weights that do not fit; `differences` are its lines, "kind: ..."."""
    shown, seen = [], Counter[str]()
    for line in differences:
        kind = line.split(maxsplit=1)[0].rstrip(":")
        seen[kind] += 1
        if seen[kind] <= MOST_LINES:
            shown.append(line)
    shown += [f"and {n - MOST_LINES} more {kind}" for kind, n in seen.items() if n > MOST_LINES]
    count = f"{len(differences)} difference" + ("s" if len(differences) > 1 else "")
    return WeightsMismatchError(
        f"{what} does not hold the weights of one CLIP model, {count}:",
        *(f"  {line}" for line in shown),
        "Nothing was loaded. It may be another architecture, a part of a model, or a LoRA; "
        "compare the shapes with `ecliptic models`, or fetch the file again.",
    )


def _list_missing(
    expected: Mapping[str, Size], weights: Mapping[str, Tensor], found: Translation, table: KeyTable
) -> Iterator[str]:
    for name, shape in expected.items():
        if name in weights or any(name in problem.split() for problem in found.problems):
            continue
        parts = [part for part in table.foreign_names(name) if part not in found.partial]
        yield f"missing: {' and '.join(parts)}, for {name} {tuple(shape)}"


def _list_misshapen(
    expected: Mapping[str, Size], weights: Mapping[str, Tensor], table: KeyTable
) -> Iterator[str]:
    for name, tensor in weights.items():
        if name not in expected:
            continue
        theirs = " + ".join(table.foreign_names(name))
        stored, needed = tuple(tensor.shape), tuple(expected[name])
        if stored != needed:
            if table.is_transposed(name):
                stored, needed = stored[::-1], needed[::-1]
            hint = " (transposed?)" if stored == needed[::-1] else ""
            yield f"shape: {theirs} is {stored}, {needed} is needed{hint}"
        elif not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            yield f"dtype: {theirs} is {tensor.dtype}, floating point is needed"


def _list_unexpected(
    expected: Mapping[str, Size], weights: Mapping[str, Tensor], found: Translation, table: KeyTable
) -> Iterator[str]:
    for name, tensor in weights.items():
        if name not in expected:
            yield f"unexpected: {' + '.join(table.foreign_names(name))} {tuple(tensor.shape)}"
    for name, tensor in found.unexpected.items():
        yield f"unexpected: {name} {tuple(tensor.shape)}"
