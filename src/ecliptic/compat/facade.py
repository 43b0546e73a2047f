"""The model of the originals on the weights of `TwoTowers`: what openai/CLIP and open_clip share.

A facade has the modules, names and structure of its original; hooks, replaced parts and removed
blocks therefore do what they do there. Its parameters are those of the native model, which
`towers` gives. The two projects differ in their towers and in the result of `forward`.
B batch, T tokens, D width, E vector size, S image side, I images.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import openai_keys
from ecliptic.compat.padding import all_causal, describe_modules
from ecliptic.compat.parts import Fixed, empty_parameter, share_weights, unit
from ecliptic.errors import ShapeError, WeightsMismatchError
from ecliptic.model import ImageConfig, LayerNorm, TextConfig, TwoTowers, end_positions


class Facade(Fixed, ABC):
    """Parameters and methods of both projects' models; a subclass makes the towers."""

    visual: Any  # a module of ours, or whatever a script puts in its place
    transformer: Any

    def __init__(self, towers: TwoTowers) -> None:
        super().__init__()
        image, text = towers.image_tower.config, towers.text_tower.config
        embed = towers.config.embed
        self.context_length, self.vocab_size = text.context, text.vocabulary
        with torch.device("meta"):
            self.visual = self._make_visual(image, embed)
            self.transformer = self._make_transformer(text)
            # not nn.Embedding(...): its random numbers on the meta device import torch._dynamo
            table = torch.empty(text.vocabulary, text.width)
            self.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
            self.positional_embedding = empty_parameter(text.context, text.width)
            self.ln_final = LayerNorm(text.width, eps=text.eps)
            self.text_projection = empty_parameter(text.width, embed) if text.projection else None
            self.logit_scale = empty_parameter()
        weights = towers.state_dict(keep_vars=True)
        share_weights(openai_keys(towers.config).from_native(weights), self)
        object.__setattr__(self, "_towers", towers)  # no submodule: its weights are here already
        self._made = describe_modules(self._text_parts())
        self.train(towers.training)

    @abstractmethod
    def _make_visual(self, sizes: ImageConfig, embed: int) -> nn.Module:
        """The image tower, without weights."""

    @abstractmethod
    def _make_transformer(self, sizes: TextConfig) -> nn.Module:
        """The blocks of the text tower, without weights."""

    @abstractmethod
    def _run_text(self, x: Tensor) -> Tensor:
        """(B, T, D) embedded tokens -> (B, T, D), through `transformer`."""

    @property
    def towers(self) -> TwoTowers:
        """The native model with this model's parameters, as they are now.

        Hooks and functions that a script put on this model are not part of it.

        Raises:
            WeightsMismatchError: parts were added, removed or resized.
        """
        towers: TwoTowers = self._towers  # type: ignore[assignment]
        found = openai_keys(towers.config).to_native(self.state_dict(keep_vars=True))
        wanted = towers.state_dict()
        changed = [
            name
            for name in wanted
            if name not in found.weights or found.weights[name].shape != wanted[name].shape
        ]
        if changed := [*found.unexpected, *changed]:
            raise WeightsMismatchError(
                f"{len(changed)} tensors of this model were added, removed or resized (the first "
                f"is {changed[0]!r}), so its native towers would compute something else; call the "
                "model itself, or load it again."
            )
        share_weights(found.weights, towers)
        return towers.train(self.training)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the image tower's weights."""
        weight: Tensor = self.visual.conv1.weight
        return weight.dtype

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) vectors, raw unless `normalize`."""
        vectors: Tensor = self.visual(image)
        return unit(vectors) if normalize else vectors

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """(B, T) ids -> (B, E) vectors, raw unless `normalize`; T may be shorter than the context.

        Raises:
            ShapeError: `text` is not a batch of ids, or a row has no end of text.
        """
        if text.ndim != 2 or text.shape[1] > self.context_length:
            raise ShapeError(
                f"text must be (batch, tokens) ids with at most {self.context_length} tokens, got "
                f"{tuple(text.shape)}; use `tokenize`."
            )
        towers: TwoTowers = self._towers  # type: ignore[assignment]
        ends = end_positions(text, towers.text_tower.config.end_of_text)
        if self._is_as_made():
            text = text[:, : int(ends.max()) + 1]
        dtype = self._text_dtype()
        x = self.token_embedding(text).type(dtype)
        x = x + self.positional_embedding[: text.shape[1]].type(dtype)
        x = self.ln_final(self._run_text(x)).type(dtype)
        x = x[torch.arange(len(x), device=x.device), ends]
        if self.text_projection is not None:
            x = x @ self.text_projection
        return unit(x) if normalize else x

    def _text_parts(self) -> list[nn.Module]:
        return [self.token_embedding, self.transformer, self.ln_final]

    def _is_as_made(self) -> bool:
        """Whether no script changed the text tower, so that padding can be left out."""
        parts = self._text_parts()
        inner = (module for part in parts for module in part.modules())
        return describe_modules(parts) == self._made and all_causal([self, *inner])

    def _text_dtype(self) -> torch.dtype:
        return self.dtype

    def _compare(self, image: Tensor, text: Tensor) -> Tensor:
        """Pixels and ids -> (I, T) logits of images against texts."""
        images, texts = unit(self.encode_image(image)), unit(self.encode_text(text))
        return self.logit_scale.exp() * images @ texts.T
