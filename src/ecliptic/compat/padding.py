"""Tells whether a text tower may leave out the padding behind the last end of text.

The tower is causal, so tokens there change no vector. But a hook would see shorter sequences than
in the original, and a replaced part may not be causal. So padding is left out only while the
modules are as they were made. T tokens.
"""

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def describe_modules(roots: Iterable[nn.Module]) -> list[Hashable]:
    """Names, classes, functions and attributes of all modules; equal until a script changes them.

    Values of weights do not count.
    """
    return [
        (name, type(module), _functions_of(type(module)), frozenset(vars(module)), _hooked(module))
        for root in roots
        for name, module in root.named_modules()
    ]


def all_causal(modules: Iterable[nn.Module]) -> bool:
    """Whether `modules` hold an attention mask, and each lets a token see only those before it."""
    found = [module.attn_mask for module in modules if _holds_mask(module)]
    masks: dict[int, Any] = {id(mask): mask for mask in found}
    return bool(masks) and all(mask is not None and _is_causal(mask) for mask in masks.values())


def _holds_mask(module: nn.Module) -> bool:
    return "attn_mask" in vars(module) or "attn_mask" in module._buffers


def _functions_of(kind: type) -> frozenset[tuple[str, int]]:
    return frozenset((name, id(value)) for name, value in vars(kind).items() if callable(value))


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, name) for name in _HOOKS)


def _is_causal(mask: Tensor) -> bool:
    T = mask.shape[-1]
    causal = torch.full((T, T), float("-inf"), device=mask.device).triu_(1)
    return mask.ndim == 2 and torch.equal(mask.float(), causal)
