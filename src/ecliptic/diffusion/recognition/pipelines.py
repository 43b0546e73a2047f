"""Tells the family of a diffusers pipeline from its folder: `model_index.json` and its encoders.

The index names the class of the pipeline; a family lists how the names of its classes begin, so
that variants for images, masks and ControlNet count too. SD 1 and SD 2 share their classes and
differ in the text encoder; SDXL's base and refiner differ in how many encoders they have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecliptic.adapters import part_of_width
from ecliptic.diffusion.families import FAMILIES, Family
from ecliptic.diffusion.recognition.without_clip import explain_missing_family
from ecliptic.errors import ConfigError, UnknownModelError
from ecliptic.storage import read_json

INDEX = "model_index.json"  # of a diffusers pipeline
# Classes whose names begin like those of a family, but that read something else.
OTHERS = (
    "StableDiffusionLatentUpscale",  # CLIP-L's last layer without its norm
    "StableDiffusionImageVariation",  # images
)
_PARTS = {"quick_gelu": ("clip_l",), "gelu": ("clip_h", "clip_g")}  # of an encoder of any width


def recognise_family(folder: str | Path) -> Family:
    """The family of the diffusers pipeline in `folder`.

    Raises:
        UnknownModelError: there is no such folder.
        ConfigError: it has no index, or the index names a class of no family.
    """
    folder = Path(folder)
    if not folder.exists():
        names = ", ".join(FAMILIES)
        raise UnknownModelError(
            f"{folder}", fix=f"pass the folder of a diffusers pipeline, or one of {names}."
        )
    if not (folder / INDEX).is_file():
        raise ConfigError(
            f"{folder} has no {INDEX}, so nothing tells which model it is for; {_name_one(folder)}"
        )
    index = read_json(folder / INDEX)
    fitting = _find_fitting(folder, index)
    if why := explain_missing_family(f"{index.get('_class_name')}"):
        raise ConfigError(f"{folder}: {why}")
    if not fitting:
        raise ConfigError(
            f"no known family reads the text encoders of {folder}, a {index.get('_class_name')}; "
            + _name_one(folder)
        )
    return _largest(fitting)


def check_family(family: Family, folder: Path) -> None:
    """Raise ConfigError if the index of `folder` names a pipeline of other families."""
    if not family.pipelines or not (folder / INDEX).is_file():
        return
    index = read_json(folder / INDEX)
    fitting = _find_fitting(folder, index)
    if fitting and family not in fitting:
        right = _largest(fitting).name
        raise ConfigError(
            f'{folder} is a {index.get("_class_name")} with the text encoders of "{right}", not of '
            f'"{family.name}"; pass "{right}", or another folder.'
        )


def _largest(families: list[Family]) -> Family:
    return max(families, key=lambda family: len(family.encoders))


def _name_one(folder: Path) -> str:
    return f'pass the family too, as in conditioner("sdxl", "{folder}"): {", ".join(FAMILIES)}.'


def _find_fitting(folder: Path, index: Mapping[str, Any]) -> list[Family]:
    """The families that a pipeline can be of; several if the smaller one reads a part of it."""
    name = f"{index.get('_class_name')}"
    if explain_missing_family(name):
        return []
    prefixes = {prefix: family for family in FAMILIES.values() for prefix in family.pipelines}
    best = max(filter(name.startswith, (*prefixes, *OTHERS)), key=len, default="")
    rows = [family for family in FAMILIES.values() if best in family.pipelines]
    held = {part for part, value in index.items() if isinstance(value, list) and any(value)}
    whole = [row for row in rows if {rule.folder for rule in row.encoders} <= held]
    return _choose_by_encoder(folder, whole)


def _choose_by_encoder(folder: Path, rows: list[Family]) -> list[Family]:
    """Those of `rows` whose first encoder is the one in the folder; all if it is of none."""
    chosen = []
    for row in rows:
        path = folder / row.encoders[0].folder / "config.json" if row.encoders else folder
        config = read_json(path) if path.is_file() else {}
        part = part_of_width(config.get("hidden_size", 0))
        parts = (part,) if part else _PARTS.get(config.get("hidden_act", ""), ())
        if row.encoders and row.encoders[0].part in parts:
            chosen.append(row)
    return chosen or rows
