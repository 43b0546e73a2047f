"""Whether weights changed, by what torch itself notes of them.

A weight changes when it is written to in place, as optimisers do, when another tensor takes its
place, or when it is moved or cast. Writes to `tensor.data` are the one way that torch does not
count, so these are not seen.
"""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


def writes(tensor: Tensor) -> int:
    """How often torch saw `tensor` written to in place; 0 for inference tensors, not counted.

    Torch has no public name for this number: `_version` is what autograd compares to find that a
    tensor it saved was overwritten ("is at version 1; expected version 0"), so it has been there
    and has meant this since torch 0.4. Nothing in ecliptic writes it, and only this line reads it.
    """
    return 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True, eq=False)
class WeightState:
    """Which tensors a model had at one time, and how often each had been written to."""

    tensors: tuple["weakref.ref[Tensor]", ...]
    places: tuple[tuple[int, int], ...]  # address of the values, writes

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "WeightState":
        """The state now. It keeps no tensor alive, so no weight is held in memory by it."""
        found = tuple(tensors)
        return cls(tuple(map(weakref.ref, found)), tuple(map(_place, found)))

    def holds(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the same tensors, in the same place, and nothing was written since."""
        found = tuple(tensors)
        return len(found) == len(self.tensors) and all(
            known() is tensor and place == _place(tensor)
            for known, tensor, place in zip(self.tensors, found, self.places, strict=True)
        )


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), writes(tensor)
