"""What open_clip's name of an architecture says: sizes, and how its files are read."""

from dataclasses import fields, replace

import torch

from ecliptic.checkpoints import catalog
from ecliptic.compat.loading import Implied, Placement
from ecliptic.engine import DTYPES
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec
from ecliptic.model import ClipConfig, TwoTowers, ViTConfig, random_model


def implied_by(name: str, sizes: ClipConfig) -> Implied:
    """What open_clip takes a bare file for when it is told this name."""
    assert sizes.image  # the catalog's architectures have two towers
    assert sizes.text
    heads = (sizes.image.heads, sizes.text.heads)
    spec = ImageSpec(size=sizes.image.image_size)
    return Implied(f"{name!r} in open_clip", sizes.text.activation, heads, spec)


def check_sizes(name: str, sizes: ClipConfig, path: str, found: ClipConfig) -> None:
    """ConfigError if a file holds another architecture than its name says."""
    for tower in ("image", "text"):
        said, held = getattr(sizes, tower), getattr(found, tower)
        differing = [
            f"{field.name} {getattr(held, field.name, None)} (not {getattr(said, field.name)})"
            for field in fields(said)
            if field.name not in ("activation", "image_size", "eps")
            and getattr(held, field.name, None) != getattr(said, field.name)
        ]
        if differing:
            raise ConfigError(
                f"{path} is not a {name}: its {tower} tower has {', '.join(differing)}; "
                "pass the name of its own architecture."
            )


def random_towers(name: str, placement: Placement) -> tuple[TwoTowers, ImageSpec]:
    """Seeded random weights (by `torch.manual_seed`) of a known architecture."""
    sizes = catalog.architecture(name)
    image, text = sizes.image, sizes.text
    assert image
    assert text
    if placement.image_size:
        image = replace(image, image_size=placement.image_size)
    if placement.activation:
        text = replace(text, activation=placement.activation)
        if isinstance(image, ViTConfig):
            image = replace(image, activation=placement.activation)
    seed = int(torch.randint(2**62, ()).item())  # follows torch.manual_seed
    towers = random_model(ClipConfig(sizes.embed, image, text), seed)
    towers.to(placement.device, DTYPES[placement.precision])
    return towers, ImageSpec(size=image.image_size)
