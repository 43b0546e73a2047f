"""What a CLIP knows of drawings: one function for each measure, from a model to shares.

Ranks are those of `ecliptic.scoring.ranks`, so ties count against the model. Every share comes with
a 95 % interval: whole concepts are drawn anew, with all their drawings, `RESAMPLES` times.
N drawings, C concepts, Q texts, E vector size.
"""

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks.emoji import DESIGNS, Drawing, Emoji, Photo, show_at
from ecliptic.scoring import ranks

RESAMPLES = 4000
PLACES = (1, 5)
SMALL = (16, 12, 8)  # pixels
BEST = 10  # drawings among which one with the keyword is expected
MOST = 20  # drawings of a keyword; one that more have is too general

PHRASES: dict[str, tuple[str, ...]] = {  # words that are no name: the subgroups that they mean
    "an animal": ("animal-mammal", "animal-amphibian", "animal-reptile"),
    "a bird": ("animal-bird",),
    "a fish or sea animal": ("animal-marine",),
    "an insect": ("animal-bug",),
    "a flower or plant": ("plant-flower", "plant-other"),
    "a fruit": ("food-fruit",),
    "a vegetable": ("food-vegetable",),
    "something to eat": ("food-prepared", "food-asian", "food-sweet"),
    "something to drink": ("drink",),
    "a vehicle": ("transport-ground", "transport-water", "transport-air"),
    "a building": ("place-building", "place-religious"),
    "clothing": ("clothing",),
    "a musical instrument": ("musical-instrument",),
    "a tool": ("tool",),
    "sports": ("sport", "person-sport"),
    "a face with a feeling": (
        "face-smiling",
        "face-affection",
        "face-tongue",
        "face-hand",
        "face-neutral-skeptical",
        "face-sleepy",
        "face-unwell",
        "face-hat",
        "face-glasses",
        "face-concerned",
        "face-negative",
    ),
    "a hand gesture": (
        "hand-fingers-open",
        "hand-fingers-partial",
        "hand-single-finger",
        "hand-fingers-closed",
        "hands",
    ),
    "a person with a job": ("person-role",),
    "a flag": ("flag", "country-flag", "subdivision-flag"),
    "the weather or sky": ("sky-weather",),
}


class Encoder(Protocol):
    """The part of `ecliptic.Clip` that is measured."""

    @property
    def card(self) -> Any:
        """What says the size of its images."""

    def encode_image(self, images: Any) -> Tensor:
        """(N, E) vectors of N images."""

    def encode_text(self, texts: Any) -> Tensor:
        """(Q, E) vectors of Q texts."""


@dataclass(frozen=True)
class Share:
    """How many of `count` answers are right, from 0 to 1, and between which shares it may lie."""

    value: float
    low: float
    high: float
    count: int


Shares = dict[str, Share]


def measure_design(clip: Encoder, emoji: Emoji) -> Shares:
    """The name of each drawing of the unseen design, among all names."""
    return _name("design", clip, emoji, emoji.drawings(), range(len(emoji.concepts)))


def measure_groups(clip: Encoder, emoji: Emoji) -> Shares:
    """The same by group of the table, still among all names."""
    drawings = emoji.drawings()
    found = _rank_names(clip, emoji, drawings, range(len(emoji.concepts)))
    groups = [emoji.concepts[drawing.concept].group for drawing in drawings]
    shares: Shares = {}
    for group in sorted(set(groups)):
        of_group = [n for n, other in enumerate(groups) if other == group]
        owners = [drawings[n].concept for n in of_group]
        shares |= _count_places(f"group.{group}", found[of_group], owners)
    return shares


def measure_concepts(clip: Encoder, emoji: Emoji) -> Shares:
    """The pictures of unseen concepts in all designs: among their own names, and among all."""
    unseen = [n for n, concept in enumerate(emoji.concepts) if concept.unseen]
    known = set(unseen)
    drawings = [d for name in DESIGNS for d in emoji.drawings(name) if d.concept in known]
    among_all = _name("concepts_among_all", clip, emoji, drawings, range(len(emoji.concepts)))
    return _name("concepts", clip, emoji, drawings, unseen) | among_all


def measure_small(clip: Encoder, emoji: Emoji) -> Shares:
    """The unseen design shown at few pixels, among all names."""
    drawings, size = emoji.drawings(), clip.card.image_spec.size
    shares: Shares = {}
    for pixels in SMALL:
        shown = [Drawing(d.concept, show_at(d.image, pixels, size)) for d in drawings]
        everything = range(len(emoji.concepts))
        shares |= _name(f"design_at_{pixels}px", clip, emoji, shown, everything)
    return shares


