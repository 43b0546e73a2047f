"""Makes the changes of one module from its tensors in a file, whatever the method.

The tensors are checked here: partners, ranks, shapes, numbers. `lora_changes.py` has the formulas.
Sources: the slots of LyCORIS 3 (modules/*.py `custom_state_dict`), ComfyUI (comfy/weight_adapter)
and PEFT 0.21 (tuners/{lora,loha,lokr,ia3}/layer.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ecliptic.adapters.files import DIVERGED
from ecliptic.adapters.lora_alphas import Scaling
from ecliptic.adapters.lora_changes import (
    Decomposed,
    Difference,
    Factors,
    General,
    Hadamard,
    Kronecker,
    LowRank,
    Rescaling,
    WeightChange,
)
from ecliptic.adapters.lora_keys import method_of
from ecliptic.checks import check_finite
from ecliptic.errors import CorruptFileError, WeightsMismatchError

BIAS = ".bias"  # ends the name of a module whose bias is meant
_NUMBERS = ("alpha", "on_input")
_ANY_SHAPE = ("bias", "diff", "diff_b", "dora_scale", "ia3_l", "magnitude", "weight")
_CORES = ("hada_t1", "hada_t2", "lokr_t2")
_EXCLUSIVE = (("dora_scale", "magnitude"), ("bias", "diff_b"), ("ia3_l", "on_input"))


@dataclass(frozen=True, eq=False)
class ModuleTensors:
    """The tensors of one module by slot."""

    keys: Mapping[str, str]  # slot -> key in the file
    tensors: Mapping[str, Tensor]  # of the whole file
    where: str  # the file
    scaling: Scaling  # of PEFT's settings, for files without alphas
    biased: bool = True  # whether the layer has a bias

    def __contains__(self, slot: str) -> bool:
        return slot in self.keys

    def get(self, slot: str, partner: str = "") -> Tensor:
        """The tensor of `slot`; an error that names `partner` if it is missing."""
        if slot not in self.keys:
            raise WeightsMismatchError(
                f"{self.where}: {self.keys[partner]} has no partner {slot!r}, and one half of a "
                "pair changes nothing; the file is incomplete, fetch or save it again."
            )
        return self.tensors[self.keys[slot]]

    def factor(self, rank: int | None) -> float:
        """Alpha / rank; `rank` is None if both parts of a LoKr are whole."""
        if "alpha" in self:
            return float(self.get("alpha")) / rank if rank else 1.0
        return self.scaling.factor(rank)


def find_problem(slots: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str | None:
    """Say why the tensors of one module (slot -> key) cannot be used, or return None."""
    if method := next((name for slot in slots if (name := method_of(slot))), None):
        return f"{method}, which cannot be merged; its module is not changed"
    if any(tensors[key].ndim == 4 for slot, key in slots.items() if slot not in _CORES):
        return "weights of a convolution, but CLIP's text layers are linear"
    if any(tensors[slots[slot]].shape[2:].numel() != 1 for slot in _CORES if slot in slots):
        return "a Tucker-decomposed convolution, but CLIP's text layers are linear"
    found = [name for name, (first, _) in _METHODS.items() if not slots.keys().isdisjoint(first)]
    if len(found) > 1:
        return f"{' and '.join(found)} for one weight, but a module has one method"
    for one, other in _EXCLUSIVE:
        if one in slots and other in slots:
            return f"{one} and {other} for one layer, which has one of them"
    if "weight" in slots and "on_input" not in slots:
        return "a whole weight instead of a change"
    if not found and slots.keys().isdisjoint(("diff_b", "bias")):
        alone = slots.keys() == {"alpha"}
        return (
            "an alpha without its matrices" if alone else "the weight that it belongs to is missing"
        )
    lengths = slots.keys() & {"dora_scale", "magnitude"}
    if lengths and (found in (["IA3"], ["a difference"], []) or "bias" in slots):
        return "DoRA, which is for changes of low rank without a bias"
    return None


def read_changes(module: ModuleTensors) -> dict[str, WeightChange]:
    """Make the changes of a module's weight, under "", and of its bias, under `BIAS`.

    Raises:
        WeightsMismatchError: a part is missing or has another shape than its partners.
        CorruptFileError: numbers that are not finite.
    """
    for slot, key in module.keys.items():
        _check_tensor(slot, key, module.tensors[key], module.where)
    changes: dict[str, WeightChange] = {}
    for slots, make in _METHODS.values():
        if not module.keys.keys().isdisjoint(slots):
            changes[""] = _decompose(make(module), module)
    if bias := _read_bias(module):
        changes[BIAS] = bias
    return changes


def _read_bias(module: ModuleTensors) -> WeightChange | None:
    if "diff_b" in module:
        return Difference(module.get("diff_b").flatten(), module.keys["diff_b"])
    if "bias" in module:
        factor = module.factor(module.get("down", "bias").shape[0])
        return Difference(module.get("bias").flatten(), module.keys["bias"], factor)
    if "ia3_l" in module and module.biased and _axis_of_ia3(module) == 0:
        added = module.get("ia3_l").float().flatten() - 1
        return Rescaling(added, 0, 1, module.keys["ia3_l"])
    return None


def _decompose(change: WeightChange, module: ModuleTensors) -> WeightChange:
    """Wrap a change that has magnitudes, as DoRA does."""
    if "magnitude" in module:
        return Decomposed(change, module.get("magnitude"), by_row=True, blends=False)
    if "dora_scale" not in module:
        return change
    lengths, (out, into) = module.get("dora_scale"), change.shape
    by_row = lengths.ndim == 1 or lengths.shape[0] == out  # (out, 1); LyCORIS before 3: (1, in)
    if lengths.numel() != (out if by_row else into):
        raise WeightsMismatchError(
            f"{module.where}: {module.keys['dora_scale']} is {tuple(lengths.shape)}, but must be "
            f"({out}, 1) or (1, {into}) for its layer."
        )
    return Decomposed(change, lengths, by_row=by_row, blends=True)


def _read_low_rank(module: ModuleTensors) -> WeightChange:
    up, down = module.get("up", "down"), module.get("down", "up")
    if up.shape[1] != down.shape[0]:
        raise WeightsMismatchError(
            f"{module.where}: {module.keys['up']} {tuple(up.shape)} and {module.keys['down']} "
            f"{tuple(down.shape)} have the ranks {up.shape[1]} and {down.shape[0]}; up is "
            "(out, rank), down (rank, in)."
        )
    rank = down.shape[0]
    alpha = float(module.get("alpha")) if "alpha" in module else module.scaling.alpha(rank)
    return LowRank(up, down, alpha, module.keys["down"])


def _read_hadamard(module: ModuleTensors) -> WeightChange:
    any_key = next(slot for slot in module.keys if slot.startswith("hada_"))
    first, second = (_read_factors(module, f"hada_w{n}", f"hada_t{n}", any_key) for n in "12")
    _check_same(first, second, module)
    factor = module.factor(first.right.shape[0])
    return Hadamard(first, second, factor, module.keys["hada_w1_a"])


def _read_kronecker(module: ModuleTensors) -> WeightChange:
    any_key = next(slot for slot in module.keys if slot.startswith("lokr_"))
    parts: list[Tensor | Factors] = []
    rank: int | None = None
    for name, core in (("lokr_w1", ""), ("lokr_w2", "lokr_t2")):
        if name in module:
            parts.append(module.get(name))
            continue
        factors = _read_factors(module, name, core, any_key)
        rank = factors.right.shape[0]  # of the second, if both have one
        parts.append(factors)
    return Kronecker(parts[0], parts[1], module.factor(rank), module.keys[any_key])


def _read_general(module: ModuleTensors) -> WeightChange:
    a1, a2, b1, b2 = (
        module.get(slot, next(iter(module.keys))) for slot in ("a1", "a2", "b1", "b2")
    )
    # LyCORIS 1 exchanged the names of the two halves; a2 is then tall, (in, rank)
    exchanged = b2.shape[1] == b1.shape[0] and a2.shape[0] > a2.shape[1]
    inner = Factors(a2, a1) if exchanged else Factors(a1, a2)
    outer = Factors(b2, b1) if exchanged else Factors(b1, b2)
    for one, key in ((inner, "a1"), (outer, "b1")):
        _check_rank(one, module.keys[key], module.where)
    return General(inner, outer, module.factor(outer.right.shape[0]), module.keys["b1"])


def _read_rescaling(module: ModuleTensors) -> WeightChange:
    if "ia3_l" in module:
        added = module.get("ia3_l").float().flatten() - 1
        return Rescaling(added, _axis_of_ia3(module), 2, module.keys["ia3_l"])
    added = module.get("weight", "on_input").flatten()
    axis = 1 if bool(module.get("on_input", "weight").item()) else 0
    return Rescaling(added, axis, 2, module.keys["weight"])


def _axis_of_ia3(module: ModuleTensors) -> int:
    """PEFT writes (out, 1), or (1, in) for feed-forward layers."""
    shape = module.get("ia3_l").shape
    return 1 if len(shape) == 2 and shape[0] == 1 else 0


def _read_difference(module: ModuleTensors) -> WeightChange:
    return Difference(module.get("diff"), module.keys["diff"])


# method -> the slots of its weight, and what reads them
_METHODS: Mapping[str, tuple[tuple[str, ...], Callable[[ModuleTensors], WeightChange]]] = {
    "LoRA": (("down", "up"), _read_low_rank),
    "LoHa": (
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        _read_hadamard,
    ),
    "LoKr": (
        ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
        _read_kronecker,
    ),
    "GLoRA": (("a1", "a2", "b1", "b2"), _read_general),
    "IA3": (("ia3_l", "on_input"), _read_rescaling),
    "a difference": (("diff",), _read_difference),
}


def _read_factors(module: ModuleTensors, name: str, core: str, partner: str) -> Factors:
    left, right = module.get(f"{name}_a", partner), module.get(f"{name}_b", partner)
    factors = Factors(left, right, module.get(core) if core in module else None)
    _check_rank(factors, module.keys[f"{name}_a"], module.where)
    return factors


def _check_rank(factors: Factors, key: str, where: str) -> None:
    left, right, core = factors.left, factors.right, factors.core
    inner = left.shape[1 if core is None else 0], right.shape[0]
    wanted = (inner[0], inner[0]) if core is None else tuple(core.shape[:2])
    if inner != wanted:
        raise WeightsMismatchError(
            f"{where}: {key} {tuple(left.shape)} and its partner {tuple(right.shape)} have "
            f"different ranks{'' if core is None else f' than their core {wanted}'}, so they "
            "cannot be multiplied; the file is damaged."
        )


def _check_same(first: Factors, second: Factors, module: ModuleTensors) -> None:
    if first.shape != second.shape:
        raise WeightsMismatchError(
            f"{module.where}: the two halves of {module.keys['hada_w1_a']} are {first.shape} and "
            f"{second.shape}, but are multiplied element by element; the file is damaged."
        )


def _check_tensor(slot: str, key: str, tensor: Tensor, where: str) -> None:
    number = slot in _NUMBERS
    fits = tensor.numel() == 1 if number else tensor.numel() > 0
    if not number and slot not in _ANY_SHAPE and slot not in _CORES:
        fits = fits and tensor.ndim == 2
    if not fits:
        wanted = "one number" if number else "a matrix" if tensor.numel() else "filled"
        raise WeightsMismatchError(f"{where}: {key} is {tuple(tensor.shape)}, not {wanted}.")
    if not number and not tensor.is_floating_point():
        raise WeightsMismatchError(f"{where}: {key} is {tensor.dtype}, not floating-point.")
    check_finite(tensor, f"{where}: {key}", DIVERGED, CorruptFileError)
