"""Reads the sizes of a model from the shapes of its natively named tensors.

No shape shows the number of heads: it comes from the argument, from the released model of that
width and depth, or from the rule of the layout's own loader. `identify` finds the other settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.identity.conform import mismatch_error
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.key_tables import KeyTable
from ecliptic.errors import AmbiguousCheckpointError
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import ClipConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig

# Encoders that exist only inside diffusion pipelines: SD 2's text tower without its last block.
_PIPELINE_HEADS = {("text", 1024, 23): 16}


def read_sizes(
    weights: Mapping[str, Tensor], hints: Hints, stated: Stated, table: KeyTable, what: str
) -> ClipConfig:
    """The sizes of a model; its activation is still the default of the configs.

    Args:
        weights: native names; may be incomplete, `conform` lists what is missing.
        hints: the caller's settings.
        stated: the rules of the file's layout.
        table: the file's key table, for messages in its own names.
        what: the file, for messages.

    Raises:
        AmbiguousCheckpointError: the number of heads is not known.
        WeightsMismatchError: tensors from which sizes are read are missing.
    """
    probes = Probes(weights, hints, stated, table, what)
    image = _read_image(probes) if probes.any("image.") else None
    text = _read_text(probes) if probes.any("text.") else None
    if image is None and text is None:
        raise mismatch_error(what, ["missing: every tensor of both towers"])
    return ClipConfig(embed=_read_embed(probes), image=image, text=text)


@dataclass(frozen=True)
class Probes:
    """The tensors and settings from which sizes are read; for the fields see `read_sizes`."""

    weights: Mapping[str, Tensor]
    hints: Hints
    stated: Stated
    table: KeyTable
    what: str

    def any(self, prefix: str) -> bool:
        """Whether a tensor's name starts with `prefix`."""
        return any(name.startswith(prefix) for name in self.weights)

    def shapes(self, *names: str) -> list[tuple[int, ...]]:
        """Shapes of `names`; WeightsMismatchError lists all that are missing or have no axes."""
        lost = [name for name in names if name not in self.weights or not self.weights[name].ndim]
        if lost:
            missing = [" + ".join(self.table.foreign_names(name)) for name in lost]
            raise mismatch_error(self.what, [f"missing: {name}" for name in missing])
        return [tuple(self.weights[name].shape) for name in names]

    def count(self, prefix: str) -> int:
        """How many numbered children `prefix` has, with gaps, which `conform` finds."""
        numbers = (
            name.removeprefix(prefix).split(".")[0]
            for name in self.weights
            if name.startswith(prefix)
        )
        return max((int(number) for number in numbers), default=-1) + 1

    def heads(self, tower: str, width: int, depth: int) -> int:
        """Heads of the "image" or "text" transformer: given, released, or by the layout's rule.

        openai/CLIP's `build_model` takes width // 64, which is wrong for H/14, g/14 and bigG/14;
        if such a rule and the released model disagree, the caller must pass the heads.
        """
        if given := self.hints.heads_of(tower):
            return given
        released = released_heads().get((tower, width, depth))
        ruled = width // self.stated.head_width if self.stated.head_width else None
        if (heads := released or ruled) and ruled in (None, heads):
            return heads
        known = (
            f"its layout's loader uses {ruled} heads, the released model has {released}"
            if released
            else "no released model has this width and depth"
        )
        raise AmbiguousCheckpointError(
            f"{self.what} has a transformer of width {width} and depth {depth} on its {tower} "
            f"side; head counts are not in the weights ({known}), so pass heads=..., or "
            "heads=(image, text) if the two sides differ."
        )


def _read_image(probes: Probes) -> ImageConfig:
    if probes.any("image.stem.") or probes.any("image.stages.") or probes.any("image.pool."):
        return _read_resnet(probes)
    (width,), patch, positions, (mlp,) = probes.shapes(
        "image.ln_post.weight",
        "image.patch.weight",
        "image.positions",
        "image.blocks.0.mlp.up.bias",
    )
    depth = probes.count("image.blocks.")
    return ViTConfig(
        image_size=patch[-1] * _read_grid(positions[0], probes.what),
        patch_size=patch[-1],
        width=width,
        depth=depth,
        heads=probes.heads("image", width, depth),
        mlp=mlp,
    )


def _read_resnet(probes: Probes) -> ResNetConfig:
    (width,), positions = probes.shapes("image.stem.2.norm.weight", "image.pool.positions")
    stages = [probes.count(f"image.stages.{stage}.") for stage in range(4)]
    first = probes.weights.get("image.stages.0.0.conv1.weight")  # 3x3 only in basic blocks
    basic = first is not None and first.ndim == 4 and first.shape[-1] == 3
    heads = probes.hints.heads_of("image")
    if basic and not heads:
        raise AmbiguousCheckpointError(
            f"{probes.what} has a ResNet of basic blocks with a pool of width {8 * width}; "
            "head counts are not in the weights, and no released model has such blocks, so pass "
            "heads=..., or heads=(image, text) if the two sides differ."
        )
    return ResNetConfig(
        image_size=32 * _read_grid(positions[0], probes.what),
        width=width,
        depths=(stages[0], stages[1], stages[2], stages[3]),
        heads=heads or width * 32 // 64,  # every released ResNet
        block="basic" if basic else "bottleneck",
    )


def _read_text(probes: Probes) -> TextConfig:
    (width,), tokens, positions, (mlp,) = probes.shapes(
        "text.ln_final.weight",
        "text.token_embedding.weight",
        "text.positions",
        "text.blocks.0.mlp.up.bias",
    )
    depth = probes.count("text.blocks.")
    spec = probes.hints.tokenizer_spec
    end = spec.end_of_text if spec else min(tokens[0], TokenizerSpec().vocabulary) - 1
    return TextConfig(
        vocabulary=tokens[0],
        context=positions[0],
        width=width,
        depth=depth,
        heads=probes.heads("text", width, depth),
        mlp=mlp,
        end_of_text=end,
        projection="text.projection" in probes.weights,
    )


def _read_embed(probes: Probes) -> int:
    """E, from the first projection found; its other edge is the tower's width."""
    for projection, norm in (
        ("text.projection", "text.ln_final.weight"),
        ("image.projection", "image.ln_post.weight"),
    ):
        if projection in probes.weights:
            shape, (width,) = probes.shapes(projection, norm)
            return shape[-1] if shape[0] == width else shape[0]
    name = "image.pool.out.bias" if probes.any("image.pool.") else "text.ln_final.weight"
    return probes.shapes(name)[0][0]


def _read_grid(positions: int, what: str) -> int:
    grid = math.isqrt(max(positions - 1, 0))
    if grid**2 + 1 != positions or not grid:
        raise mismatch_error(what, [f"shape: {positions} image positions are not a square + 1"])
    return grid


@cache
def released_heads() -> dict[tuple[str, int, int], int]:
    """(tower, width, depth) -> heads, of every released transformer."""
    found = dict(_PIPELINE_HEADS)
    for name in catalog.architectures():
        config = catalog.architecture(name)
        for tower, sizes in (("image", config.image), ("text", config.text)):
            if isinstance(sizes, ViTConfig | TextConfig):
                found[tower, sizes.width, sizes.depth] = sizes.heads
    return found