def measure_phrases(clip: Encoder, emoji: Emoji) -> Shares:
    """Which of `PHRASES` fits each drawing of the unseen design whose subgroup one of them means.

    Over all drawings, of each phrase, and the mean of the phrases, which all count the same.
    """
    meant = {name: n for n, names in enumerate(PHRASES.values()) for name in names}
    drawings = [d for d in emoji.drawings() if emoji.concepts[d.concept].subgroup in meant]
    targets = [meant[emoji.concepts[d.concept].subgroup] for d in drawings]
    images = clip.encode_image([d.image for d in drawings])  # (N, E)
    right = ranks(images, clip.encode_text(list(PHRASES)), torch.tensor(targets)) == 1
    shares: Shares = {"phrases": share_of(right, [d.concept for d in drawings])}
    parts = {phrase: right[torch.tensor(targets) == n] for n, phrase in enumerate(PHRASES)}
    parts = {phrase: part for phrase, part in parts.items() if len(part)}
    shares["phrases_mean"] = mean_share(list(parts.values()))
    for phrase, part in parts.items():
        shares[f"phrase.{phrase}"] = share_of(part, range(len(part)))
    return shares


def measure_keywords(clip: Encoder, emoji: Emoji) -> Shares:
    """Whether one of the best `BEST` drawings for a keyword has it; see `choose_keywords`.

    Over all keywords, and over those whose drawings are all of concepts that were trained on, or
    all of concepts that were not.
    """
    drawings = emoji.drawings()
    owners = choose_keywords(emoji, drawings)
    texts = list(owners)
    pairs = torch.tensor([(n, d) for n, text in enumerate(texts) for d in owners[text]])
    images = clip.encode_image([drawing.image for drawing in drawings])
    found = ranks(clip.encode_text(texts), images, pairs) <= BEST
    shares: Shares = {"keywords": share_of(found, range(len(texts)))}
    unseen = [{emoji.concepts[drawings[d].concept].unseen for d in owners[text]} for text in texts]
    for name, wanted in (("seen", False), ("unseen", True)):
        rows = [n for n, values in enumerate(unseen) if values == {wanted}]
        if rows:
            shares[f"keywords_{name}"] = share_of(found[rows], rows)
    return shares


def choose_keywords(emoji: Emoji, drawings: Sequence[Drawing]) -> dict[str, list[int]]:
    """The drawings of each keyword that 1 to `MOST` of them have, and whose names it is not in."""
    owners: dict[str, list[int]] = {}
    for number, drawing in enumerate(drawings):
        for keyword in dict.fromkeys(emoji.concepts[drawing.concept].keywords):
            owners.setdefault(keyword, []).append(number)
    return {
        keyword: numbers
        for keyword, numbers in sorted(owners.items())
        if len(numbers) <= MOST
        and not _words(keyword)
        & set().union(*(_words(emoji.concepts[drawings[n].concept].name) for n in numbers))
    }


def measure_photos(clip: Encoder, photos: Sequence[Photo]) -> Shares:
    """The caption of each photograph, among the captions of all; chance is one in their number."""
    images = clip.encode_image([photo.open() for photo in photos])
    texts = clip.encode_text([photo.caption for photo in photos])
    right = ranks(images, texts, torch.arange(len(photos))) == 1
    return {"photos.at_1": share_of(right, range(len(photos)))}


def share_of(right: Tensor, concepts: Sequence[Hashable]) -> Share:
    """The share of `right` (N,), with its interval by concept; the same in every run."""
    order = {concept: n for n, concept in enumerate(dict.fromkeys(concepts))}
    rows = [order[concept] for concept in concepts]
    hits = np.bincount(rows, weights=right.double().numpy(), minlength=len(order))
    sizes = np.bincount(rows, minlength=len(order))
    times = _resample(len(order))
    return _with_interval(float(right.double().mean()), times @ hits / (times @ sizes), len(right))


def mean_share(parts: Sequence[Tensor]) -> Share:
    """The mean of the shares of some parts; each is resampled within itself."""
    value = float(torch.stack([part.double().mean() for part in parts]).mean())
    each = [
        _resample(len(part), n) @ part.double().numpy() / len(part) for n, part in enumerate(parts)
    ]
    return _with_interval(value, np.mean(each, axis=0), sum(len(part) for part in parts))


def _resample(count: int, seed: int = 0) -> Any:
    """(RESAMPLES, count): how often each of `count` things is drawn when `count` are drawn."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(np.float64)


def _with_interval(value: float, samples: Any, count: int) -> Share:
    low, high = np.quantile(samples, (0.025, 0.975))
    return Share(value, float(low), float(high), count)


def _name(
    measure: str, clip: Encoder, emoji: Emoji, drawings: Sequence[Drawing], among: Sequence[int]
) -> Shares:
    found = _rank_names(clip, emoji, drawings, among)
    return _count_places(measure, found, [drawing.concept for drawing in drawings])


def _rank_names(
    clip: Encoder, emoji: Emoji, drawings: Sequence[Drawing], among: Sequence[int]
) -> Tensor:
    """(N,) rank of the own name of each drawing, among the names of some concepts."""
    place = {concept: n for n, concept in enumerate(among)}
    images = clip.encode_image([drawing.image for drawing in drawings])
    texts = clip.encode_text([emoji.concepts[n].name for n in among])
    return ranks(images, texts, torch.tensor([place[drawing.concept] for drawing in drawings]))


def _count_places(measure: str, found: Tensor, concepts: Sequence[int]) -> Shares:
    return {f"{measure}.at_{k}": share_of(found <= k, concepts) for k in PLACES}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
