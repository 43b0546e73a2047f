"""Merges any number of LoRAs into a text tower, and removes them exactly.

A changed weight is always computed from the original: original + the sum of what each LoRA adds to
the original, in float32, in the order in which they were added, then cast. So a DoRA or IA3, whose
change depends on the weight, does not depend on its neighbours. The original parameters are
kept, not overwritten (they may be mapped from the checkpoint's file); removal puts the same
parameter objects back.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ecliptic.adapters.lora import Lora
from ecliptic.adapters.lora_changes import WeightChange
from ecliptic.adapters.lora_keys import LAST_NORM, PROJECTION
from ecliptic.adapters.lora_methods import BIAS
from ecliptic.adapters.lora_scales import Strength, resolve_strength, strength_at
from ecliptic.adapters.parts import PARTS
from ecliptic.checks import check_choice, check_finite
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import TextTower, writes

_LOCKS: "WeakKeyDictionary[TextTower, threading.RLock]" = WeakKeyDictionary()
_THIRDS = {"attention.q": 0, "attention.k": 1, "attention.v": 2}  # of `attention.qkv`


@dataclass(frozen=True)
class LoraReport:
    """What one LoRA changes in one tower."""

    name: str
    applied: tuple[str, ...]  # modules of the tower that it changes; ".bias" ends those of biases
    unused: Mapping[str, str]  # keys of text encoders that change nothing -> why
    elsewhere: int  # its modules that belong to other encoders
    other: int  # tensors of denoisers and T5


@dataclass(frozen=True, eq=False)
class _Entry:
    lora: Lora
    layers: Mapping[str, WeightChange]  # by module of the tower
    scale: float | tuple[float, ...]  # of all blocks, or of each


@dataclass(frozen=True)
class _Target:
    """The place of a weight or bias: a parameter or a third of it, (in, out) if `transposed`."""

    parameter: str
    third: int | None = None
    transposed: bool = False

    def view(self, weight: Tensor) -> Tensor:
        """(out, in) or (out,) of this module, a view into the parameter's `weight`."""
        if self.transposed:
            return weight.T
        return weight if self.third is None else weight.chunk(3)[self.third]


