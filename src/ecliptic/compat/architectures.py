"""What a name of open_clip implies: the sizes of the model, and how to read its files."""

from dataclasses import fields, replace

import torch

from ecliptic.checkpoints import catalog
from ecliptic.compat.loading import Implied, Placement
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec
from ecliptic.model import ClipConfig, TwoTowers, ViTConfig, random_model
from ecliptic.runtime import find_numerics


def implied_settings(name: str, sizes: ClipConfig) -> Implied:
    """The settings that open_clip assumes for a file without settings under this name."""
    assert sizes.image  # the catalog's architectures have two towers
    assert sizes.text
    heads = (sizes.image.heads, sizes.text.heads)
    spec = ImageSpec(size=sizes.image.image_size)
    return Implied(
        by=f"{name!r} in open_clip",
        remedy="pass force_quick_gelu=True for weights trained with QuickGELU",
        activation=sizes.text.activation,
        heads=heads,
        image_spec=spec,
    )


def check_sizes(name: str, sizes: ClipConfig, path: str, found: ClipConfig) -> None:
    """Raise ConfigError if the architecture in a file is not the one of its name."""
    for tower in ("image", "text"):
        named, held = getattr(sizes, tower), getattr(found, tower)
        differing = [
            f"{field.name} {getattr(held, field.name, None)} (not {getattr(named, field.name)})"
            for field in fields(named)
            if field.name not in ("activation", "image_size", "eps")
            and getattr(held, field.name, None) != getattr(named, field.name)
        ]
        if differing:
            raise ConfigError(
                f"{path} is not a {name}: its {tower} tower has {', '.join(differing)}; "
                "pass the name of its architecture."
            )


def random_towers(name: str, placement: Placement) -> tuple[TwoTowers, ImageSpec]:
    """A model of a known architecture with random weights, seeded by `torch.manual_seed`."""
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
    towers = seeded_towers(ClipConfig(sizes.embed, image, text))
    towers.to(placement.device, find_numerics(placement.precision).weights)
    return towers, ImageSpec(size=image.image_size)


def seeded_towers(config: ClipConfig) -> TwoTowers:
    """A model with random weights that depend on `torch.manual_seed`."""
    return random_model(config, int(torch.randint(2**62, ()).item()))
