"""openai/CLIP's clip/model.py: its model, and how to build one from a state dict.

Transformers take tokens first, (T, B, D), and hold their mask.
B batch, T tokens, D width, E vector size, S image side, I images.
"""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import openai_config, openai_keys
from ecliptic.compat.architectures import seeded_towers
from ecliptic.compat.facade import Facade
from ecliptic.compat.parts import (
    TransformerConfig,
    causal_mask,
    embed_patches,
    empty_parameter,
    make_mlp,
)
from ecliptic.compat.resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from ecliptic.errors import AmbiguousCheckpointError, WeightsMismatchError
from ecliptic.model import (
    ClipConfig,
    ImageConfig,
    LayerNorm,
    QuickGELU,
    ResNetConfig,
    TextConfig,
    TwoTowers,
    ViTConfig,
    build,
)

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "Bottleneck",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]

_HEAD_WIDTH = 64
_INTEGERS = ("input_resolution", "context_length", "vocab_size")  # beside the weights in a file


class ResidualAttentionBlock(nn.Module):
    """Attention, then MLP, each behind a norm and a shortcut."""

    def __init__(self, sizes: TransformerConfig, attn_mask: Tensor | None = None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(sizes.width, sizes.heads)
        self.ln_1 = LayerNorm(sizes.width, eps=sizes.eps)
        self.mlp = make_mlp(sizes)
        self.ln_2 = LayerNorm(sizes.width, eps=sizes.eps)
        self.attn_mask = attn_mask

    def attention(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (T, B, D); `attn_mask` may be larger than T."""
        mask = None
        if self.attn_mask is not None:
            self.attn_mask = self.attn_mask.to(dtype=x.dtype, device=x.device)
            mask = self.attn_mask[..., : len(x), : len(x)]
        attended: Tensor = self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]
        return attended

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (T, B, D)."""
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """All blocks of a tower, in `resblocks`."""

    def __init__(self, sizes: TransformerConfig, attn_mask: Tensor | None = None) -> None:
        super().__init__()
        self.width, self.layers = sizes.width, sizes.depth
        blocks = (ResidualAttentionBlock(sizes, attn_mask) for _ in range(sizes.depth))
        self.resblocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (T, B, D)."""
        return self.resblocks(x)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches, blocks, and the class token's projection."""

    def __init__(self, sizes: ViTConfig, output_dim: int) -> None:
        super().__init__()
        self.input_resolution, self.output_dim = sizes.image_size, output_dim
        width, patch = sizes.width, sizes.patch_size
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = empty_parameter(width)
        self.positional_embedding = empty_parameter(sizes.grid**2 + 1, width)
        self.ln_pre = LayerNorm(width, eps=sizes.eps)
        self.transformer = Transformer(sizes)
        self.ln_post = LayerNorm(width, eps=sizes.eps)
        self.proj: nn.Parameter | None = empty_parameter(width, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors, or (B, D) if `proj` is None."""
        x = self.ln_pre(embed_patches(self, x))
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_post(x[:, 0])
        return x if self.proj is None else x @ self.proj


class CLIP(Facade):
    """The model that `clip.load` returns."""

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | tuple[int, int, int, int],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
    ) -> None:
        """Make a model with random weights, seeded by `torch.manual_seed`."""
        image = _image_sizes(image_resolution, vision_layers, vision_width, vision_patch_size)
        text = _text_sizes(
            vocab_size, context_length, transformer_width, transformer_layers, transformer_heads
        )
        super().__init__(seeded_towers(ClipConfig(embed_dim, image, text)).train())

    @classmethod
    def of(cls, towers: TwoTowers) -> Self:
        """The model on the weights of `towers`."""
        model = cls.__new__(cls)
        Facade.__init__(model, towers)
        return model

    def _make_visual(self, sizes: ImageConfig, embed: int) -> nn.Module:
        if isinstance(sizes, ResNetConfig):
            return ModifiedResNet(sizes, embed, "relu")
        return VisionTransformer(sizes, embed)

    def _make_transformer(self, sizes: TextConfig) -> nn.Module:
        return Transformer(sizes, causal_mask(sizes.context))

    def build_attention_mask(self) -> Tensor:
        """(T, T) causal mask of the whole context."""
        return causal_mask(self.context_length)

    def _run_text(self, x: Tensor) -> Tensor:
        turned: Tensor = self.transformer(x.permute(1, 0, 2))
        return turned.permute(1, 0, 2)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and ids -> (I, T) logits of images against texts, and their transpose."""
        logits = self._compare(image, text)
        return logits, logits.T


def convert_weights(model: nn.Module, dtype: torch.dtype = torch.float16) -> None:
    """Cast the weights of linear layers, convolutions, attention and projections to half."""
    for module in model.modules():
        names = ["text_projection", "proj"]
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            names = ["weight", "bias"]
        elif isinstance(module, nn.MultiheadAttention):
            names = ["in_proj_weight", "in_proj_bias"]
        for name in names:
            weight = getattr(module, name, None)
            if isinstance(weight, nn.Parameter):
                weight.data = weight.data.to(dtype)


def build_model(state_dict: Mapping[str, Tensor]) -> CLIP:
    """The model of a state dict, in eval mode, its weights in half precision as in the original.

    Raises:
        WeightsMismatchError: a tensor is missing, unexpected or of a wrong shape.
        AmbiguousCheckpointError: the original's rule for heads is wrong for these sizes.
    """
    weights = {name: value for name, value in state_dict.items() if name not in _INTEGERS}
    try:
        towers = build(openai_config(weights))
        found = openai_keys(towers.config).to_native(weights)
        towers.load_state_dict({**found.weights, **found.unexpected}, assign=True)
    except AmbiguousCheckpointError as error:
        raise AmbiguousCheckpointError(
            "openai/CLIP would take width // 64 heads, which is wrong for a model of these sizes; "
            "save the state dict and use ecliptic.load(path, heads=(image, text))."
        ) from error
    except RuntimeError as reason:
        raise WeightsMismatchError(f"{reason}; pass the state dict of one whole model.") from None
    model = CLIP.of(towers)
    convert_weights(model)
    return model.eval()


def _image_sizes(
    size: int, layers: int | tuple[int, int, int, int], width: int, patch: int | None
) -> ImageConfig:
    if not isinstance(layers, int):
        return ResNetConfig(size, width, (*layers,), width * 32 // _HEAD_WIDTH)
    heads = width // _HEAD_WIDTH
    return ViTConfig(size, patch or 0, width, layers, heads, 4 * width, "quick_gelu")


def _text_sizes(rows: int, context: int, width: int, layers: int, heads: int) -> TextConfig:
    end = min(rows, TextConfig.vocabulary) - 1
    return TextConfig(rows, context, width, layers, heads, 4 * width, "quick_gelu", end_of_text=end)
