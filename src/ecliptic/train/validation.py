"""Validation: recall of the name of a drawing among all names. N drawings, C concepts."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime
from ecliptic.train.augment import lay_on_white
from ecliptic.train.batches import tokenize
from ecliptic.train.drawings import Drawings, read_emoji
from ecliptic.train.settings import TrainSettings


@dataclass(frozen=True)
class Recall:
    """Share of drawings whose own name is among the best 1 and among the best 5."""

    at_1: float
    at_5: float
    drawings: int
    names: int


@dataclass(frozen=True)
class Validation:
    """The drawings that training never sees."""

    design: Drawings  # every concept, in a design that was never trained on
    concepts: Drawings  # concepts that were never trained on, in every design

    @classmethod
    def read(cls, data: Path, settings: TrainSettings) -> "Validation":
        """Read the validation design, and the validation concepts of all designs."""
        unseen = settings.data.validation
        emoji = data / "emoji"
        return cls(
            read_emoji(emoji, (unseen,), None),
            read_emoji(emoji, (*settings.data.designs, unseen), "val"),
        )


@torch.inference_mode()
def evaluate(
    model: TwoTowers, validation: Validation, tokenizer: Tokenizer, image_spec: ImageSpec
) -> dict[str, Recall]:
    """Recall of the unseen design and of the unseen concepts, among all names.

    The keys are "design" and "concepts". Drawings are on white; names have no template. The model
    runs in eval mode and gets its old mode back.
    """
    training = model.training
    model.eval()
    runtime = Runtime(model)
    names = _encode_names(runtime, validation.design, tokenizer)
    found = {
        name: recall(_encode_drawings(runtime, drawings, image_spec), names, drawings)
        for name, drawings in (("design", validation.design), ("concepts", validation.concepts))
    }
    model.train(training)
    return found


def recall(images: Tensor, names: Tensor, drawings: Drawings) -> Recall:
    """Recall at 1 and 5 of (N, E) image vectors against (C, E) name vectors, both unit length."""
    best = (images @ names.T).topk(5, dim=-1).indices  # (N, 5)
    hits = best == drawings.concept[:, None]
    at_1, at_5 = hits[:, 0].float().mean(), hits.any(dim=-1).float().mean()
    return Recall(float(at_1), float(at_5), len(images), len(names))


def _encode_drawings(runtime: Runtime, drawings: Drawings, spec: ImageSpec) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    rows = []
    for rgba in torch.split(drawings.at_size(spec.size).rgba, 128):
        pixels = (lay_on_white(rgba) - mean) / std
        rows.append(runtime.image(pixels).cpu())
    return F.normalize(torch.cat(rows).float(), dim=-1)


def _encode_names(runtime: Runtime, drawings: Drawings, tokenizer: Tokenizer) -> Tensor:
    names = [concept.name for concept in drawings.concepts]
    rows = []
    for i in range(0, len(names), 256):
        tokens, _ = tokenize(tokenizer, names[i : i + 256])
        rows.append(runtime.text(tokens).cpu())
    return F.normalize(torch.cat(rows).float(), dim=-1)
