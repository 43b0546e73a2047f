"""Cache keys: SHA-256 of canonical JSON of all that determines a conditioning.

A key covers the identity of the conditioner with its options, the stored dtype, and the prompt, so
a change of any of them is a cache miss. kohya's caches, by contrast, keep the old tensors of an
edited caption (sd-scripts, library/strategy_sdxl.py). T tokens, D width, E vector size.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Unpack

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.arguments import PromptTensors
from ecliptic.diffusion.options import HowOptions
from ecliptic.engine import DTYPES
from ecliptic.errors import ConfigError

STORED = ("tokens", "pooled", "mask")  # tensors of a conditioning


class TextConditioner(Protocol):
    """The methods of a conditioner whose results can be cached."""

    def identity(self, **options: Unpack[HowOptions]) -> Mapping[str, Any]:
        """All that determines the result except the prompt, as JSON values."""

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
    """All that determines a cache entry except the prompt, as JSON values.

    Args:
        conditioner: computes the tensors.
        dtype: "fp32", "bf16" or "fp16" to store; None: as computed.
        **options: of the conditioner.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(
            f"a cache stores {', '.join(DTYPES)}, not {dtype!r}; pass one of them, or None for "
            "the dtype as computed."
        )
    found: dict[str, Any] = json.loads(canonical_json(conditioner.identity(**options)))
    return {"conditioner": found, "stored": dtype}


def condition_key(identity: Mapping[str, Any], prompt: str) -> str:
    """SHA-256 of `identity` and the prompt, in hexadecimal."""
    return key_maker(identity)(prompt)


def key_maker(identity: Mapping[str, Any]) -> Callable[[str], str]:
    """`condition_key` for many prompts of one identity, which is hashed once."""
    start = hashlib.sha256(b'{"identity":' + canonical_json(identity) + b',"prompt":')

    def make(prompt: str) -> str:
        found = start.copy()
        found.update(canonical_json(prompt) + b"}")
        return found.hexdigest()

    return make


def canonical_json(value: Any) -> bytes:
    """JSON that is the same for equal values; in ASCII, so lone surrogates are allowed."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_to_json
    ).encode()


def _to_json(value: Any) -> Any:
    """Convert a tensor (by its content), a dataclass, a mapping or a dtype to JSON values."""
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
    """Copy the tensors of `made` that a cache stores, in `dtype`; their values must be finite.

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
        fix = f" as {dtype}; bf16 and fp32 hold larger values." if dtype else "."
        check_finite(copy, name, f"the prompt is not stored{fix}")
        tensors[name] = copy
    return tensors


def size_of(tensors: Iterable[Tensor]) -> int:
    """Size of the tensors in bytes."""
    return sum(tensor.nbytes for tensor in tensors)
