"""Reads the released aesthetic heads: LAION's linear ones (v1) and the layers of v2.

A head is one affine map in the end. v1 is `weight`, `bias`. v2 is five linear layers, 768-1024-128-
64-16-1, with dropout and without activations, so their product is one row. They are numbered
0, 2, 4, 6, 7, or 0 to 4 where the dropout was taken out. The v2 heads with ReLU (0, 3, 6, 9, 11)
are no affine map and are refused.
Source: LAION-AI/aesthetic-predictor `sa_0_4_*_linear.pth`; christophschuhmann/
improved-aesthetic-predictor `train_predictor.py`, `sac+logos+ava1-l14-linearMSE.pth`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.errors import CorruptFileError, UnsupportedLayoutError

AFFINE = ((0, 2, 4, 6, 7), (0, 1, 2, 3, 4))  # places of linear layers with nothing between them
CURVED = ((0, 3, 6, 9, 11), (0, 2, 4, 6, 8))  # with ReLU
_LAYER = re.compile(r"(\d{1,3})\.(weight|bias)")
_SHOWN = 4  # names in a message


@dataclass(frozen=True)
class ReleasedHead:
    """A head as its file has it, folded to one affine map."""

    weight: Tensor  # (E,) float64
    bias: float
    name: str = ""  # of a known release
    backbone: str = ""  # the catalog name of the CLIP whose vectors it reads, if it is known


KNOWN = {  # SHA-256 of the float32 weight and bias of each layer in turn -> name, backbone
    "dba6421aa35c4489c02b02d8d2a3ad9a495d50f85d35eef521fd551619bbb2ac": (
        "LAION aesthetic v1 (B-32)",
        "ViT-B-32/openai",
    ),
    "3b14437801659a25d9071ed2c722b3c767bc2fdf1a8a1416d58ab2f00a6116e3": (
        "LAION aesthetic v1 (B-16)",
        "ViT-B-16/openai",
    ),
    "3f61d2e577540bb2386b77f1eed5279599cbc005ec64101d3f6df4d29a07a42a": (
        "LAION aesthetic v1 (L-14)",
        "ViT-L-14/openai",
    ),
    "fdb85b42a8c89470b0107b27c9efb726a87ea22eb81679c8d8ed17dc79ebd94f": (
        "aesthetic v2 (sac+logos+ava1)",
        "ViT-L-14/openai",
    ),
}


def read_released(tensors: Mapping[str, Tensor], path: Path) -> ReleasedHead:
    """Fold the layers of a released head; a prefix that all names share does not matter.

    Raises:
        UnsupportedLayoutError: other tensors than those of a head, or layers with activations.
        CorruptFileError: shapes that do not follow each other, or NaN.
    """
    layers = _find_layers(_drop_prefix(tensors), path)
    weight, bias = (tensor.double() for tensor in layers[0])
    for matrix, shift in layers[1:]:
        weight, bias = matrix.double() @ weight, matrix.double() @ bias + shift.double()
    digest = hashlib.sha256()
    for tensor in chain.from_iterable(layers):
        digest.update(tensor.float().contiguous().numpy().tobytes())
    name, backbone = KNOWN.get(digest.hexdigest(), ("", ""))
    return ReleasedHead(weight[0], float(bias[0]), name, backbone)


def _drop_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the first words that all of their dotted names share."""
    split = {name: name.split(".") for name in tensors}
    depth = 0
    while split and len({tuple(words[: depth + 1]) for words in split.values()}) == 1:
        if any(len(words) <= depth + 1 for words in split.values()):
            break
        depth += 1
    return {".".join(words[depth:]): tensors[name] for name, words in split.items()}


def _find_layers(tensors: dict[str, Tensor], path: Path) -> list[tuple[Tensor, Tensor]]:
    """(weight, bias) of each linear layer in order, with shapes that follow each other."""
    if tensors.keys() == {"weight", "bias"}:
        found = [(tensors["weight"], tensors["bias"])]
    else:
        places = sorted({int(m[1]) for name in tensors if (m := _LAYER.fullmatch(name))})
        wanted = {f"{place}.{part}" for place in places for part in ("weight", "bias")}
        if not places or tensors.keys() != wanted:
            _refuse_names(tensors, path)
        _check_places(tuple(places), path)
        found = [(tensors[f"{place}.weight"], tensors[f"{place}.bias"]) for place in places]
    layers = [
        (weight[None] if weight.ndim == 1 else weight, bias.reshape(-1)) for weight, bias in found
    ]
    _check_shapes(layers, path)
    return layers


def _check_places(places: tuple[int, ...], path: Path) -> None:
    if places in CURVED:
        raise UnsupportedLayoutError(
            f"{path} has layers {_show(places)}: those of an aesthetic head with ReLU between "
            "them, which is not read here; use the head without them, such as "
            "sac+logos+ava1-l14-linearMSE.pth."
        )
    if places not in AFFINE:
        known = " or ".join(map(_show, AFFINE))
        raise UnsupportedLayoutError(
            f"{path} has layers {_show(places)}, but an aesthetic head has layers {known}; what "
            "lies between others is not known."
        )


def _show(places: Sequence[int]) -> str:
    return ", ".join(map(str, places))


def _refuse_names(tensors: Mapping[str, Tensor], path: Path) -> None:
    names = ", ".join(list(tensors)[:_SHOWN]) + ", ..." * (len(tensors) > _SHOWN)
    raise UnsupportedLayoutError(
        f"{path} is no aesthetic head: it has {names or 'no tensors'}, but a head has weight and "
        "bias, or these of each of its layers."
    )


def _check_shapes(layers: list[tuple[Tensor, Tensor]], path: Path) -> None:
    width = layers[0][0].shape[-1] if layers[0][0].ndim == 2 else 0
    if layers[0][0].ndim == 2 and not width:
        raise CorruptFileError(f"{path}: its first layer reads no values; fetch the file again.")
    for weight, bias in layers:
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
            raise CorruptFileError(
                f"{path}: a layer of {tuple(weight.shape)} with a bias of {tuple(bias.shape)} "
                f"cannot follow {width} values; fetch the file again."
            )
        if not (is_finite(weight) and is_finite(bias)):
            raise CorruptFileError(f"{path} holds NaN or infinity; fetch the file again.")
        width = weight.shape[0]
    if width != 1:
        raise CorruptFileError(f"{path}: an aesthetic head gives one score, not {width}.")
