"""`TwoTowers` with the attributes and methods of the models of openai/CLIP and open_clip.

`Facade` holds what the two share. They differ in their axis order and in the result of `forward`.
`state_dict` and `named_parameters` use the released names, which both projects share.
B batch, T tokens, D width, E vector size, I images.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.checkpoints import openai_keys
from ecliptic.compat.renamed import Renamed
from ecliptic.compat.views import OPEN_CLIP, OPENAI, Order, TransformerView, VisualView, causal_mask
from ecliptic.errors import ShapeError
from ecliptic.model import TwoTowers, end_positions

NAMES = {
    "logit_scale": "towers.logit_scale",
    "token_embedding": "towers.text.token_embedding",
    "positional_embedding": "towers.text.positions",
    "ln_final": "towers.text.ln_final",
    "text_projection": "towers.text.projection",
}


class Facade(Renamed):
    """The methods of both projects' models; `towers` is the native model, which does the work."""

    def __init__(self, towers: TwoTowers, order: Order) -> None:
        super().__init__(NAMES)
        text = towers.text_tower
        self.towers = towers
        self.context_length, self.vocab_size = text.config.context, text.config.vocabulary
        self.visual = VisualView(towers.image_tower, towers.config.embed, order)
        self.transformer = TransformerView(
            text.blocks, text.config.width, order, causal=order.causal_text
        )
        self._keys = openai_keys(towers.config)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image tower's weights."""
        weight: Tensor = self.visual.conv1.weight
        return weight.dtype

    @property
    def attn_mask(self) -> Tensor:
        """(T, T) causal mask of the whole context."""
        return causal_mask(self.context_length, self.towers.text_tower.positions.detach())

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) vectors, raw unless `normalize`."""
        vectors: Tensor = self.visual(image.type(self.dtype))
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def build_attention_mask(self) -> Tensor:
        """`attn_mask`, as both projects make it."""
        return self.attn_mask

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """(B, T) ids -> (B, E) vectors, raw unless `normalize`.

        Computed up to the last end of text in the batch; later tokens have no effect.
        """
        if text.ndim != 2:
            raise ShapeError(
                f"text must be (batch, tokens) ids, got {tuple(text.shape)}; use `tokenize`."
            )
        ends = end_positions(text, self.towers.text_tower.config.end_of_text)
        vectors = self.towers.encode_text(text[:, : int(ends.max()) + 1])
        return F.normalize(vectors, dim=-1) if normalize else vectors

    def state_dict(  # type: ignore[override]  # torch's overloads add positional arguments
        self,
        *,
        destination: dict[str, Any] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Any]:
        """The weights under the names of the released files."""
        native = self.towers.state_dict(keep_vars=keep_vars)
        found = {} if destination is None else destination
        found |= {f"{prefix}{key}": t for key, t in self._keys.from_native(native).items()}
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights under released names into the towers; RuntimeError as in torch."""
        known = self._keys.to_native(state_dict)
        weights = {**known.weights, **known.unexpected}
        return self.towers.load_state_dict(weights, strict=strict, assign=assign)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter once, under its released name."""
        start = f"{prefix}." if prefix else ""
        for name, parameter in self.towers.named_parameters("", recurse, remove_duplicate):
            yield start + self._keys.foreign_names(name)[0], parameter


class OpenAIModel(Facade):
    """openai/CLIP clip/model.py `CLIP`."""

    def __init__(self, towers: TwoTowers) -> None:
        super().__init__(towers, OPENAI)

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and ids -> (I, T) logits of images against texts, and their transpose."""
        logits = self.towers.logits(self.encode_image(image), self.encode_text(text))
        return logits, logits.T


class OpenClipModel(Facade):
    """open_clip/model.py `CLIP`; `output_dict` decides between a tuple and a dict."""

    def __init__(self, towers: TwoTowers, *, output_dict: bool = False) -> None:
        super().__init__(towers, OPEN_CLIP)
        self.output_dict = output_dict
        self.logit_bias = None  # only sigmoid models have one

    def forward(
        self, image: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor] | dict[str, Tensor | None]:
        """Unit vectors of images and of texts (None for a missing input), and the scale."""
        images = None if image is None else self.encode_image(image, normalize=True)
        texts = None if text is None else self.encode_text(text, normalize=True)
        scale: Tensor = self.logit_scale.exp()
        if self.output_dict:
            return {"image_features": images, "text_features": texts, "logit_scale": scale}
        return images, texts, scale

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and ids -> (I, T) logits of images against texts, and their transpose."""
        logits = self.towers.logits(self.encode_image(image), self.encode_text(text))
        return logits, logits.T
