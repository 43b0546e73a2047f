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
from ecliptic.errors import ConfigError, InputError, NumericalError
from ecliptic.tasks.moderation.copies import are_among, find_copies
from ecliptic.tasks.moderation.rules import Concept

FEWEST_REFERENCES = 20  # below, mean and deviation are noise
STEADY_REFERENCES = 200  # from here on, they are steady
_SMALLEST = 1e-6  # deviation of the cosines with different reference images
_SLACK = 1e-6  # of a cosine, for rounding
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
        """How far a score moves, at most, when every cosine moves by 1."""
        sides = self.deviation[: self.positives], self.deviation[self.positives :]
        return sum(1 / float(side.min()) for side in sides if len(side))

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest score that a vector can have, or a little beyond.

        With a contrast, a score is x @ (p - c) for a unit vector x, so it is at most |p - c|: less
        than 1 where the two sides are somewhat alike.
        """
        if self.positives == len(self.names):
            least, most = ((end - self.mean) / self.deviation for end in (-1.0, 1.0))
            return float(least.max()), float(most.max())
        rows, levels = self.vectors.double() / self.deviation[:, None], self.mean / self.deviation
        ours, theirs = slice(self.positives), slice(self.positives, None)
        reach = torch.cdist(rows[ours], rows[theirs]) + _SLACK * self.unit  # (p, c)
        shift = levels[ours, None] - levels[None, theirs]
        low, high = (float(side.amin(1).max()) for side in (-reach - shift, reach - shift))
        return low, high

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
        ConfigError: texts and images together without reference images, reference images that are
            all alike, or a threshold that no image can have.
        InputError: an example image cannot be used.
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
        if texts:
            parts.append(clip.encode_text(list(texts)))
        images, rows = _encode_examples(clip, concept.name, paths)
        parts.append(rows)
        names += [*texts, *images]
        counts.append(len(texts) + len(images))
    vectors = torch.cat(parts)
    if not bool((vectors.norm(dim=-1) > 0).all()):
        raise NumericalError(
            f"a text or an example of {concept.name!r} has a vector of length 0; leave it out."
        )
    _refuse_on_both_sides(concept.name, vectors, names, counts[0])
    mean, deviation = _measure(vectors, reference, concept.name)
    found = Prototypes(vectors, tuple(names), counts[0], mean, deviation)
    _refuse_unreachable(concept, found.ends)
    return found


def _encode_examples(clip: Clip, name: str, paths: Iterable[str]) -> tuple[list[str], Tensor]:
    """The files of example images and their vectors."""
    try:
        images = list(list_images(paths))
        return images, clip.encode_image(images) if images else torch.empty(0, clip.card.embed)
    except InputError as error:
        raise InputError(f"an example of {name!r} cannot be used: {error}") from error


def _refuse_on_both_sides(name: str, vectors: Tensor, names: list[str], positives: int) -> None:
    """Raise for a text or image that shows the concept and is its contrast, too."""
    ours, theirs = vectors[:positives], vectors[positives:]
    if not len(theirs) or not bool((twice := are_among(ours, theirs)).any()):
        return
    raise ConfigError(
        f"{names[int(twice.int().argmax())]!r} stands on both sides of {name!r}, so it decides "
        "nothing; take it out of the concept or out of its contrast."
    )


def _refuse_unreachable(concept: Concept, ends: tuple[float, float]) -> None:
    """Raise for a threshold that no score can reach, or that every score reaches."""
    low, high = ends
    if concept.threshold is not None and not low <= concept.threshold <= high:
        said = "no image could be flagged" if concept.threshold > high else "all would be flagged"
        raise ConfigError(
            f"the threshold {concept.threshold:g} of {concept.name!r} is outside its scores, which "
            f"are from {low:.4g} to {high:.4g}, so {said}; set one between, or tune it on labelled "
            "images."
        )


def check_reference(rows: Tensor) -> Tensor:
    """The reference vectors that differ from each other, if there are enough of them.

    Raises:
        ConfigError: too few; the message says how many are missing.
    """
    kept = rows[find_copies(rows) == torch.arange(len(rows))]
    if (missing := FEWEST_REFERENCES - len(kept)) > 0:
        which = "are" if len(kept) == len(rows) else f"of which {len(kept)} differ, are"
        comma = "," if len(kept) < len(rows) else ""
        raise ConfigError(
            f"{len(rows)} reference images{comma} {which} too few to tell what is ordinary; give "
            f"at least {FEWEST_REFERENCES} ({missing} more), better {STEADY_REFERENCES}."
        )
    return kept


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
