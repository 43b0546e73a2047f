"""open_clip's model.py: its `CLIP`, and what it tells of a precision.

B batch, T tokens, D width, E vector size, I images.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ecliptic.compat.facade import Facade
from ecliptic.compat.freezing import freeze_but_last, freeze_norms
from ecliptic.compat.open_clip.transformer import Transformer, VisionTransformer
from ecliptic.compat.parts import Fixed, causal_mask
from ecliptic.compat.resnet import ModifiedResNet
from ecliptic.errors import ConfigError
from ecliptic.model import ImageConfig, ResNetConfig, TextConfig, TwoTowers

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class LockableResNet(Fixed, ModifiedResNet):
    """The ResNet with open_clip's additions; it has no gradient checkpointing there either."""

    fixed: ClassVar[Mapping[str, Any]] = {"output_tokens": False}  # its pool gives one vector

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze all weights, and with `freeze_bn_stats` the statistics of the norms too."""
        if unlocked_groups:
            raise ConfigError("a ResNet cannot be locked in part; pass unlocked_groups=0.")
        freeze_but_last([[self]], 0)
        if freeze_bn_stats:
            freeze_norms(self)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Do nothing, as open_clip does; the results are the same."""


class CLIP(Facade):
    """The model of the `create_model...` functions; `output_dict` decides its kind of output."""

    fixed: ClassVar[Mapping[str, Any]] = {"text_pool_type": "argmax"}

    attn_mask: Tensor | None

    def __init__(self, towers: TwoTowers, *, output_dict: bool = False) -> None:
        super().__init__(towers)
        self.output_dict, self.text_pool_type = output_dict, "argmax"
        mask = causal_mask(self.context_length).to(self.logit_scale.device)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_bias: Tensor | None = None  # only sigmoid models have one

    def _make_visual(self, sizes: ImageConfig, embed: int) -> nn.Module:
        if isinstance(sizes, ResNetConfig):
            return LockableResNet(sizes, embed, "act")
        return VisionTransformer(sizes, embed)

    def _make_transformer(self, sizes: TextConfig) -> nn.Module:
        return Transformer(sizes)

    def _text_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.get_cast_dtype()
        return dtype

    def _run_text(self, x: Tensor) -> Tensor:
        T = x.shape[1]
        mask = None if self.attn_mask is None else self.attn_mask[..., :T, :T]
        return self.transformer(x, attn_mask=mask)  # type: ignore[no-any-return]

    def forward(
        self, image: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor | None, ...] | dict[str, Tensor | None]:
        """Unit vectors of images and of texts (None for a missing input), and the scale."""
        images = None if image is None else self.encode_image(image, normalize=True)
        texts = None if text is None else self.encode_text(text, normalize=True)
        found = {"image_features": images, "text_features": texts}
        found["logit_scale"] = self.logit_scale.exp()
        if self.logit_bias is not None:
            found["logit_bias"] = self.logit_bias
        return found if self.output_dict else tuple(found.values())

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and ids -> (I, T) logits of images against texts, and their transpose."""
        logits = self._compare(image, text)
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return logits, logits.T

    def lock_image_tower(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:
        """Freeze the image tower but for its last groups (LiT, arXiv:2111.07991)."""
        self.visual.lock(unlocked_groups=unlocked_groups, freeze_bn_stats=freeze_bn_stats)

    def lock_text_tower(self, unlocked_layers: int = 0, freeze_layer_norm: bool = True) -> None:
        """Freeze the text tower but for its last groups: embeddings, blocks, the projection."""
        if not freeze_layer_norm:
            raise ConfigError("freeze_layer_norm=False is not supported; norms are weights too.")
        blocks = list(self.transformer.resblocks)
        stem = [self.token_embedding, self.positional_embedding]
        last = [*blocks[-1:], self.ln_final]
        groups = [stem, *([b] for b in blocks[:-1]), last, [self.text_projection]]
        freeze_but_last(groups, unlocked_layers)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass, to save memory."""
        self.visual.set_grad_checkpointing(enable)
        self.transformer.grad_checkpointing = enable


def get_cast_dtype(precision: str) -> torch.dtype | None:
    """The dtype that "bf16" or "fp16" casts weights to; None for every other precision."""
    return _HALF.get(precision)


def get_input_dtype(precision: str) -> torch.dtype | None:
    """The dtype of a model's inputs: as `get_cast_dtype`, also for "pure_bf16" and "pure_fp16"."""
    return _HALF.get(precision.removeprefix("pure_"))
