"""Random weights of released sizes, written once to a temporary folder in every layout.

Speed and memory do not depend on the values, so no download is needed.
"""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from ecliptic.checkpoints import Checkpoint, Layout, catalog, write
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, random_model

CACHE = Path(tempfile.gettempdir()) / "ecliptic-benchmarks"
CAPTIONS = (
    "a photo of {} on a sunny day",
    "{} seen from above",
    "two people with {} in front of a house by the river",
    "a black and white drawing of {}",
    "close-up of {}, shallow depth of field, soft morning light",
)
THINGS = ("a red bicycle", "the harbour", "three kittens", "a wooden boat", "fresh bread", "a tram")


def captions(count: int) -> list[str]:
    """Distinct captions of 5 to 15 words."""
    pairs = [template.format(thing) for template in CAPTIONS for thing in THINGS]
    return [f"{pairs[n % len(pairs)]} {n}" for n in range(count)]


def sizes(name: str, sides: str) -> ClipConfig:
    """Config of a released architecture ("both"), or of one of its towers ("image", "text")."""
    config = catalog.architecture(name)
    if sides == "both":
        return config
    return replace(config, **{"image" if sides == "text" else "text": None})


def make_checkpoint(name: str, layout: Layout, sides: str = "both") -> Path:
    """Write a checkpoint of these sizes in `layout`, unless it exists; returns its path."""
    path = CACHE / f"{name}-{sides}-{layout}"
    if path.exists():
        return path
    config = sizes(name, sides)
    weights = random_model(config).state_dict()
    if sides != "both":
        del weights["logit_scale"]  # a temperature relates two towers
    checkpoint = Checkpoint(
        config=config,
        weights=weights,
        image_spec=ImageSpec(size=config.image.image_size) if config.image else None,
        tokenizer_spec=TokenizerSpec() if config.text else None,
        name=name,
    )
    part = path.with_name(f"{path.name}.{os.getpid()}")
    write(checkpoint, part, layout)
    part.rename(path)
    return path
