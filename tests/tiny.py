"""Tiny random checkpoints of every architecture, with fixed seeds, for tests that load one.

All tensors are random, norms and biases too, so that a swapped, transposed or missing tensor
changes the output. `write` of `ecliptic.checkpoints` turns them into files of every layout.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint
from ecliptic.checkpoints.identity.conform import native_shapes
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import (
    Activation,
    ClipConfig,
    ResNetConfig,
    TextConfig,
    TwoTowers,
    ViTConfig,
    build as build_model,
)

VIT = ViTConfig(image_size=32, patch_size=8, width=128, depth=2, heads=2, mlp=512)
RESNET = ResNetConfig(image_size=64, width=16, depths=(1, 2, 1, 1), heads=8)
BASIC = replace(RESNET, heads=4, block="basic")
TEXT = TextConfig(context=16, width=64, depth=3, heads=1, mlp=256)
CUT = TokenizerSpec(merges=20, context=12)

CONFIGS = {
    # Sizes as in OpenAI's `build_model`: width // 64 heads, an MLP of four widths.
    "vit": ClipConfig(embed=32, image=VIT, text=TEXT),
    "resnet": ClipConfig(embed=32, image=RESNET, text=TEXT),
    "basic": ClipConfig(embed=32, image=BASIC, text=TEXT),
    # As in H/14, g/14 and bigG/14: other heads, an MLP width that is not a multiple; another eps.
    "odd": ClipConfig(
        embed=20,
        image=replace(VIT, width=48, heads=4, mlp=147, eps=1e-6),
        text=replace(TEXT, width=24, heads=3, mlp=100, eps=1e-6),
    ),
    "cut": ClipConfig(
        embed=32,
        image=VIT,
        text=replace(
            TEXT, context=12, vocabulary=CUT.vocabulary, end_of_text=CUT.end_of_text, heads=4
        ),
    ),
    "text": ClipConfig(embed=32, image=None, text=TEXT),
    "unprojected": ClipConfig(embed=64, image=None, text=replace(TEXT, projection=False)),
    "image": ClipConfig(embed=32, image=VIT, text=None),
    "resnet_image": ClipConfig(embed=32, image=RESNET, text=None),
}


@cache
@torch.inference_mode(False)  # shared tensors are ordinary ones, whoever asks first
def checkpoint(
    kind: str = "vit",
    activation: Activation = "quick_gelu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Checkpoint:
    """A checkpoint of `CONFIGS[kind]`; do not change its tensors, they are shared."""
    config = CONFIGS[kind]
    if isinstance(config.image, ViTConfig):
        config = replace(config, image=replace(config.image, activation=activation))
    if config.text:
        config = replace(config, text=replace(config.text, activation=activation))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: _random(name, tuple(shape), generator, dtype)
        for name, shape in native_shapes(config).items()
    }
    spec = None
    if config.text:
        spec = CUT if kind == "cut" else TokenizerSpec(context=config.text.context)
    return Checkpoint(
        config=config,
        weights=weights,
        image_spec=ImageSpec(size=config.image.image_size) if config.image else None,
        tokenizer_spec=spec,
        name=f"tiny-{kind}",
    )


def model(checkpoint: Checkpoint) -> TwoTowers:
    """The towers with the checkpoint's weights, in eval mode."""
    towers = build_model(checkpoint.config)
    weights = dict(checkpoint.weights)
    if "logit_scale" in towers.state_dict():
        weights.setdefault("logit_scale", torch.tensor(0.0))  # one tower has none
    towers.load_state_dict(weights, strict=True, assign=True)
    return towers


def pixels(checkpoint: Checkpoint, count: int = 2) -> Tensor:
    """(count, 3, S, S) random pixels for its image tower."""
    assert checkpoint.config.image
    size = checkpoint.config.image.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def tokens(checkpoint: Checkpoint) -> Tensor:
    """(3, context) ids: a short, a longer and a full text, padded with the spec's padding."""
    assert checkpoint.tokenizer_spec
    spec = checkpoint.tokenizer_spec
    rows = torch.full((3, spec.context), spec.pad)
    generator = torch.Generator().manual_seed(2)
    for row, length in enumerate((3, 7, spec.context)):
        words = torch.randint(1, spec.vocabulary - 2, (length - 2,), generator=generator)
        rows[row, :length] = torch.tensor([spec.start_of_text, *words, spec.end_of_text])
    return rows


def save_state(path: Path, tensors: dict[str, Tensor], **beside: object) -> Path:
    """Save like a training script: the tensors under `state_dict`, `beside` next to them."""
    torch.save({**beside, "state_dict": tensors} if beside else tensors, path)
    return path


def _random(
    name: str, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name == "logit_scale":
        return torch.tensor(3.0, dtype=dtype)
    values = torch.randn(shape, generator=generator)
    if name.endswith("running_var"):
        return (values.abs() + 0.5).to(dtype)
    if len(shape) == 1:
        near = 1.0 if "weight" in name else 0.0
        return (near + 0.1 * values).to(dtype)
    fan = shape[0] if name.endswith("projection") else max(values[0].numel(), 1)
    return (values * fan**-0.5).to(dtype)
