"""What decides the numbers of a cached conditioning, as canonical JSON and its SHA-256.

A key covers all that the conditioner says of itself and of its options, the stored precision, and
the prompt, so that a change of any of them misses; kohya's caches, by contrast, keep what an edited
caption no longer says (sd-scripts, library/strategy_sdxl.py). T tokens, D width, E vector size.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Unpack

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.options import HowOptions
from ecliptic.engine import DTYPES
from ecliptic.errors import ConfigError

STORED = ("tokens", "pooled", "mask")  # tensors of a conditioning


class PromptTensors(Protocol):
    """The tensors of one prompt: a `Conditioning`, or what a cache gives back."""

    @property
    def tokens(self) -> Tensor | None:
        """(1, T, D)."""

    @property
    def pooled(self) -> Tensor | None:
        """(1, E)."""

    @property
    def mask(self) -> Tensor | None:
        """(1, T) bool."""


class TextConditioner(Protocol):
    """What a conditioner must offer so that its results can be stored."""

    def identity(self, **options: Unpack[HowOptions]) -> Mapping[str, Any]:
        """All but the prompt that decides the numbers, as JSON values."""

    def each(
        self, prompts: Sequence[str], **options: Unpack[HowOptions]
    ) -> Sequence[PromptTensors]:
        """One conditioning per prompt, each at its own length."""


@dataclasses.dataclass(frozen=True, eq=False)
class StoredConditioning:
    """The tensors of one prompt, as they were computed."""

    tokens: Tensor | None = None  # (1, T, D)
    pooled: Tensor | None = None  # (1, E)
    mask: Tensor | None = None  # (1, T) bool


def cache_identity(
    conditioner: TextConditioner, dtype: str | None = None, **options: Unpack[HowOptions]
) -> dict[str, Any]:
    """All but the prompt that decides what a cache stores, as JSON values.

    Args:
        conditioner: what computes.
        dtype: "fp32", "bf16" or "fp16" to store in; None is as computed.
        **options: of the conditioner.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(
            f"a cache stores {', '.join(DTYPES)}, not {dtype!r}; None is as computed."
        )
    found: dict[str, Any] = json.loads(canonical(conditioner.identity(**options)))
    return {"conditioner": found, "stored": dtype}


def condition_key(identity: Mapping[str, Any], prompt: str) -> str:
    """SHA-256 of `identity` and the prompt, in hexadecimal."""
    return hashlib.sha256(canonical({"identity": identity, "prompt": prompt})).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON of `value` that is the same for equal values; ASCII, so half characters are fine."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
    ).encode()


def _plain(value: Any) -> Any:
    """JSON values for a tensor (by its content), a dataclass, a mapping or a dtype."""
    if isinstance(value, Tensor):
        return {"tensor": digest({"": value})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, torch.dtype):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def keep(made: PromptTensors, dtype: str | None) -> dict[str, Tensor]:
    """Copies of the tensors of `made` that a cache stores, in `dtype`, checked to be finite.

    Raises:
        NumericalError: a value is not finite, or too large for `dtype`.
    """
    tensors: dict[str, Tensor] = {}
    for name in STORED:
        tensor = getattr(made, name)
        if tensor is None:
            continue
        wanted = DTYPES[dtype] if dtype and tensor.is_floating_point() else tensor.dtype
        copy = tensor.detach().to("cpu", wanted, copy=True).contiguous()
        fix = f"as {dtype}; bf16 and fp32 hold larger values" if dtype else "as it was computed"
        check_finite(copy, name, f"nothing of it is stored {fix}.")
        tensors[name] = copy
    return tensors


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the values."""
    return sum(tensor.nbytes for tensor in tensors)
