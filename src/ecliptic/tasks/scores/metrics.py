"""The scores that rows of images and texts can have: what each needs, and its convention.

A new score is a new row of `METRICS`. n rows, E vector size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, did_you_mean
from ecliptic.scoring import (
    PREFIX,
    WEIGHT,
    clip_iqa,
    clip_score,
    directional_similarity,
    pair_cosines,
    ref_clip_score,
)


@dataclass(frozen=True)
class RowVectors:
    """The vectors of n rows."""

    images: Sequence[Tensor]  # (n, E) for each image of a row
    texts: Sequence[Tensor]  # (n, E) for each text of a row
    references: Sequence[Tensor] = ()  # (R, E) for each row
    words: Sequence[Tensor] = ()  # (1, E) of the good one, and of the bad one
    scale: float = 100.0  # exp(logit_scale) of the model


@dataclass(frozen=True)
class Metric:
    """A score of rows: the mean of a value of each."""

    name: str
    convention: str  # formula and source, for people
    score: Callable[[RowVectors], Tensor]  # (n,)
    images: tuple[str, ...] = ("image",)  # what a row holds, by the name of its column
    texts: tuple[str, ...] = ("caption",)
    prefix: str = ""  # of captions and references
    references: bool = False
    words: tuple[str, str] | None = None  # that are compared, unless others are given
    least: float = -1.0  # that a row can have
    most: float = 1.0
    floor: float | None = None  # of the mean, where rows can be lower
    by_prompt: bool = False  # values are shared among the images of one caption
    compares: bool = True  # makes sense for two generators side by side
    known: str = field(default="", compare=False)  # what it was published with

    @property
    def columns(self) -> tuple[str, ...]:
        """Everything that a row holds."""
        return (*self.images, *self.texts, *(("references",) if self.references else ()))


_ROWS = (
    Metric(
        "clipscore",
        f"{WEIGHT} x max(cosine, 0), mean over pairs (Hessel et al. 2021)",
        lambda v: clip_score(v.images[0], v.texts[0]),
        prefix=PREFIX,
        least=0.0,
        most=WEIGHT,
        known="ViT-B-32/openai",
    ),
    Metric(
        "refclipscore",
        "harmonic mean of CLIPScore and of the nearest reference's cosine, both at least 0, 0 "
        "where both are 0; mean over pairs (Hessel et al. 2021, section 3)",
        lambda v: ref_clip_score(v.images[0], v.texts[0], v.references),
        prefix=PREFIX,
        least=0.0,
        most=2 * WEIGHT / (WEIGHT + 1),  # the harmonic mean of the largest two
        references=True,
        known="ViT-B-32/openai",
    ),
    Metric(
        "refclipscore-published",
        "as the authors' code: the reference's cosine may be below 0; mean over pairs",
        lambda v: ref_clip_score(v.images[0], v.texts[0], v.references, convention="published"),
        prefix=PREFIX,
        least=-math.inf,  # where the two nearly cancel
        most=math.inf,
        references=True,
        known="ViT-B-32/openai",
    ),
    Metric(
        "clip-t",
        "cosine of image and caption, mean over pairs (DreamBooth, Ruiz et al. 2023)",
        lambda v: pair_cosines(v.images[0], v.texts[0]),
        known="ViT-B-32/openai",
    ),
    Metric(
        "torchmetrics",
        "max(mean of 100 x cosine, 0), as torchmetrics' clip_score: the mean is clamped, not each "
        "pair",
        lambda v: 100 * pair_cosines(v.images[0], v.texts[0]),
        least=-100.0,
        most=100.0,
        floor=0.0,
        known="ViT-L-14/openai",
    ),
    Metric(
        "directional",
        "cosine of the change of the image and of the caption, unit vectors, mean over rows "
        "(InstructPix2Pix, Brooks et al. 2023)",
        lambda v: directional_similarity(*v.images, *v.texts),
        images=("image", "edited"),
        texts=("caption", "edited_caption"),
        compares=False,
        known="ViT-L-14/openai",
    ),
    Metric(
        "iqa",
        "softmax of 100 x cosine over a good and a bad word, share of the good one, mean over "
        "images (CLIP-IQA, Wang et al. 2023; with position embeddings)",
        lambda v: clip_iqa(v.images[0], v.words[0], v.words[1])[:, 0],
        texts=(),
        least=0.0,
        words=("Good photo.", "Bad photo."),
        known="RN50/openai",
    ),
    Metric(
        "preference",
        "softmax of exp(logit_scale) x cosine over the images of one caption (PickScore, HPS v2); "
        "mean, median and interval are of the preferred image of each caption",
        lambda v: v.scale * pair_cosines(v.images[0], v.texts[0]),
        least=0.0,  # after the softmax
        by_prompt=True,
        compares=False,
        known="a checkpoint that was trained on choices",
    ),
)
METRICS = {metric.name: metric for metric in _ROWS}


def find_metric(name: str) -> Metric:
    """The metric of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METRICS:
        near = did_you_mean(name, METRICS)
        raise ConfigError(
            f"there is no score {name!r} of pairs; the scores are {', '.join(METRICS)}"
            + (f"; {near}" if near else ".")
        )
    return METRICS[name]


def total(metric: Metric, mean: float) -> float:
    """The score of a data set from the mean of its rows."""
    return mean if metric.floor is None else max(mean, metric.floor)


def stack_roles(vectors: Tensor, roles: int) -> list[Tensor]:
    """(n x roles, E), the roles of a row together -> (n, E) for each role."""
    return list(torch.unbind(vectors.reshape(-1, max(roles, 1), vectors.shape[-1]), dim=1))
