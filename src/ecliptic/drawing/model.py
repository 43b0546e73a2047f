"""The drawing model: its file, the CLIP space that it belongs to, and its guided denoiser.

B batch, E vector size, S picture size.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.engine import Clip, load
from ecliptic.errors import CorruptFileError, EclipticError, SpaceMismatchError
from ecliptic.model import DrawingConfig, DrawingNet
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import read_safetensors, replace_file, write_safetensors

EMBEDDED = Path(__file__).parent / "emoji" / "model.safetensors"
_KIND = "ecliptic drawing model"


@dataclass(frozen=True)
class DrawingModel:
    """A trained network, and the CLIP whose vectors it draws."""

    net: DrawingNet
    clip: Clip

    def denoiser(self, vectors: Tensor, away: Tensor | None, strength: float) -> "_Denoiser":
        """Predicts x0 (B, 3, S, S), by classifier-free guidance (Ho and Salimans 2022).

        Args:
            vectors: (B, E) unit vectors of what is drawn.
            away: (B, E) unit vectors of what is not; None: nothing in particular.
            strength: 1 follows the vectors alone; more goes further away from the other.
        """
        return _Denoiser(self.net, vectors, away, strength)


@dataclass(frozen=True)
class _Denoiser:
    """`x0 = other + strength (wanted - other)`, both in one batch. Source: arXiv:2207.12598."""

    net: DrawingNet
    vectors: Tensor  # (B, E)
    away: Tensor | None  # (B, E)
    strength: float

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        B = len(x)
        if self.strength == 1:
            return self.net(x, t, self.vectors, torch.ones(B, dtype=torch.bool, device=x.device))  # type: ignore[no-any-return]
        known = torch.ones(2 * B, dtype=torch.bool, device=x.device)
        known[B:] = self.away is not None
        other = self.vectors if self.away is None else self.away
        both = self.net(x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([self.vectors, other]), known)
        wanted, other = both.chunk(2)
        return other + self.strength * (wanted - other)  # type: ignore[no-any-return]


def write_drawing_model(path: Path, net: DrawingNet, space: str) -> None:
    """Write a network in half precision, with its sizes and the fingerprint of its CLIP space.

    Raises:
        StorageError: the file cannot be written.
    """
    about = {"kind": _KIND, "space": space, "config": to_dict(net.config)}
    tensors = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    metadata = {"format": "pt", "about": json.dumps(about)}
    replace_file(path, lambda draft: write_safetensors(draft, tensors, metadata))


def read_drawing_model(path: Path, clip: Clip) -> DrawingModel:
    """Read what `write_drawing_model` wrote; the weights become float32.

    Args:
        path: of the file.
        clip: gives the vectors; it must be the model that the network was trained with.

    Raises:
        CorruptFileError: no drawing model, or a damaged one.
        SpaceMismatchError: it was trained with the vectors of another CLIP.
    """
    tensors, metadata = read_safetensors(path)
    try:
        about = json.loads(metadata["about"])
        if about["kind"] != _KIND:
            raise ValueError(about["kind"])
        net = _build(from_dict(DrawingConfig, about["config"]), tensors)
    except (KeyError, ValueError, TypeError, RuntimeError, EclipticError) as error:
        raise CorruptFileError(
            f"{path} is no drawing model of ecliptic, or a damaged one: {error}"[:300]
        ) from None
    if about["space"] != clip.card.space:
        raise SpaceMismatchError(
            f"{path.name} draws the vectors of another model than {clip.card.name!r}: their spaces "
            f"are {about['space'][:12]} and {clip.card.space[:12]}. Train it anew with the vectors "
            "of that model (recipes/drawing.toml), or load the model that it was trained with."
        )
    return DrawingModel(net.to(clip.device), clip)


def _build(config: DrawingConfig, tensors: Mapping[str, Tensor]) -> DrawingNet:
    with torch.device("meta"):
        net = DrawingNet(config)
    net.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return net.eval().requires_grad_(False)


@cache
def load_drawing() -> DrawingModel:
    """The embedded drawing model, with the embedded default `mini`; both are loaded once."""
    return read_drawing_model(EMBEDDED, load())
