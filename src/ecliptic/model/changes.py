"""Tells whether weights changed, from the counters that torch keeps.

A weight changes when it is written to in place, as optimisers do, when another tensor replaces it,
or when it is moved or cast. Torch does not count writes to `tensor.data`, so those are not seen.
It does not count those of fused optimisers either; they are counted here, after each step.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from ecliptic.model.coded_weight import CodedWeight


def writes(tensor: Tensor) -> int:
    """Count of in-place writes to `tensor`; 0 for inference tensors, which torch does not count.

    Torch has no public name for this number. Autograd compares `_version` to detect that a saved
    tensor was overwritten ("is at version 1; expected version 0"), so its meaning is the same since
    torch 0.4. ecliptic never writes it, and only this line reads it.
    """
    return 0 if tensor.is_inference() else tensor._version


def _count_fused_writes(optimizer: Optimizer, _: object, __: object) -> None:
    """Count the writes of one step of a fused optimiser."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            increment_version([one for one in group["params"] if one.grad is not None])


register_optimizer_step_post_hook(_count_fused_writes)


@dataclass(frozen=True, eq=False)
class WeightState:
    """The tensors of a model at one time, and how often each had been written to."""

    tensors: tuple["weakref.ref[Tensor]", ...]
    places: tuple[tuple[int, int], ...]  # address of the values, writes
    storages: tuple[int | None, ...]  # PyTorch's owner of the values

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "WeightState":
        """The state now. Its references are weak, so it keeps no weight in memory."""
        found = tuple(tensors)
        places = tuple(map(_place, found))
        return cls(tuple(map(weakref.ref, found)), places, tuple(map(_storage, found)))

    @classmethod
    def changed(cls) -> "WeightState":
        """The state of no model, so it holds for none."""
        return cls((), (), ())

    def holds(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the same tensors at the same addresses, with no write since.

        Shared memory is another address of the same values: PyTorch moves tensors there when they
        are sent to another process.
        """
        found = tuple(tensors)
        with torch._C.DisableTorchFunctionSubclass():  # coded weights then answer as quickly
            return len(found) == len(self.tensors) and all(
                known() is tensor and (place == _place(tensor) or self._is_shared(number, tensor))
                for number, (known, tensor, place) in enumerate(
                    zip(self.tensors, found, self.places, strict=True)
                )
            )

    def _is_shared(self, number: int, tensor: Tensor) -> bool:
        """Whether a tensor at another address was only moved to shared memory."""
        storage, counted = self.storages[number], self.places[number][1]
        same = storage is not None and storage == _storage(tensor) and counted == writes(tensor)
        return same and bool(tensor.is_shared())  # type: ignore[no-untyped-call]


def _storage(tensor: Tensor) -> int | None:
    """The storage, which is the same when its memory moves; None for tensors without one."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return None
    return int(tensor.untyped_storage()._cdata)


def _place(tensor: Tensor) -> tuple[int, int]:
    place = tensor.place if isinstance(tensor, CodedWeight) else tensor.data_ptr()
    return place, writes(tensor)
