"""LoRAs merged into a text tower, any number of them, and taken out again without a trace.

Each weight that is touched is computed anew from the original: original + sum of scale (alpha /
rank) up @ down, in float32 and in the order in which they were added, then cast. The originals
are kept, not overwritten (they may be mapped from the checkpoint's file), and come back as the
very parameters they were.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecliptic.adapters.lora import Lora, LowRank
from ecliptic.adapters.lora_keys import PROJECTION
from ecliptic.adapters.parts import PARTS
from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import TextTower, writes

_THIRDS = {"attention.q": 0, "attention.k": 1, "attention.v": 2}  # of `attention.qkv`


@dataclass(frozen=True)
class LoraReport:
    """What became of one LoRA in one tower."""

    name: str
    applied: tuple[str, ...]  # modules of the tower that it changes
    unused: Mapping[str, str]  # keys of text encoders that change nothing -> why
    elsewhere: int  # modules of it that are another encoder's
    other: int  # tensors of denoisers and T5


@dataclass(frozen=True, eq=False)
class _Entry:
    lora: Lora
    layers: Mapping[str, LowRank]  # by module of the tower
    scale: float


@dataclass(frozen=True)
class _Target:
    """Where a module's weight lies: a parameter and its rows, (in, out) if `turned`."""

    parameter: str
    third: int | None = None
    turned: bool = False

    def view(self, weight: Tensor) -> Tensor:
        """(out, in) of this module, a view into the parameter's `weight`."""
        if self.turned:
            return weight.T
        return weight if self.third is None else weight.chunk(3)[self.third]


