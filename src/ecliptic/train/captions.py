"""Captions of a drawing: its name, its name in a template, with keywords, or keywords alone."""

import random

from ecliptic.train.drawings import Concept

TEMPLATES = (
    "a drawing of {}",
    "a picture of {}",
    "an emoji of {}",
    "an icon of {}",
    "a cartoon of {}",
    "a sketch of {}",
    "clip art of {}",
    "a simple drawing of {}",
    "a colourful picture of {}",
    "a symbol for {}",
    "{} emoji",
    "{} icon",
    "this is {}",
    "a photo of {}",
)


def caption(concept: Concept, draw: random.Random) -> str:
    """A random caption of `concept`; about half are the bare name, as in validation."""
    name, kind = concept.name, draw.random()
    if name.startswith("flag: ") and draw.random() < 0.5:
        name = f"flag of {name.removeprefix('flag: ')}"
    if kind < 0.5 or (kind >= 0.72 and not concept.keywords):
        return name
    if kind < 0.72:
        return draw.choice(TEMPLATES).format(name)
    words = draw.sample(concept.keywords, min(len(concept.keywords), draw.randint(1, 4)))
    return f"{name}, {', '.join(words)}" if kind < 0.9 else ", ".join(words)
