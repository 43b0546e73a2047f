"""LAION's heads for CLIP vectors that estimate nudity and sex, from their files of PyTorch.

Two layouts: `layers.{0,3,6,9,12,15,16}` for ViT-H-14, with a ReLU after all but the last two and a
raw number at the end; `norm.*` and `linear_1` to `linear_N` for ViT-B-32 and ViT-L-14, with a ReLU
after all but the last, and a sigmoid. None has a published threshold.
Source: LAION-AI/CLIP-based-NSFW-Detector h14_nsfw_model.py and src/models.py (MIT).
N images, E vector size.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ShapeError, StorageError, UnsupportedLayoutError, WeightsMismatchError
from ecliptic.scoring import Rows, layer_scores, to_tensor
from ecliptic.storage import check_path, map_file, read_tensors, sniff

NUMBERS = (0, 3, 6, 9, 12, 15, 16)  # of the linear layers of ViT-H-14's head
_EPS = 1e-10  # beside the deviation, as in src/models.py
_NORM = ("norm.mean", "norm.variance")
_KERAS = b"saved_model.pb"


@dataclass(frozen=True)
class NsfwHead:
    """A head; `scores` gives about 0 for ordinary images and about 1 for nudity and sex."""

    layers: tuple[tuple[Tensor, Tensor], ...]  # weight (out, in) and bias (out,)
    relu: tuple[bool, ...]  # whether a ReLU follows each
    mean: Tensor | None = None  # (E,) that is subtracted first
    variance: Tensor | None = None  # (E,)

    @property
    def embed(self) -> int:
        """Values of the vectors that it takes: 1024 of ViT-H-14, 768 of ViT-L-14, 512 of B-32."""
        return self.layers[0][0].shape[1]

    def scores(self, vectors: Rows) -> Tensor:
        """(N, E) image vectors of the head's own model -> (N,); made unit length before.

        NaN stays NaN: compare with `scoring.is_above`, for which it is never safe.

        Raises:
            ShapeError: vectors of another size.
        """
        rows = to_tensor(vectors).detach().float().cpu()
        if rows.ndim != 2 or rows.shape[1] != self.embed:
            raise ShapeError(
                f"this head takes vectors of {self.embed} values, got {tuple(rows.shape)}; use the "
                "model that it was trained on (1024: ViT-H-14/laion2b_s32b_b79k, 768: "
                "ViT-L-14/openai, 512: ViT-B-32/openai)."
            )
        rows = F.normalize(rows, dim=-1)
        if self.mean is not None and self.variance is not None:
            rows = (rows - self.mean) / (self.variance.sqrt() + _EPS)
            return layer_scores(rows, self.layers, self.relu).sigmoid()
        return layer_scores(rows, self.layers, self.relu)


def read_nsfw_head(path: Path | str) -> NsfwHead:
    """Read a head of LAION; nothing in the file is executed.

    Raises:
        UnsupportedLayoutError: a SavedModel of Keras, or another kind of model.
        WeightsMismatchError: tensors are missing, or do not fit together.
        CorruptFileError, UnsafeFileError: from the safe reader.
    """
    path = Path(path)
    check_path(path)
    if not path.exists():
        raise StorageError(f"there is no file {path}; check the path.")
    _refuse_keras(path)
    tensors = read_tensors(path).tensors
    norm: tuple[str, ...] = ()
    if any(name.startswith("layers.") for name in tensors):
        names = [f"layers.{number}" for number in NUMBERS]
        relu = [True] * (len(names) - 2) + [False] * 2
    elif all(name in tensors for name in _NORM):
        count = sum(bool(re.fullmatch(r"linear_\d+\.weight", name)) for name in tensors)
        names = [f"linear_{number}" for number in range(1, count + 1)]
        relu, norm = [True] * (count - 1) + [False], _NORM
    else:
        raise UnsupportedLayoutError(
            f"{path} is no head of LAION's NSFW detector: it has neither layers.{NUMBERS[0]} to "
            f"layers.{NUMBERS[-1]} nor norm.mean and linear_1."
        )
    layers = _collect(path, tensors, names, norm)
    found = {name: tensors[name].float() for name in norm}
    return NsfwHead(tuple(layers), tuple(relu), found.get(_NORM[0]), found.get(_NORM[1]))


def _collect(
    path: Path, tensors: Mapping[str, Tensor], names: list[str], norm: tuple[str, ...]
) -> list[tuple[Tensor, Tensor]]:
    """The weights and biases of all layers, after a check that they fit together."""
    needed = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    needed += norm
    wrong = sorted(set(needed) ^ set(tensors))
    if wrong or not names:
        raise WeightsMismatchError(
            f"{path} has other tensors than LAION's NSFW head: {', '.join(wrong[:6])}. A head with "
            "layers 0, 2, 4, 6, 7 rates aesthetics."
        )
    layers = [(tensors[f"{one}.weight"].float(), tensors[f"{one}.bias"].float()) for one in names]
    size = layers[0][0].shape[-1]
    for name in norm:
        if tensors[name].shape != (size,):
            raise WeightsMismatchError(
                f"{path}: {name} is {tuple(tensors[name].shape)}, ({size},) is needed."
            )
    for name, (weight, bias) in zip(names, layers, strict=True):
        if weight.ndim != 2 or weight.shape[1] != size or bias.shape != weight.shape[:1]:
            raise WeightsMismatchError(
                f"{path}: {name} is {tuple(weight.shape)} with a bias {tuple(bias.shape)}, but "
                f"takes {size} values."
            )
        size = weight.shape[0]
    if size != 1:
        raise WeightsMismatchError(f"{path}: its last layer has {size} outputs, 1 is needed.")
    for name, tensor in tensors.items():
        check_finite(tensor, f"{path}: {name}", "fetch the file again.", WeightsMismatchError)
    return layers


def _refuse_keras(path: Path) -> None:
    """Raise for a SavedModel, as a folder or in a zip; its names stand in the file as they are."""
    if path.is_dir():
        keras = (path / _KERAS.decode()).exists()
    else:
        keras = sniff(path) == "zip" and map_file(path).find(_KERAS) >= 0
    if keras or path.is_dir():
        raise UnsupportedLayoutError(
            f"{path} is {'a SavedModel of Keras' if keras else 'a folder'}, which is not read; use "
            "LAION's file of PyTorch, such as clip_ViT-L-14_openai_binary_nsfw_head.pth."
        )
