"""The tiny models of `tiny.py`, and the same weights in the reference implementations.

Peers read the files of `write`, so their sizes come from their own reading of the config.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import write
from ecliptic.model import Activation, TwoTowers
from tests import peers, tiny

# What is compared: "odd" has other head widths, MLP ratios and eps than the paper's models.
OPEN_CLIP = [
    ("vit", "gelu"),
    ("vit", "quick_gelu"),
    ("resnet", "gelu"),
    ("resnet", "quick_gelu"),
    ("odd", "gelu"),
    ("odd", "quick_gelu"),
]
TRANSFORMERS = [("vit", "gelu"), ("vit", "quick_gelu"), ("odd", "gelu"), ("cut", "quick_gelu")]
UNIT = 1e-5  # max abs difference of unit vectors
RELATIVE = 1e-4  # of hidden layers, logits and gradients, to their largest value


@cache
def ours(kind: str, activation: Activation) -> TwoTowers:
    return tiny.model(tiny.checkpoint(kind, activation))


@cache
def open_clip(kind: str, activation: Activation) -> Any:
    with TemporaryDirectory() as folder:
        write(tiny.checkpoint(kind, activation), Path(folder), "open_clip")
        return peers.open_clip().create_model(f"local-dir:{folder}").eval()


@cache
def transformers(kind: str, activation: Activation) -> Any:
    library = peers.transformers()
    with TemporaryDirectory() as folder:
        write(tiny.checkpoint(kind, activation), Path(folder), "transformers")
        model = library.CLIPModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval()


@contextmanager
def outputs(modules: Any) -> Iterator[list[Tensor]]:
    """Collect the outputs of `modules` during the block."""
    found: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    yield found
    for hook in hooks:
        hook.remove()


def check_unit(found: Tensor, wanted: Tensor) -> float:
    """Check that rows at unit length differ by at most 1e-5; return the difference."""
    assert found.shape == wanted.shape
    unit = torch.nn.functional.normalize
    difference = float((unit(found, dim=-1) - unit(wanted, dim=-1)).abs().max())
    assert difference <= UNIT
    return difference


def check_relative(found: Tensor, wanted: Tensor, name: str = "") -> float:
    """Check that both differ by at most 1e-4 of the largest value; return the difference."""
    assert found.shape == wanted.shape, name
    difference = relative(found, wanted)
    assert difference <= RELATIVE, name
    return difference


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """The gradient of every weight after a backward pass; a weight without one is an error."""
    found = {name: weight.grad for name, weight in model.named_parameters()}
    assert not (missing := [name for name, grad in found.items() if grad is None]), missing
    return {name: grad for name, grad in found.items() if grad is not None}


def check_gradients(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Check that each gradient differs by at most 1e-4 of its largest value; return the worst.

    Softmax ignores a value that all keys share, so the gradient of a key's bias is rounding error:
    it must only be that small compared with the gradient of the key's weight.
    """
    ours, theirs = split_qkv(found), split_qkv(wanted)
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, gradient in ours.items():
        if name.endswith(("qkv.bias k", "key.bias")):
            scale = float(theirs[name.replace("bias", "weight")].abs().max())
            for rounding in (gradient, theirs[name]):
                assert float(rounding.abs().max()) <= RELATIVE * scale, name
        else:
            worst = max(worst, check_relative(gradient, theirs[name], name))
    return worst


def split_qkv(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split queries, keys and values, as each has its own scale."""
    parts = {}
    for name, gradient in gradients.items():
        if ".qkv." in name:
            thirds = zip("qkv", gradient.chunk(3), strict=True)
            parts |= {f"{name} {part}": third for part, third in thirds}
        else:
            parts[name] = gradient
    return parts


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    largest = max(float(wanted.abs().max()), 1e-12)
    return float((found - wanted).abs().max()) / largest
