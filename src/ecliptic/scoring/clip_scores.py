"""Published scores of images and texts, each by its own convention, on vectors alone.

All take vectors of any length, compute in float64 a block of rows at a time, and give one value per
row: the score of a data set is their mean, except where said. A zero vector fits nothing: its
cosine is 0. N rows, R references of a row, P pairs of words, E vector size.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ecliptic.checks import check_choice, check_number
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.row_pairs import (
    RunningMean,
    held,
    pair_cosines,
    row_blocks,
    row_cosines,
    unit,
)
from ecliptic.scoring.similarity import Rows, cosine, to_tensor

PREFIX = "A photo depicts "  # of the captions of CLIPScore, section 3 of the paper
WEIGHT = 2.5  # of CLIPScore, so that its values spread to about 1
_ROWS = 1024  # whose references are compared at once


def clip_score(images: Rows, texts: Rows, weight: float = WEIGHT) -> Tensor:
    """How well each caption fits its image, from 0 (unrelated) to `weight`.

    The paper scores with ViT-B/32 and captions that begin with "A photo depicts ".

    Args:
        images: (N, E) image vectors.
        texts: (N, E) text vectors; row i describes image i.
        weight: top of the scale, no unit; 2.5 in the paper.

    Returns:
        (N,) scores, `weight * max(cosine, 0)`.

    Raises:
        ShapeError: the two shapes differ.

    Source: Hessel et al. 2021, CLIPScore, arXiv:2104.08718, section 3.
    """
    return weight * pair_cosines(images, texts).clamp(min=0)


def ref_clip_score(
    images: Rows,
    texts: Rows,
    references: Sequence[Rows],
    weight: float = WEIGHT,
    convention: Literal["guarded", "published"] = "guarded",
) -> Tensor:
    """The harmonic mean of CLIPScore and of the nearest reference caption.

    Args:
        images: (N, E) image vectors.
        texts: (N, E) vectors of the captions to score.
        references: for each row (R, E) vectors of captions of people, at least one.
        weight: of CLIPScore; the cosine with the reference has none.
        convention: "guarded": cosines below 0 count as 0, and two zeros give 0, as in the paper.
            "published": as the authors' code, where the cosine with the reference may be negative.

    Returns:
        (N,) scores.

    Raises:
        ShapeError: the shapes differ, or a row has no reference.
        NumericalError: "published" would divide by zero.

    Source: Hessel et al. 2021, section 3, and clipscore.py of jmhessel/clipscore.
    """
    check_choice("convention", convention, ("guarded", "published"))
    score = clip_score(images, texts, weight)
    near = _nearest_reference(texts, references)
    if convention == "guarded":
        near = near.clamp(min=0)
    whole = score + near
    if convention == "published" and bool((whole == 0).any()):
        raise NumericalError(
            f"row {int((whole == 0).nonzero()[0])} fits neither its image nor a reference, and the "
            'published formula divides by zero there; use convention="guarded".'
        )
    return torch.where(whole == 0, 0.0, 2 * score * near / whole.masked_fill(whole == 0, 1.0))


def _nearest_reference(texts: Rows, references: Sequence[Rows]) -> Tensor:
    """(N,) the cosine of each text with the nearest of its references."""
    rows = held(texts)
    counts = torch.tensor([len(held(some)) for some in references])
    if len(counts) != len(rows):
        raise ShapeError(
            f"{len(rows)} texts have {len(counts)} sets of references; give one for each text."
        )
    if bool((counts == 0).any()):
        raise ShapeError(f"row {int((counts == 0).nonzero()[0])} has no reference; leave it out.")
    found = torch.full((len(rows),), -1.0, dtype=torch.float64)
    for start in range(0, len(rows), _ROWS):
        some = torch.cat([to_tensor(one).cpu() for one in references[start : start + _ROWS]])
        owner = torch.arange(start, min(start + _ROWS, len(rows)))
        owner = owner.repeat_interleave(counts[start : start + _ROWS])
        own = to_tensor(rows[start : start + _ROWS]).cpu()[owner - start]
        found.scatter_reduce_(0, owner, pair_cosines(own, some), "amax")
    return found


def torchmetrics_clip_score(images: Rows, texts: Rows) -> float:
    """CLIPScore as torchmetrics defines it: 100 times the mean cosine, and at least 0.

    It clamps the mean and not each row, and has no prefix.

    Args:
        images: (N, E) image vectors.
        texts: (N, E) text vectors; row i describes image i.

    Raises:
        ConfigError: no rows.

    Source: torchmetrics 1.9, functional/multimodal/clip_score.py.
    """
    cosines = pair_cosines(images, texts)
    if not len(cosines):
        raise ConfigError("there is no score of no images; give at least one.")
    return max(100 * float(cosines.mean()), 0.0)


def directional_similarity(image_0: Rows, image_1: Rows, text_0: Rows, text_1: Rows) -> Tensor:
    """Does an image change in the direction in which its caption changes? From -1 to 1.

    Args:
        image_0: (N, E) vectors of the images before.
        image_1: (N, E) vectors of the edited images.
        text_0: (N, E) vectors of the captions before.
        text_1: (N, E) vectors of the captions of the edited images.

    Returns:
        (N,) cosines of the differences of unit vectors; 0 where nothing changes.

    Source: Brooks et al. 2023, InstructPix2Pix, arXiv:2211.09800; its metrics/clip_similarity.py
    makes the vectors unit length first.
    """
    parts = [
        row_cosines(unit(x1) - unit(x0), unit(t1) - unit(t0))
        for x0, x1, t0, t1 in row_blocks(image_0, image_1, text_0, text_1)
    ]
    return torch.cat(parts)


def text_direction(sources: Rows, targets: Rows) -> Tensor:
    """(E,) the unit vector from one text to another, averaged over templates.

    Args:
        sources: (P, E) vectors of the first text in P templates.
        targets: (P, E) the same templates with the second text.

    Raises:
        ShapeError: the two have other shapes.

    Source: Gal et al. 2022, StyleGAN-NADA, arXiv:2108.00946, section 4.1, and the authors'
    ZSSGAN/criteria/clip_loss.py.
    """
    mean = RunningMean()
    for x, y in row_blocks(sources, targets):
        mean.add(unit(y) - unit(x))
    return unit(mean.mean)


def direction_loss(image_0: Rows, image_1: Rows, direction: Tensor) -> Tensor:
    """How far each change of an image is from a direction of text, from 0 (along it) to 2.

    Args:
        image_0: (N, E) vectors of the images before.
        image_1: (N, E) vectors of the images after.
        direction: (E,) of `text_direction`.

    Returns:
        (N,) `1 - cosine`; 1 where nothing changes.

    Source: Gal et al. 2022, StyleGAN-NADA, arXiv:2108.00946, equation 2.
    """
    along = to_tensor(direction).cpu().double()
    parts = []
    for x0, x1 in row_blocks(image_0, image_1):
        if along.shape != x0.shape[1:]:
            raise ShapeError(f"the direction must be ({x0.shape[1]},), got {tuple(along.shape)}.")
        parts.append(1 - row_cosines(unit(x1) - unit(x0), along))
    return torch.cat(parts)


def clip_iqa(images: Rows, good: Rows, bad: Rows, scale: float = 100.0) -> Tensor:
    """How much nearer each image is to one word of a pair than to the other, from 0 to 1.

    The published pair for quality is "Good photo." and "Bad photo."; any two texts work.

    Args:
        images: (N, E) image vectors.
        good: (P, E) vectors of P texts.
        bad: (P, E) vectors of their opposites.
        scale: of the cosines; 100 in the paper.

    Returns:
        (N, P) shares of `good`: softmax over the two of `scale * cosine`.

    Raises:
        ShapeError: texts that are not in pairs, or vectors of other sizes.

    Source: Wang et al. 2023, CLIP-IQA, arXiv:2207.12396, section 3. Its model leaves out the
    position embeddings; values of another model are comparable only among themselves.
    """
    scale = check_number("scale", scale, "100 is the published one.")
    (better, worse), *_ = row_blocks(good, bad)
    gaps = [cosine(x, better) - cosine(x, worse) for (x,) in row_blocks(images)]
    return (scale * torch.cat(gaps)).sigmoid()


def preference(
    images: Rows, texts: Rows, scale: float, groups: Sequence[object] | Tensor | None = None
) -> Tensor:
    """The chance that each image is preferred among those of the same prompt.

    Args:
        images: (N, E) image vectors.
        texts: (N, E) the prompt of each.
        scale: exp(logit_scale) of the model, 100 in most.
        groups: (N,) what tells the prompts apart; None: all images are of one.

    Returns:
        (N,) softmax of `scale * cosine` over the images of a group.

    Raises:
        ShapeError: shapes that do not fit.

    Source: Kirstain et al. 2023, PickScore, arXiv:2305.01569, section 4; the same rule in HPS v2.
    """
    logits = check_number("scale", scale, "it is exp(logit_scale).") * pair_cosines(images, texts)
    return softmax_in_groups(logits, groups)


def softmax_in_groups(logits: Tensor, groups: Sequence[object] | Tensor | None = None) -> Tensor:
    """(N,) shares of each row among the rows of its group, which sum to 1 in each."""
    names = [0] * len(logits) if groups is None else groups
    names = names.tolist() if isinstance(names, Tensor) else list(names)
    if len(names) != len(logits):
        raise ShapeError(f"{len(logits)} rows have {len(names)} groups; give one for each row.")
    numbers: dict[object, int] = {}
    place = torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])
    if not len(logits):
        return logits
    top = torch.full((len(numbers),), -torch.inf, dtype=logits.dtype)
    top.scatter_reduce_(0, place, logits, "amax")
    powers = (logits - top[place]).exp()
    return powers / torch.zeros_like(top).index_add(0, place, powers)[place]


def recall_at(ranks: Tensor, k: int) -> float:
    """The share of queries whose best item is among the first k, from `ranks`.

    Raises:
        ConfigError: no queries, or k below 1.
    """
    if k < 1 or not len(ranks):
        raise ConfigError(f"recall needs queries and k of at least 1, got {len(ranks)} and {k}.")
    return float((ranks <= k).double().mean())
