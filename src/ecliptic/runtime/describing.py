"""What a runtime chose, and why, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ecliptic.model import Float8Layers, ModifiedResNet, TwoTowers
from ecliptic.runtime.kernels.choosing import KERNELS, KernelChoice, KernelMode
from ecliptic.runtime.kernels.operators import can_multiply_bytes, has_float8
from ecliptic.runtime.precisions import NUMERICS
from ecliptic.runtime.reducing import Reduced

_COMPILED = "compiled by torch.compile"


@dataclass(frozen=True)
class Choice:
    """One decision of the runtime."""

    what: str  # "precision", "text", "image", "activation"
    chosen: str
    why: str


def describe_model(model: TwoTowers, precision: str, device: torch.device) -> Iterator[Choice]:
    """Precision, savings in each tower, activation."""
    numerics = NUMERICS.get(precision)
    yield Choice(
        "precision",
        f"{numerics.describe() if numerics else precision} on {device}",
        numerics.why if numerics else "the weights were cast to it after loading",
    )
    if model.text is not None:
        yield Choice(
            "text",
            "packed, up to each end of text; the last block only for that token",
            "attention is causal, so tokens after the end of text do not change a vector",
        )
    if isinstance(model.image, ModifiedResNet):
        yield Choice(
            "image", "channels last", "convolutions then read values that are neighbours in memory"
        )
    elif model.image is not None:
        yield Choice(
            "image",
            "the last block only for the class token",
            "the vector needs no other token of that block",
        )
    activations = {
        tower.activation
        for tower in (model.config.image, model.config.text)
        if tower is not None and hasattr(tower, "activation")
    }
    if "quick_gelu" in activations:
        yield Choice(
            "activation",
            "QuickGELU as SiLU, with its factor in the matmuls around it",
            "x sigmoid(1.702 x) is silu(1.702 x) / 1.702: one pass over memory, not three",
        )


def describe_reduced(model: TwoTowers, reduced: Reduced) -> Choice:
    """The precision of a model with int8 or fp8 layers."""
    report, before = reduced.report, reduced.before
    kept = f"{len(report.kept)} of {len(report.layers)} linear layers in {before}"
    resnet = f"; the image tower is a ResNet and stays {before}"
    chosen = f"{reduced.kind}, {kept}{resnet if isinstance(model.image, ModifiedResNet) else ''}"
    cosines = ", ".join(f"{t.tower} {t.worst:.6f} (mean {t.mean:.6f})" for t in report.towers)
    return Choice(
        "precision", chosen, f"smallest cosine with {before} where it was compared: {cosines}"
    )


def describe_products(
    tower: str, mode: KernelMode, reduced: Reduced, device: torch.device
) -> Choice:
    """The kernels of a tower with int8 or fp8 layers."""
    what = f"{tower} kernels"
    if not any(name.startswith(f"{tower}.") for name in reduced.linears):
        form = _COMPILED if mode == "compiled" else "plain"
        if mode == "auto" and reduced.kind == "int8":
            form = "packed where it can be"
        return Choice(what, form, f"all its layers are kept in {reduced.before}")
    if isinstance(reduced, Float8Layers):
        return _describe_float8(what, mode, device)
    if mode == "plain":
        why = 'int8 computed as float32, as kernels="plain" asks: not quicker than fp32'
        return Choice(what, "plain", why)
    if can_multiply_bytes():
        return Choice(what, "bytes", "products of bytes and int8, exact on this CPU, by oneDNN")
    why = "this PyTorch or CPU has no exact products of bytes: int8 is not quicker than fp32 here"
    return Choice(what, "plain", why)


def _describe_float8(what: str, mode: KernelMode, device: torch.device) -> Choice:
    if mode == "plain" or not has_float8(device):
        why = 'fp8 numbers multiplied as float32, as kernels="plain" asks: slower than bf16'
        return Choice(what, "plain", why)
    if mode == "compiled":
        return Choice(what, f"{_COMPILED}, with fp8 products", "the quickest on GPUs")
    why = 'rounding the inputs takes passes of its own; kernels="compiled" joins them'
    return Choice(what, "fp8 products", why)


def describe_kernels(
    what: str, mode: KernelMode, found: Sequence[KernelChoice], *, missing: bool
) -> Choice:
    """The kernels of a tower, with what was measured; `missing` if some ranges were not."""
    if mode == "plain":
        return Choice(what, "plain", 'PyTorch\'s own operators, as kernels="plain" asks')
    if mode == "compiled":
        return Choice(what, _COMPILED, 'kernels="compiled" asks for it')
    used = {name for choice in found for name in choice.seconds}
    if found and not used:
        return Choice(what, "plain", "no other kernel fits this device, precision and model")
    why = "; ".join(f"{name}: {KERNELS[name].why}" for name in KERNELS if name in used)
    chosen = "; ".join(choice.describe() for choice in found)
    if missing:
        chosen += "; measured when it is used" if chosen else "measured when it is used"
    return Choice(what, chosen, why or "the quickest on this machine, for the sizes in use")
