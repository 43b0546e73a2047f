"""`AestheticHead` scores images by one direction among the vectors of one CLIP model.

A head is an affine map of unit-length vectors. It means nothing for vectors of another model, so
each head knows its own: by the fingerprint of the space if it was trained here, by the name of the
published model if it was released elsewhere. N images, E vector size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.checkpoints import catalog
from ecliptic.checks import is_finite, rows_not_finite
from ecliptic.engine import Card, Clip, Images, Vectors
from ecliptic.errors import (
    AmbiguousCheckpointError,
    ConfigError,
    CorruptFileError,
    InputError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
    StorageError,
    UnknownModelError,
)
from ecliptic.scoring import to_tensor
from ecliptic.storage import TensorFormat, read_tensors
from ecliptic.tasks.aesthetic.released import read_released

FORMAT = TensorFormat("head", 1)
NEAR_ONE = 1e-2  # of the length of a unit vector; bfloat16 is off by 1e-3
Scorable: TypeAlias = "Images | Tensor | NDArray[Any] | Vectors"


@dataclass(frozen=True, eq=False)
class AestheticHead:
    """score = weight . vector + bias, for unit vectors of images of one model.

    Released heads and heads trained on ratings give scores on the scale of those ratings. A head
    trained on choices gives log odds: an image whose score is 1 higher is preferred in 73 of 100
    pairs.
    """

    weight: Tensor = field(repr=False)  # (E,)
    bias: float
    model: str  # the name of the model whose vectors it scores
    space: str = field(default="", repr=False)  # their fingerprint; "" for a released head
    name: str = ""  # of the release, or of the file
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)  # what it was fitted on

    @property
    def doubtful(self) -> bool:
        """Whether it was trained here and was not surely better than chance on unseen images."""
        return self.training.get("useful") is False

    @property
    def embed(self) -> int:
        """Number of values of a vector that it scores."""
        return len(self.weight)

    def score(self, images: Scorable, clip: Clip | None = None) -> Tensor:
        """(N,) float64 scores of N images, in order; higher is better.

        Args:
            images: what `Clip.encode_image` reads; or (N, E) unit vectors in a tensor, an array or
                `Vectors`.
            clip: the model; vectors can be scored without it.

        Raises:
            SpaceMismatchError: the model, or the stored vectors, are not those of the head.
            ShapeError: vectors of another size.
            NumericalError: a vector that holds NaN, is all zeros, or is not of unit length.
            InputError: images, and no model to encode them.
        """
        if clip is not None:
            self.check(clip.card)
        return self.apply(self._encode(images, clip))

    def apply(self, vectors: Tensor) -> Tensor:
        """(N, E) unit vectors of the right model -> (N,) scores; errors as of `score`."""
        if vectors.ndim != 2 or vectors.shape[1] != self.embed:
            raise ShapeError(
                f"{self} scores (N, {self.embed}) vectors of {self.model}, got "
                f"{tuple(vectors.shape)}; encode the images with that model."
            )
        self._check_lengths(vectors)
        return vectors.double() @ self.weight.double() + self.bias

    def check(self, card: Card) -> None:
        """Raise SpaceMismatchError unless the vectors of this model are those of the head."""
        if self.space:
            self._check_space(card.space, card.name)
        elif why := _differs(self.model, card):
            raise SpaceMismatchError(
                f"{self} scores vectors of {self.model}, but {card.name} {why}; load "
                f"{self.model}, or train a head for {card.name}."
            )

    def check_vectors(self, stored: Vectors) -> None:
        """Raise SpaceMismatchError unless stored vectors are of the head's model.

        A released head knows only the name of its model, so the names are compared; a name that is
        not in the catalog tells nothing.
        """
        if self.space:
            self._check_space(stored.space, stored.model)
        elif (known := _catalog_name(stored.model)) not in ("", self.model):
            raise SpaceMismatchError(
                f"{self} scores vectors of {self.model}, but these are of {known}; embed the "
                f"images with {self.model}."
            )

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a safetensors file, with what the head is for as JSON in its metadata.

        Raises:
            StorageError: another suffix, the file exists and `overwrite` is False, or it cannot be
                written.
        """
        facts: dict[str, Any] = {"model": self.model, "space": self.space, "name": self.name}
        tensors = {
            "weight": self.weight.double(),
            "bias": torch.tensor([self.bias], dtype=torch.float64),
        }
        facts |= {"training": dict(self.training)}
        FORMAT.write(path, facts, tensors, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str, backbone: str | None = None) -> Self:
        """Read a head: one that was saved here, or a released one in a file of PyTorch.

        Args:
            path: the file; nothing in it is executed.
            backbone: the catalog name of the CLIP model of a head that is not known, such as
                "ViT-L-14/openai".

        Raises:
            AmbiguousCheckpointError: the file does not tell the model; pass `backbone`.
            ConfigError: `backbone` contradicts the file.
            UnsupportedLayoutError, CorruptFileError, UnsafeFileError: no head, or damaged.
            StorageError: there is no such file, or it cannot be read.
        """
        path = Path(path)
        try:
            found = read_tensors(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
        if FORMAT.key in found.metadata:
            return cls._read_own(path)._check_backbone(backbone, path)
        released = read_released(found.tensors, path)
        model = released.backbone or (catalog.find(backbone).name if backbone else "")
        if not model:
            raise AmbiguousCheckpointError(
                f"{path} holds a head for vectors of {len(released.weight)} values, but not of "
                'which model; pass backbone=, such as backbone="ViT-L-14/openai".'
            )
        name = released.name or path.stem
        return cls(released.weight, released.bias, model, name=name)._check_backbone(backbone, path)

    @classmethod
    def _read_own(cls, path: Path) -> Self:
        about, tensors = FORMAT.read(path)
        weight, bias = tensors.get("weight"), tensors.get("bias")
        texts = [about.get(key) for key in ("model", "space", "name")]
        training = about.get("training")
        if (
            weight is None
            or bias is None
            or weight.ndim != 1
            or bias.shape != (1,)
            or not all(isinstance(text, str) for text in texts)
            or not isinstance(training, dict)
            or not (is_finite(weight) and is_finite(bias))
        ):
            raise CorruptFileError(f"{path} is damaged; save the head again.")
        model, space, name = map(str, texts)
        return cls(weight.double(), float(bias), model, space, name or path.stem, training)

    def _check_backbone(self, backbone: str | None, path: Path) -> Self:
        """Raise ConfigError if the user names another model than the file, or one of another size.

        Returns the head.
        """
        if backbone is not None and catalog.find(backbone).name != self.model:
            raise ConfigError(f"{path} is a head for {self.model}, not {backbone}; leave it out.")
        size = None if self.space else catalog.find(self.model).config.embed
        if size not in (None, self.embed):
            raise ConfigError(
                f"{path} is a head for vectors of {self.embed} values, but {self.model} has "
                f"{size}; name another backbone."
            )
        return self

    def _encode(self, images: Scorable, clip: Clip | None) -> Tensor:
        if isinstance(images, Vectors):
            self.check_vectors(images)
            return to_tensor(images)
        if is_matrix(images):
            return to_tensor(images)
        if clip is None:
            raise InputError("images need the model that encodes them; pass the clip too.")
        return clip.encode_image(images)

    def _check_space(self, space: str, model: str) -> None:
        if space != self.space:
            raise SpaceMismatchError(
                f"{self} scores vectors of {self.model} (space {self.space[:12]}), not of {model} "
                f"(space {space[:12]}); load that model, or train a head for this one."
            )

    def _check_lengths(self, vectors: Tensor) -> None:
        if bad := rows_not_finite(vectors):
            raise NumericalError(f"vector {bad[0]} holds NaN or infinity; leave that image out.")
        wrong = wrong_lengths(vectors)
        if len(wrong):
            row = int(wrong[0])
            length = float(vectors[row].double().norm())
            raise NumericalError(
                f"vector {row} has length {length:.3g}, but {self} is for unit vectors; "
                + ("it is all zeros: leave that image out." if not length else
                   "divide each by its length, as `encode_image` does.")
            )  # fmt: skip

    def __str__(self) -> str:
        return f"the head {self.name!r}"


def is_matrix(given: Any) -> TypeGuard[Tensor | NDArray[Any]]:
    """Whether `given` is (N, E) vectors: floats in two axes, which no image has."""
    if isinstance(given, Tensor):
        return given.ndim == 2 and given.is_floating_point()
    return isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype.kind == "f"


def wrong_lengths(vectors: Tensor) -> Tensor:
    """The rows of (N, E) vectors that are not of unit length."""
    off: Tensor = (vectors.double().norm(dim=-1) - 1).abs() > NEAR_ONE
    return off.nonzero()[:, 0]


def _catalog_name(name: str) -> str:
    """The name of published weights as the catalog spells it; "" if it has none of that name."""
    try:
        return catalog.find(name.removeprefix("hf:")).name
    except UnknownModelError:
        return ""


def _differs(model: str, card: Card) -> str:
    """What shows that a card is not of the published `model`; "" if nothing does.

    A file with its own name can hold other weights of the same sizes, which cannot be told here.
    """
    wanted = catalog.find(model).config
    if card.embed != wanted.embed:
        return f"has vectors of {card.embed} values, not {wanted.embed}"
    if card.config.image != wanted.image:
        return f"has another image tower ({_compare(card.config.image, wanted.image)})"
    known = _catalog_name(card.name)
    return f"has other weights ({known})" if known not in ("", model) else ""


def _compare(found: Any, wanted: Any) -> str:
    """The sizes in which two towers differ."""
    if type(found) is not type(wanted):
        return f"a {type(found).__name__.removesuffix('Config')}"
    pairs = ((f.name, getattr(found, f.name), getattr(wanted, f.name)) for f in fields(wanted))
    return ", ".join(f"{name} {one}, not {other}" for name, one, other in pairs if one != other)
