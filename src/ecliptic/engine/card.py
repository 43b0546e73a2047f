"""What a loaded model is, and the two fingerprints of its vectors.

`space` says which vectors may be compared: it covers the weights, activation, heads, eps and how
inputs are prepared, so text joins images and fp32 joins bf16. What pads a text stays out of it:
nothing after the end of text reaches a vector, and layouts of one model pad differently. `exact`
says which raw vectors are the same numbers: space plus precision and preprocessing mode; it keys
the cache. A card speaks of the weights as they were when it was made; `Clip.card` makes another
once they change.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, writes
from ecliptic.settings import to_dict


@dataclass(frozen=True)
class Card:
    """Identity of a loaded model; the fingerprints are computed when first asked for."""

    name: str  # "ViT-B-32/openai", or the file's stem
    layout: str  # what it was read from
    config: ClipConfig
    image_spec: ImageSpec | None
    tokenizer_spec: TokenizerSpec | None
    preprocess: Mapping[str, str]  # mode and its options
    precision: str  # "fp32", "bf16" or "fp16"
    device: str
    notes: tuple[str, ...]  # repairs and decisions made on reading
    weights: Mapping[str, Tensor] = field(repr=False, compare=False)
    _made_of: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made_of", self._writes())

    @property
    def embed(self) -> int:
        """Values in a vector."""
        return self.config.embed

    @cached_property
    def parameters(self) -> int:
        """Values in all weights, buffers of batch norms included."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @cached_property
    def space(self) -> str:
        """SHA-256 of all that decides which vectors may be compared.

        Raises:
            ConfigError: a weight was written to since the card was made.
        """
        if self._writes() != self._made_of:
            raise ConfigError(
                f"the weights of {self.name} changed since this card was made, so it can no longer "
                "tell their fingerprint; read `clip.card` again."
            )
        identity = self._identity()
        (identity["tokenizer_spec"] or {}).pop("pad", None)
        digest = hashlib.sha256(_canonical(identity))
        for name in sorted(self.weights):
            digest.update(f"\0{name}\0{tuple(self.weights[name].shape)}\0".encode())
            digest.update(_bytes_of(self.weights[name]))
        return digest.hexdigest()

    @cached_property
    def exact(self) -> str:
        """SHA-256 of all that decides the numbers of a vector, short of rounding."""
        how = {"space": self.space, "precision": self.precision, "layer": "projection"}
        return hashlib.sha256(_canonical(how | dict(self.preprocess))).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the fingerprints, which cost a pass over the weights."""
        return {
            "name": self.name,
            "layout": self.layout,
            "embed": self.embed,
            "parameters": self.parameters,
            "precision": self.precision,
            "device": self.device,
            "preprocess": dict(self.preprocess),
            **self._identity(),
            "notes": list(self.notes),
        }

    def _writes(self) -> list[int]:
        return list(map(writes, self.weights.values()))

    def _identity(self) -> dict[str, Any]:
        return {
            "config": to_dict(self.config),
            "image_spec": to_dict(self.image_spec),
            "tokenizer_spec": to_dict(self.tokenizer_spec),
        }


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _bytes_of(tensor: Tensor) -> bytes:
    """Float tensors as float32, so that storing the same values wider changes nothing."""
    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
