"""The right labels of images as a user names them, turned into places among the labels.

N images, L labels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, did_you_mean
from ecliptic.inputs import fold_label
from ecliptic.scoring import NONE, NONE_OF_THESE


def find_labels(truth: Any, labels: Sequence[str], count: int) -> Tensor:
    """(N,) the place of the right label of each image, or `NONE` for "none of these".

    Args:
        truth: a label for each image; letter case and white space do not matter.
        labels: the known ones.
        count: of images, N.

    Raises:
        ConfigError: another number of labels, or one that is not known; the message names it.
    """
    names = _list(truth, count)
    places = _places(labels) | {fold_label(NONE_OF_THESE): NONE}
    found = [_find(name, places, labels, f"image {row}: ") for row, name in enumerate(names)]
    return torch.tensor(found, dtype=torch.int64)


def find_label_sets(truth: Any, labels: Sequence[str], count: int) -> Tensor:
    """(N, L) whether each label is right, for several labels per image.

    Args:
        truth: a list of labels for each image, which may be empty; one label may stand alone.
        labels: the known ones.
        count: of images, N.

    Raises:
        ConfigError: as `find_labels`.
    """
    places = _places(labels)
    found = torch.zeros(count, len(labels), dtype=torch.bool)
    for row, names in enumerate(_list(truth, count)):
        given = [names] if isinstance(names, str) else names
        if not isinstance(given, Iterable):
            raise ConfigError(f"the truth of image {row} must be a list of labels, got {names!r}.")
        for name in given:
            if not isinstance(name, str) or fold_label(name) != fold_label(NONE_OF_THESE):
                found[row, _find(name, places, labels, f"image {row}: ")] = True
    return found


def check_label(label: str, labels: Sequence[str]) -> None:
    """Raise ConfigError unless `label` is one of the `labels` or "none of these"."""
    if fold_label(label) != fold_label(NONE_OF_THESE):
        _find(label, _places(labels), labels)


def _list(truth: Any, count: int) -> list[Any]:
    if isinstance(truth, str) or not isinstance(truth, Iterable):
        raise ConfigError(f"truth must be a list with an entry for each image, got {truth!r}.")
    names = list(truth)
    if len(names) != count:
        raise ConfigError(
            f"truth has {len(names)} entries for {count} images; give one for each, in the same "
            "order."
        )
    return names


def _places(labels: Sequence[str]) -> dict[str, int]:
    return {fold_label(label): place for place, label in enumerate(labels)}


def _find(name: Any, places: dict[str, int], labels: Sequence[str], where: str = "") -> int:
    found = places.get(fold_label(name)) if isinstance(name, str) else None
    if found is None:
        near = did_you_mean(name, labels)
        shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise ConfigError(
            f"{where}{name!r} is not among the labels; {near or f'they are {shown}.'}"
        )
    return found
