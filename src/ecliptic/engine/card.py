"""`Card` describes a loaded model and has the two fingerprints of its vectors.

Vectors of one `space` may be compared, texts with images and fp32 with bf16: it covers the weights,
activation, heads, eps and how inputs are prepared. It leaves out the padding id, because nothing
after the end of text changes a vector, and layouts of one model pad differently. int8 has the space
of fp32 if its vectors are as near as those of bf16, and fp8 that of bf16. Raw vectors of one
`exact` are the same numbers: it is space plus precision, int8 or fp8 layers and preprocessing mode,
and a part of the keys of the cache. A card describes the weights at the time when it was made;
`Clip.card` makes another after they change.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ordinary, writes
from ecliptic.runtime import KernelMode, Reduced
from ecliptic.scoring import Calibration
from ecliptic.settings import to_dict


@dataclass(frozen=True)
class Card:
    """Identity of a loaded model; the fingerprints are computed when first used."""

    name: str  # "ViT-B-32/openai", or the file's stem
    layout: str  # of the file that it was read from
    config: ClipConfig
    image_spec: ImageSpec | None
    tokenizer_spec: TokenizerSpec | None
    preprocess: Mapping[str, str]  # mode and its options
    precision: str  # "fp32", "bf16", "fp16", "int8" or "fp8"
    device: str
    notes: tuple[str, ...]  # repairs and decisions made while reading
    weights: Mapping[str, Tensor] = field(repr=False, compare=False)
    calibration: Calibration | None = None  # temperature and level of "none of these"
    quantisation: Reduced | None = field(default=None, repr=False, compare=False)
    widened: tuple[str, ...] = ()  # towers stored in half precision and computed in float32
    fused: bool = False  # fp8 layers in compiled towers, which round at other places
    _made_of: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made_of", self._count_writes())

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy, whose tensors have counts of their own."""
        return vars(self) | {"_made_of": self._count_writes() == self._made_of}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        object.__setattr__(self, "_made_of", self._count_writes() if state["_made_of"] else [])

    @property
    def embed(self) -> int:
        """Number of values in a vector."""
        return self.config.embed

    @cached_property
    def parameters(self) -> int:
        """Number of values in all weights, with the buffers of batch norms."""
        return sum(tensor.numel() for tensor in self.weights.values())

    @cached_property
    def space(self) -> str:
        """SHA-256 of everything that decides which vectors may be compared.

        Raises:
            ConfigError: a weight was changed after the card was made.
        """
        if self._count_writes() != self._made_of:
            raise ConfigError(
                f"the weights of {self.name} changed since this card was made, so it cannot give "
                "their fingerprint; read `clip.card` again."
            )
        reduced = self.quantisation
        if reduced and reduced.space and reduced.keeps_space:
            return reduced.space
        identity = self._identity() | ({reduced.kind: reduced.digest()} if reduced else {})
        (identity["tokenizer_spec"] or {}).pop("pad", None)
        identity["config"].get("image", {}).pop("block", None)  # the names of the weights tell it
        digest = hashlib.sha256(_to_bytes(identity))
        for name in sorted(self.weights):
            digest.update(f"\0{name}\0{tuple(self.weights[name].shape)}\0".encode())
            digest.update(_bytes_of(self.weights[name]))
        return digest.hexdigest()

    @cached_property
    def exact(self) -> str:
        """SHA-256 of everything that decides the numbers of a vector, except rounding."""
        how = {"space": self.space, "precision": self.precision, "layer": "projection"}
        if self.quantisation:
            how[self.quantisation.kind] = self.quantisation.digest()
        if self.widened:
            how["widened"] = ", ".join(self.widened)
        if self.fused:
            how["fused"] = "fp8"
        return hashlib.sha256(_to_bytes(how | dict(self.preprocess))).hexdigest()

    def choose_calibration(self, wanted: bool | None) -> Calibration | None:
        """The calibration if it is wanted; None asks for it if there is one.

        Raises:
            ConfigError: it is wanted, but there is none.
        """
        if wanted and self.calibration is None:
            raise ConfigError(
                f"{self.name} has no calibration in its card; leave calibrated=True out, or use a "
                "model that was trained with evaluate.calibrate and not changed since."
            )
        return None if wanted is False else self.calibration

    def reduce(self, layers: Reduced, kernels: KernelMode) -> "Card":
        """The card of the same weights with these int8 or fp8 layers.

        Raises:
            ConfigError: the layers were found for other weights.
        """
        if layers.space not in (None, self.space):
            raise ConfigError(
                f"these {layers.kind} layers were found for other weights than those of "
                f"{self.name}; find them for this model."
            )
        fused = layers.kind == "fp8" and kernels == "compiled"
        return replace(self, precision=layers.kind, quantisation=layers, fused=fused)

    def renew(
        self,
        weights: Mapping[str, Tensor],
        precision: str,
        device: str,
        widened: tuple[str, ...] = (),
    ) -> "Card":
        """The card of the model as it is now.

        A tensor of `weights` that did not change is the one of this card, as after a move to
        another device. Other weights have no calibration, which was of those before.
        """
        reduced = self.quantisation
        same = self._count_writes() == self._made_of and all(
            weights[name] is tensor for name, tensor in self.weights.items()
        )
        note = () if same else ("the weights changed since loading",)
        kept = reduced if reduced and reduced.kind == precision else None
        return replace(
            self,
            weights=weights,
            precision=precision,
            device=device,
            calibration=self.calibration if same else None,
            quantisation=kept,
            fused=self.fused and kept is not None,
            widened=widened,
            notes=tuple(dict.fromkeys((*self.notes, *note))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the fingerprints, which need a pass over the weights."""
        reduced = self.quantisation
        return {
            "name": self.name,
            "layout": self.layout,
            "embed": self.embed,
            "parameters": self.parameters,
            "precision": self.precision,
            "device": self.device,
            "preprocess": dict(self.preprocess),
            **self._identity(),
            "calibration": to_dict(self.calibration),
            **(
                {reduced.kind: reduced.report.summary(reduced.kind, reduced.before)}
                if reduced
                else {}
            ),
            "notes": list(self.notes),
        }

    def _count_writes(self) -> list[int]:
        return list(map(writes, self.weights.values()))

    def _identity(self) -> dict[str, Any]:
        return {
            "config": to_dict(self.config),
            "image_spec": to_dict(self.image_spec),
            "tokenizer_spec": to_dict(self.tokenizer_spec),
        }


def _to_bytes(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _bytes_of(tensor: Tensor) -> bytes:
    """Values as bytes, floats as float32: the stored dtype of equal values does not matter."""
    tensor = ordinary(tensor.detach()).cpu()
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
