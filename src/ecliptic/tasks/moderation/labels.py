"""What people said about images: whether each shows a concept. N images, C concepts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError, did_you_mean
from ecliptic.scoring import to_truth


def read_truth(truth: Any, names: Sequence[str], count: int) -> dict[str, Tensor]:
    """(N,) bools for each concept that `truth` speaks of.

    Args:
        truth: (N,) for a single concept, (N, C), or a mapping from names to (N,).
        names: of the C concepts.
        count: N.

    Raises:
        ConfigError: a name that is no concept.
        ShapeError: another shape, or values that are neither true nor false.
    """
    if isinstance(truth, Mapping):
        for name in truth:
            if name not in names:
                near = did_you_mean(name, names) or f"there are {', '.join(names)}."
                raise ConfigError(f"there is no concept {name!r}; {near}")
        columns = {name: _to_tensor(values) for name, values in truth.items()}
    else:
        values = _to_tensor(truth)
        values = values[:, None] if values.ndim == 1 and len(names) == 1 else values
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ShapeError(
                f"truth {tuple(values.shape)} must have a column for each of {len(names)} concepts "
                f"({', '.join(names)}); or pass a mapping from their names."
            )
        columns = dict(zip(names, values.unbind(dim=1), strict=True))
    blank = torch.zeros(count)
    return {name: to_truth(values, blank) for name, values in columns.items()}


def to_flags(what: str, values: Any) -> Tensor:
    """(N,) bools of true and false, or 1 and 0.

    Raises:
        ShapeError: another shape, or other values; the message begins with `what`.
    """
    found = _to_tensor(values)
    try:
        return to_truth(found, torch.zeros(found.numel()))
    except ShapeError as error:
        raise ShapeError(f"{what}: {error}") from None


def _to_tensor(values: Any) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ShapeError(
            f"truth must be true or false, or 1 or 0, for each image, got {values!r:.100}."
        ) from None