class LoraStack:
    """The LoRAs merged into one tower; use one stack per tower."""

    def __init__(self, tower: TextTower, part: str = "clip_l", *, first: bool | None = None):
        """Make an empty stack, which changes nothing.

        Args:
            tower: has the weights to change.
            part: its name as an encoder: "clip_l", "clip_h" or "clip_g".
            first: whether it is the pipeline's first or only text encoder, to which keys without
                an encoder's name belong (`lora_te_` of kohya, `text_encoder.` of PEFT and
                diffusers). None: True unless `part` is "clip_g".
        """
        check_choice("part", part, PARTS)
        self._tower, self._part = tower, part
        self._parts = {part, ""} if (part != "clip_g" if first is None else first) else {part}
        self._entries: dict[str, _Entry] = {}
        self._originals: dict[str, nn.Parameter] = {}
        self._merged: dict[str, tuple[nn.Parameter, int]] = {}  # our parameter, and its writes

    @property
    def lock(self) -> "threading.RLock":
        """The lock of the tower, one for all its stacks; who changes or reads weights holds it."""
        return _LOCKS.setdefault(self._tower, threading.RLock())

    @property
    def parts(self) -> frozenset[str]:
        """The encoders in files whose layers it takes: its own, and "" if it is the first."""
        return frozenset(self._parts)

    @property
    def scales(self) -> dict[str, float | tuple[float, ...]]:
        """Name -> scale of all blocks, or one for each, in the order of addition."""
        return {name: entry.scale for name, entry in self._entries.items()}

    @property
    def identity(self) -> tuple[tuple[str, float | tuple[float, ...]], ...]:
        """(SHA-256 of the file, scale) of each, for keys of caches."""
        return tuple((entry.lora.sha256, entry.scale) for entry in self._entries.values())

    def add(self, name: str, lora: Lora, scale: Strength = 1.0) -> LoraReport:
        """Merge `lora` in addition to the others; `name` identifies it later.

        Args:
            name: for `rescale` and `remove`.
            lora: what `read_lora` returned.
            scale: a number; or one for each block, of which the last is also for what follows the
                blocks; or either by encoder, {"clip_l": 0.8, "clip_g": [...]}.

        Raises:
            ConfigError: the name is taken, or the scale is not finite or of another length.
            ShapeError: a change does not fit its layer; nothing is changed.
            NumericalError: the sum is not finite; nothing is changed.
        """
        if name in self._entries:
            raise ConfigError(f"a LoRA {name!r} is merged already; remove or rescale it.")
        strength, report = self._resolve(scale), self.preview(name, lora)
        layers, _ = self._match_layers(lora)
        self._apply({**self._entries, name: _Entry(lora, layers, strength)}, name)
        return report

    def preview(self, name: str, lora: Lora) -> LoraReport:
        """What `add` would report; it changes nothing.

        Raises:
            ShapeError: a change does not fit its layer.
        """
        layers, unused = self._match_layers(lora)
        elsewhere = sum(part not in self._parts for part, _ in lora.layers)
        return LoraReport(
            name, tuple(layers), {**lora.unused, **unused}, elsewhere, len(lora.other)
        )

    def rescale(self, name: str, scale: Strength) -> None:
        """Change the scale of the LoRA `name`; weights are computed from the originals."""
        entry, strength = self._entry(name), self._resolve(scale)
        changed = _Entry(entry.lora, entry.layers, strength)
        self._apply({**self._entries, name: changed}, name)

    def remove(self, name: str) -> None:
        """Remove one LoRA; without any LoRA the tower is bit for bit as before."""
        self._entry(name)
        left = {other: entry for other, entry in self._entries.items() if other != name}
        self._apply(left, name)

    def clear(self) -> None:
        """Remove all LoRAs."""
        self._apply({}, *self._entries)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            names = ", ".join(map(repr, self._entries)) or "none"
            raise ConfigError(f"no LoRA {name!r} is merged; the merged ones are: {names}.")
        return self._entries[name]

    def _resolve(self, scale: Strength) -> float | tuple[float, ...]:
        return resolve_strength(scale, self._part, self._tower.config.depth)

    def _match_layers(self, lora: Lora) -> tuple[dict[str, WeightChange], dict[str, str]]:
        """Find the layers for this tower by module, and keys without a module, with the reason."""
        layers: dict[str, WeightChange] = {}
        unused: dict[str, str] = {}
        for (part, module), layer in lora.layers.items():
            if part not in self._parts:
                continue
            if reason := self._explain_missing(module):
                unused[layer.key] = reason
                continue
            if module in layers:
                raise ShapeError(
                    f"{lora.source}: {layers[module].key} and {layer.key} both change {module}."
                )
            self._check_shape(module, layer, lora)
            layers[module] = layer
        return layers, unused

    def _explain_missing(self, module: str) -> str | None:
        """Say why the tower has no such module, or return None."""
        if module.startswith(PROJECTION):
            if self._tower.projection is None:
                return "the encoder has no projection"
            return "the projection has no bias" if module.endswith(BIAS) else None
        if module.startswith(LAST_NORM):
            return None
        depth = self._tower.config.depth
        block = int(module.split(".")[1])
        return None if block < depth else f"the encoder has {depth} blocks, none numbered {block}"

    def _check_shape(self, module: str, layer: WeightChange, lora: Lora) -> None:
        target = _target(module)
        shape = tuple(target.view(self._parameter(target.parameter)).shape)
        wanted = layer.shape
        fits = len(wanted) == len(shape) and all(
            size in (None, real) for size, real in zip(wanted, shape, strict=True)
        )
        if not fits:
            described = str(wanted).replace("None", "any")
            raise ShapeError(
                f"{lora.source}: {layer.key} changes a layer of shape {described}, but {module} "
                f"of this encoder is {shape}; the LoRA was trained for another model."
            )

    def _apply(self, entries: dict[str, _Entry], *names: str) -> None:
        """Compute or restore every weight that the LoRAs `names` change, all or none of them."""
        changed = [
            stack[name] for stack in (self._entries, entries) for name in names if name in stack
        ]
        modules = [module for entry in changed for module in entry.layers]
        parameters = dict.fromkeys(_target(module).parameter for module in modules)
        self._check_unchanged(parameters)
        with torch.inference_mode(False), torch.no_grad():
            sums = {parameter: self._sum(parameter, entries) for parameter in parameters}
            for parameter, weight in sums.items():
                if weight is None:
                    self._restore(parameter)
                else:
                    self._write(parameter, weight)
        self._entries = entries

    def _check_unchanged(self, parameters: Iterable[str]) -> None:
        """Refuse to overwrite a merged weight that was changed outside this stack."""
        for name in parameters:
            ours, count = self._merged.get(name, (None, 0))
            now = self._parameter(name)
            if ours is not None and (now is not ours or writes(now) != count):
                raise ConfigError(
                    f"{name} was trained, replaced or merged by another stack since LoRAs were "
                    "merged here, and computing it again would lose that change; undo the change "
                    "first, or load the model again."
                )

    def _sum(self, parameter: str, entries: Mapping[str, _Entry]) -> Tensor | None:
        """Compute the parameter with all `entries`, or return None if none changes it."""
        now = self._parameter(parameter)
        original = self._originals.get(parameter, now).detach().to(now.device, torch.float32)
        total: Tensor | None = None
        for entry in entries.values():
            for module, layer in entry.layers.items():
                target = _target(module)
                if target.parameter != parameter:
                    continue
                total = original.clone() if total is None else total
                strength = strength_at(entry.scale, module)
                target.view(total).add_(layer.delta(target.view(original), strength))
        if total is None:
            return None
        weight = total.to(now.dtype)
        what = f"with the LoRAs {', '.join(entries)}, {parameter} in {now.dtype}"
        check_finite(weight, what, "use smaller scales or a wider precision.")
        return weight

    def _write(self, parameter: str, weight: Tensor) -> None:
        now = self._parameter(parameter)
        if parameter not in self._originals:
            self._originals[parameter] = now  # not overwritten: it may be mapped from a file
            now = nn.Parameter(torch.empty_like(now), requires_grad=now.requires_grad)
            self._replace(parameter, now)
        now.copy_(weight)
        self._merged[parameter] = now, writes(now)

    def _restore(self, parameter: str) -> None:
        now, original = self._parameter(parameter), self._originals.pop(parameter, None)
        if original is None:
            return
        del self._merged[parameter]
        if (original.device, original.dtype) != (now.device, now.dtype):  # the tower was moved
            original.data = original.data.to(now.device, now.dtype)
        self._replace(parameter, original)

    def _parameter(self, name: str) -> nn.Parameter:
        return self._tower.get_parameter(name)

    def _replace(self, name: str, parameter: nn.Parameter) -> None:
        owner, _, attribute = name.rpartition(".")
        setattr(self._tower.get_submodule(owner), attribute, parameter)


def _target(module: str) -> _Target:
    name, attribute = module.removesuffix(BIAS), "bias" if module.endswith(BIAS) else "weight"
    if name == PROJECTION:
        return _Target(PROJECTION, transposed=True)
    if name == LAST_NORM:
        return _Target(f"{LAST_NORM}.{attribute}")
    _, block, inner = name.split(".", 2)
    if inner in _THIRDS:
        return _Target(f"blocks.{block}.attention.qkv.{attribute}", _THIRDS[inner])
    return _Target(f"blocks.{block}.{inner}.{attribute}")
