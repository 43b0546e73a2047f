"""One text encoder of a family: its tower, its padding and its added vectors.

B rows, T tokens of context, D width, E vector size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.adapters import part_of_width
from ecliptic.diffusion.families import EncoderRule
from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.inputs import Tokenizer
from ecliptic.model import TextOutputs, TextTower

BATCH = 64  # rows at a time
WHOLE_H = 24  # blocks of OpenCLIP-H; diffusers' folders hold 23


class TextEncoder:
    """A loaded text encoder with the rule of its family.

    Args:
        clip: the loaded checkpoint.
        rule: what the family reads from it.
        folder: it was loaded from a folder of its own, as diffusers stores encoders.
        any_size: take an encoder of a width that no released model has in this place.

    Raises:
        ConfigError: another width, or no projection where one is needed.
    """

    def __init__(
        self, clip: Clip, rule: EncoderRule, *, folder: bool, any_size: bool = False
    ) -> None:
        self.clip = clip
        self.rule = rule
        self.tower: TextTower = clip.model.text_tower
        self.as_stored_by_diffusers = folder and clip.card.config.image is None
        self.inversions: dict[str, Tensor] = {}  # token -> (n, D)
        if not any_size:
            _check_width(self)
        _check_projection(self)

    @property
    def tokenizer(self) -> Tokenizer:
        """The encoder's tokenizer."""
        return self.clip.tokenizer

    @property
    def width(self) -> int:
        """Width of the vectors, D."""
        return self.tower.config.width

    @property
    def context(self) -> int:
        """Tokens of a chunk, with start and end."""
        own = self.tokenizer.spec.context
        return own if self.rule.length is None else min(own, self.rule.length)

    @property
    def pad(self) -> int:
        """The id after the end of text: that of the family, seldom of the file's tokenizer."""
        spec = self.tokenizer.spec
        return {"zero": 0, "end": spec.end_of_text, "file": spec.pad}[self.rule.pad]

    @property
    def own_layer(self) -> int | None:
        """The hidden layer that the family reads."""
        rule, depth = self.rule, self.tower.config.depth
        if rule.whole_layer is None:
            return rule.layer
        cut = self.as_stored_by_diffusers and depth != WHOLE_H
        return rule.layer if cut else rule.whole_layer

    def layer(self, clip_skip: int | None) -> int | None:
        """The hidden layer after skipping `clip_skip` layers, counted as in diffusers.

        Raises:
            ConfigError: not a whole number from 0, or more layers than the encoder has.
        """
        own, depth, k = self.own_layer, self.tower.config.depth, clip_skip or 0
        if type(k) is not int or k < 0:
            raise ConfigError(
                f"clip_skip must be a whole number from 0, got {clip_skip!r}; A1111's N and "
                "ComfyUI's -N are N - 1 here."
            )
        if own is None:
            return None
        if k and depth + own - k < 0:  # hidden layer 0 is the embedding: no block has read it
            raise ConfigError(
                f"clip_skip {k} leaves no layer of the encoder: {self.rule.part} has {depth} "
                f"layers and this family reads layer {own}, so at most {depth + own} can be "
                "skipped. A1111's N and ComfyUI's -N are N - 1 here."
            )
        return own - k

    @property
    def only_pooled(self) -> bool:
        """Whether the family reads nothing but the pooled vector, which is of the first chunk."""
        return self.own_layer is None

    def projects(self, *, folders_do: bool) -> bool:
        """Whether the pooled vector goes through the projection."""
        if self.rule.pooled == "vector":
            return True
        return folders_do and self.as_stored_by_diffusers

    def run(
        self, prompts: Sequence[Chunks], layer: int | None, *, pooled: bool, grad: bool
    ) -> TextOutputs:
        """Encode all chunks of all `prompts`, in order: (B, T, D), (B, D), (B, E)."""
        ids = torch.cat([one.ids for one in prompts]).to(self.clip.device)
        embedded, mask = self._embed(prompts, ids), self._make_mask(prompts, ids)
        parts = []
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            outputs = self.tower.outputs if grad else self.clip.runtime.text_outputs
            parts.append(
                outputs(
                    ids[part],
                    layer=layer,
                    final_norm=self.rule.final_norm,
                    pooled=pooled,
                    embedded=None if embedded is None else embedded[part],
                    mask=None if mask is None else mask[part],
                )
            )
        return TextOutputs(*(_cat([getattr(p, n) for p in parts]) for n in _FIELDS))

    def _embed(self, prompts: Sequence[Chunks], ids: Tensor) -> Tensor | None:
        """Embed `ids` with the vectors of inversions, (B, T, D); None if there are no vectors."""
        if not any(one.vectors for one in prompts):
            return None
        embedded = self.tower.token_embedding(ids)
        places, vectors, first = [], [], 0
        for one in prompts:
            for (chunk, place), vector in one.vectors.items():
                places.append((first + chunk, place))
                vectors.append(vector)
            first += len(one)
        chunk_of, place_of = torch.tensor(places, device=ids.device).T
        spliced = torch.stack(vectors).to(embedded)
        return embedded.index_put((chunk_of, place_of), spliced)  # type: ignore[no-any-return]

    def _make_mask(self, prompts: Sequence[Chunks], ids: Tensor) -> Tensor | None:
        """(B, T) bool of tokens that may be attended to; None if all may."""
        if not self.rule.masks_padding and all(one.mask is None for one in prompts):
            return None
        seen = [
            torch.ones_like(one.ids, dtype=torch.bool) if one.mask is None else one.mask
            for one in prompts
        ]
        mask = torch.cat(seen).to(ids.device)
        return mask & self.in_use(ids) if self.rule.masks_padding else mask

    def in_use(self, ids: Tensor) -> Tensor:
        """(B, T) bool: tokens up to the first end of text."""
        ends = (ids == self.tokenizer.spec.end_of_text).int()
        return ends.cumsum(dim=-1) - ends == 0


def describe_output(rule: EncoderRule) -> str:
    """What a family reads of an encoder, in words."""
    sequence = "" if rule.layer is None else "sequence"
    pooled = {None: "", "state": "pooled", "vector": "projected pooled"}[rule.pooled]
    return " and ".join(filter(None, (sequence, pooled)))


_FIELDS = ("sequence", "pooled", "vectors")


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


def _check_width(encoder: TextEncoder) -> None:
    rule, width = encoder.rule, encoder.width
    if width in rule.widths:
        return
    which = f", as {part} is" if (part := part_of_width(width)) else ""
    raise ConfigError(
        f"{encoder.clip.card.name} is {width} wide{which}, but released models have {rule.part} "
        f"here, {' or '.join(map(str, rule.widths))} wide; pass the model's own encoders in its "
        "order, or any_size=True for a model of other sizes."
    )


def _check_projection(encoder: TextEncoder) -> None:
    rule = encoder.rule
    if rule.pooled == "vector" and encoder.tower.projection is None:
        raise ConfigError(
            f"{encoder.clip.card.name} has no text projection, but {rule.part} must give a "
            "projected vector here; use a CLIPTextModelWithProjection or a whole CLIP."
        )