class LoraStack:
    """The LoRAs merged into one tower; there is one stack for a tower."""

    def __init__(self, tower: TextTower, part: str = "clip_l", *, first: bool | None = None):
        """An empty stack; nothing is changed.

        Args:
            tower: whose weights are changed.
            part: which encoder it is: "clip_l", "clip_h" or "clip_g".
            first: whether it is the pipeline's first or only text encoder, which files of kohya
                (`lora_te_`), PEFT and diffusers (`text_encoder.`) do not name further. None: all
                but "clip_g" are.
        """
        if part not in PARTS:
            raise ConfigError(f"part must be one of {', '.join(PARTS)}, got {part!r}.")
        self._tower = tower
        self._parts = {part, ""} if (part != "clip_g" if first is None else first) else {part}
        self._entries: dict[str, _Entry] = {}
        self._originals: dict[str, nn.Parameter] = {}
        self._merged: dict[str, tuple[nn.Parameter, int]] = {}  # ours, and its writes

    @property
    def scales(self) -> dict[str, float]:
        """Name -> scale, in the order of addition."""
        return {name: entry.scale for name, entry in self._entries.items()}

    @property
    def identity(self) -> tuple[tuple[str, float], ...]:
        """(SHA-256 of the file, scale) of each, for keys of caches."""
        return tuple((entry.lora.sha256, entry.scale) for entry in self._entries.values())

    def add(self, name: str, lora: Lora, scale: float = 1.0) -> LoraReport:
        """Merge `lora` on top of those already there; `name` is how it is spoken of later.

        Raises:
            ConfigError: the name is taken, or the scale is not finite.
            ShapeError: a pair does not fit its layer; nothing is changed.
            NumericalError: the sum is not finite; nothing is changed.
        """
        if name in self._entries:
            raise ConfigError(f"a LoRA {name!r} is merged already; remove or rescale it.")
        _check_scale(scale)
        layers, unused = self._fitting(lora)
        elsewhere = sum(part not in self._parts for part, _ in lora.layers)
        self._become({**self._entries, name: _Entry(lora, layers, scale)}, name)
        return LoraReport(
            name, tuple(layers), {**lora.unused, **unused}, elsewhere, len(lora.other)
        )

    def rescale(self, name: str, scale: float) -> None:
        """Give the LoRA called `name` another scale, exactly, from the originals."""
        _check_scale(scale)
        entry = self._entry(name)
        changed = _Entry(entry.lora, entry.layers, scale)
        self._become({**self._entries, name: changed}, name)

    def remove(self, name: str) -> None:
        """Take out one LoRA; the last one leaves the tower bit for bit as it was."""
        self._entry(name)
        left = {other: entry for other, entry in self._entries.items() if other != name}
        self._become(left, name)

    def clear(self) -> None:
        """Take out all LoRAs."""
        self._become({}, *self._entries)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            names = ", ".join(map(repr, self._entries)) or "none"
            raise ConfigError(f"no LoRA {name!r} is merged; there are: {names}.")
        return self._entries[name]

    def _fitting(self, lora: Lora) -> tuple[dict[str, LowRank], dict[str, str]]:
        """The layers for this tower by module, and the keys of those that it has no module for."""
        layers: dict[str, LowRank] = {}
        unused: dict[str, str] = {}
        for (part, module), layer in lora.layers.items():
            if part not in self._parts:
                continue
            if reason := self._missing(module):
                unused[layer.key] = reason
                continue
            if module in layers:
                raise ShapeError(
                    f"{lora.source}: {layers[module].key} and {layer.key} both change {module}."
                )
            self._check_shape(module, layer, lora)
            layers[module] = layer
        return layers, unused

    def _missing(self, module: str) -> str | None:
        """Why the tower has no such module, if so."""
        if module == PROJECTION:
            return "the encoder has no projection" if self._tower.projection is None else None
        depth = self._tower.config.depth
        block = int(module.split(".")[1])
        return None if block < depth else f"the encoder has {depth} blocks, none numbered {block}"

    def _check_shape(self, module: str, layer: LowRank, lora: Lora) -> None:
        target = _target(module)
        shape = tuple(target.view(self._parameter(target.parameter)).shape)
        if layer.shape != shape:
            raise ShapeError(
                f"{lora.source}: {layer.key} changes a layer of shape {layer.shape}, but {module} "
                f"of this encoder is {shape}; the LoRA was trained for another model."
            )

    def _become(self, entries: dict[str, _Entry], *names: str) -> None:
        """Compute or restore every weight that `names` touch, all or none of them."""
        changed = [
            stack[name] for stack in (self._entries, entries) for name in names if name in stack
        ]
        modules = [module for entry in changed for module in entry.layers]
        parameters = dict.fromkeys(_target(module).parameter for module in modules)
        self._check_untouched(parameters)
        with torch.inference_mode(False), torch.no_grad():
            sums = {parameter: self._sum(parameter, entries) for parameter in parameters}
            for parameter, weight in sums.items():
                if weight is None:
                    self._restore(parameter)
                else:
                    self._write(parameter, weight)
        self._entries = entries

    def _check_untouched(self, parameters: Iterable[str]) -> None:
        """Refuse to overwrite what somebody else did to a merged weight."""
        for name in parameters:
            ours, count = self._merged.get(name, (None, 0))
            now = self._parameter(name)
            if ours is not None and (now is not ours or writes(now) != count):
                raise ConfigError(
                    f"{name} was trained, replaced or merged by another stack since LoRAs were "
                    "merged here, and computing it anew would lose that; undo the other change "
                    "first, or load the model again."
                )

    def _sum(self, parameter: str, entries: Mapping[str, _Entry]) -> Tensor | None:
        """The parameter with all `entries`, or None when none touches it."""
        now = self._parameter(parameter)
        original = self._originals.get(parameter, now)
        total: Tensor | None = None
        for entry in entries.values():
            for module, layer in entry.layers.items():
                target = _target(module)
                if target.parameter != parameter:
                    continue
                if total is None:
                    total = original.detach().to(now.device, torch.float32, copy=True)
                target.view(total).add_(layer.delta(total, entry.scale))
        if total is None:
            return None
        weight = total.to(now.dtype)
        what = f"with the LoRAs {', '.join(entries)}, {parameter} in {now.dtype}"
        check_finite(weight, what, "use smaller scales or a wider precision.")
        return weight

    def _write(self, parameter: str, weight: Tensor) -> None:
        now = self._parameter(parameter)
        if parameter not in self._originals:
            self._originals[parameter] = now  # untouched: it may be mapped from a file
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
    if module == PROJECTION:
        return _Target(PROJECTION, turned=True)
    _, block, inner = module.split(".", 2)
    if inner in _THIRDS:
        return _Target(f"blocks.{block}.attention.qkv.weight", _THIRDS[inner])
    return _Target(f"blocks.{block}.{inner}.weight")


def _check_scale(scale: float) -> None:
    check_finite(scale, "the scale of a LoRA", "1.0 is the whole of it.", ConfigError)
