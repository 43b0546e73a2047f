"""The texts and example images of one concept as vectors, and the scores of images with them.

A cosine with a text is about 0.25, one with an image about 0.7, so the two cannot be compared as
they are. Reference images bring both to one scale: a cosine minus the mean of its prototype's
cosines with them, divided by their standard deviation.
P prototypes, R reference images, N images, E vector size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.engine import Clip, image_files
from ecliptic.errors import ConfigError, NumericalError
from ecliptic.tasks.moderation.rules import Concept

FEWEST_REFERENCES = 20  # below, mean and deviation are noise
STEADY_REFERENCES = 200  # from here on, they are steady
_SMALLEST = 1e-6  # deviation of the cosines with different reference images
_UNIT = 1e-3  # how near to 1 the lengths of unit vectors are
_AGAIN = "make the moderator again from its rules."


@dataclass(frozen=True)
class Comparison:
    """N images beside the prototypes of one concept."""

    scores: Tensor  # (N,) float64
    cosines: Tensor  # (N, P) float64
    nearest: Tensor  # (N,) the prototype of the concept that decides
    contrast: Tensor | None  # (N,) the one of the contrast; None if there is no contrast


@dataclass(frozen=True)
class Prototypes:
    """The vectors of one concept: first what shows it, then its contrast."""

    vectors: Tensor  # (P, E) float32, unit length
    names: tuple[str, ...]  # P texts and paths
    positives: int  # prototypes that show the concept
    mean: Tensor  # (P,) float64 of the cosines with reference images; 0 without them
    deviation: Tensor  # (P,) float64; 1 without them

    def __post_init__(self) -> None:
        for part in ("vectors", "mean", "deviation"):
            check_finite(getattr(self, part), f"the {part} of a concept", _AGAIN)
        if bool(((self.vectors.norm(dim=-1) - 1).abs() > _UNIT).any()):
            raise NumericalError(f"the vectors of a concept must have length 1; {_AGAIN}")
        if bool((self.deviation <= 0).any()):
            raise NumericalError(f"the deviation of a concept must be above 0; {_AGAIN}")

    @property
    def unit(self) -> float:
        """How far a score moves, at most, when a cosine moves by 1."""
        return 1 / float(self.deviation.min())

    def compare(self, rows: Tensor) -> Comparison:
        """(N, E) vectors of any length -> scores, and the prototypes that decide them."""
        cosines = F.normalize(rows.double(), dim=-1) @ self.vectors.double().T  # (N, P)
        levels = (cosines - self.mean) / self.deviation
        scores, nearest = levels[:, : self.positives].max(dim=1)
        if self.positives == len(self.names):
            return Comparison(scores, cosines, nearest, None)
        against, place = levels[:, self.positives :].max(dim=1)
        return Comparison(scores - against, cosines, nearest, place + self.positives)


def reaches(scores: Tensor, threshold: float) -> Tensor:
    """Whether each score is at least the threshold; NaN counts, so it is never safe."""
    return ~(scores < threshold)


def make_prototypes(clip: Clip, concept: Concept, reference: Tensor | None) -> Prototypes:
    """Encode the texts and images of a concept.

    Args:
        clip: the model.
        concept: what to encode.
        reference: (R, E) vectors of ordinary images; None for plain cosines.

    Raises:
        ConfigError: texts and images together without reference images, or reference images that
            are all alike.
        ImageError, InputError: an example image cannot be used.
    """
    sides = (
        (concept.positive, concept.examples),
        (concept.contrast, concept.contrast_examples),
    )
    if reference is None and any(side[0] for side in sides) and any(side[1] for side in sides):
        raise ConfigError(
            f"the concept {concept.name!r} has texts and example images, whose cosines are on "
            "different scales; give `reference` images, or use only one of the two."
        )
    parts, names, counts = list[Tensor](), list[str](), list[int]()
    for texts, paths in sides:
        images = list(list_images(paths))
        if texts:
            parts.append(clip.encode_text(list(texts)))
        if images:
            parts.append(clip.encode_image(images))
        names += [*texts, *images]
        counts.append(len(texts) + len(images))
    vectors = torch.cat(parts)
    if not bool((vectors.norm(dim=-1) > 0).all()):
        raise NumericalError(
            f"a text or an example of {concept.name!r} has a vector of length 0; leave it out."
        )
    mean, deviation = _measure(vectors, reference, concept.name)
    return Prototypes(vectors, tuple(names), counts[0], mean, deviation)


def check_reference(rows: Tensor) -> Tensor:
    """The reference vectors, if there are enough of them.

    Raises:
        ConfigError: too few; the message says how many are missing.
    """
    if len(rows) < FEWEST_REFERENCES:
        raise ConfigError(
            f"{len(rows)} reference images are too few to tell what is ordinary; give at least "
            f"{FEWEST_REFERENCES} ({FEWEST_REFERENCES - len(rows)} more), better "
            f"{STEADY_REFERENCES}."
        )
    return rows


def _measure(vectors: Tensor, reference: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """(P,) mean and deviation of the cosines with the reference images."""
    if reference is None:
        zeros = torch.zeros(len(vectors), dtype=torch.float64)
        return zeros, torch.ones_like(zeros)
    cosines = vectors.double() @ F.normalize(reference.double(), dim=-1).T  # (P, R)
    deviation, mean = torch.std_mean(cosines, dim=1)
    if not bool((deviation > _SMALLEST).all()):
        raise ConfigError(
            f"all reference images are equally like the concept {name!r}; give reference images "
            "that differ from each other."
        )
    return mean, deviation


def list_images(paths: Iterable[str]) -> Iterator[str]:
    """The image files of files, folders and globs.

    Raises:
        InputError: a folder without images, or a glob that matches no file.
    """
    for path in paths:
        for item in image_files(path):
            if item.error is not None:
                raise item.error
            yield str(item.value)
