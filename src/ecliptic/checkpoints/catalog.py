"""The released models by name: "ARCH/TAG" -> sizes, activation, image preparation, repository.

Everything is data in `catalog.toml`; a new model is a new line there. No torch is imported here,
so that commands can list names quickly. Fetching the files is `location.py`'s work.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ecliptic.errors import UnknownModelError
from ecliptic.inputs import ImageSpec
from ecliptic.model import Activation, ClipConfig, ResNetConfig, TextConfig, ViTConfig

QUICK_GELU_SUFFIX = "-quickgelu"  # open_clip's way to ask for QuickGELU in an architecture's name


@dataclass(frozen=True)
class Row:
    """One set of released weights, and what has to be known to use them."""

    architecture: str
    tag: str
    hub: str  # "organisation/name" of the repository on the Hugging Face hub
    activation: Activation
    image_spec: ImageSpec

    @property
    def name(self) -> str:
        """The name that `find` knows it by."""
        return f"{self.architecture}/{self.tag}"

    @property
    def config(self) -> ClipConfig:
        """Sizes of both towers, with the activation these weights were trained with."""
        return architecture(self.name)


def names() -> tuple[str, ...]:
    """All "ARCH/TAG" names, in the order of the table."""
    return tuple(_rows())


def architectures() -> tuple[str, ...]:
    """All architectures, those without released weights too."""
    return tuple(_architectures())


def find(name: str) -> Row:
    """The weights called `name`.

    Args:
        name: "ViT-B-32/openai"; the spelling of open_clip ("ViT-B-32-quickgelu/openai",
            "laion2b-s34b-b79k") and the names of openai/CLIP with a slash ("ViT-L/14@336px") too.

    Raises:
        UnknownModelError: nothing is called so, or it names sizes only, or asks for QuickGELU
            where the weights have GELU.
    """
    sizes, _, tag = _openai_names().get(name, name).rpartition("/")
    plain = _plain(sizes)
    row = _rows().get(f"{plain}/{_plain_tag(tag)}")
    if row is None:
        raise UnknownModelError(name, names(), fix=_advice(name))
    if sizes.endswith(QUICK_GELU_SUFFIX) and row.activation != "quick_gelu":
        raise UnknownModelError(
            name, fix=f"those weights were trained with GELU; they are called {row.name!r}."
        )
    return row


def architecture(name: str) -> ClipConfig:
    """Sizes of both towers.

    Args:
        name: an architecture, with "-quickgelu" behind it for that activation in place of GELU;
            or the name of weights, which decide the activation.

    Raises:
        UnknownModelError: nothing is called so.
    """
    if config := _architectures().get(_plain(name)):
        return _activated(config, "quick_gelu") if name.endswith(QUICK_GELU_SUFFIX) else config
    if "/" not in name:
        raise UnknownModelError(name, architectures())
    row = find(name)
    return _activated(_architectures()[row.architecture], row.activation)


def _plain(sizes: str) -> str:
    """The table's spelling of an architecture."""
    return sizes.removesuffix(QUICK_GELU_SUFFIX).replace("/", "-").replace("@336px", "-336")


def _plain_tag(tag: str) -> str:
    """The table's spelling of a tag; open_clip takes capitals and dashes too."""
    return tag.lower().replace("-", "_")


def _advice(name: str) -> str:
    """What to do about an unknown name that begins like a known one, else ""."""
    sizes = next((part for part in (name, name.rpartition("/")[0]) if _plain(part) in _tags()), "")
    if not sizes:
        return ""
    tags = ", ".join(repr(f"{_plain(sizes)}/{tag}") for tag in _tags()[_plain(sizes)])
    return f"the weights of these sizes are called {tags}."


def _activated(config: ClipConfig, activation: Activation) -> ClipConfig:
    image, text = config.image, config.text
    if isinstance(image, ViTConfig):  # a ResNet has ReLU, whatever its text tower has
        image = replace(image, activation=activation)
    return replace(config, image=image, text=text and replace(text, activation=activation))


@cache
def _tables() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))


@cache
def _openai_names() -> Mapping[str, str]:
    names: dict[str, str] = _tables()["openai_names"]
    return MappingProxyType(names)


@cache
def _architectures() -> Mapping[str, ClipConfig]:
    return MappingProxyType(
        {name: _config(table) for name, table in _tables()["architectures"].items()}
    )


@cache
def _tags() -> Mapping[str, tuple[str, ...]]:
    return {name: tuple(rows) for name, rows in _tables()["weights"].items()}


@cache
def _rows() -> Mapping[str, Row]:
    weights = _tables()["weights"]
    rows = [
        _row(sizes, tag, dict(line)) for sizes in weights for tag, line in weights[sizes].items()
    ]
    return MappingProxyType({row.name: row for row in rows})


def _config(table: Mapping[str, Any]) -> ClipConfig:
    if sizes := table.get("resnet"):
        image: ResNetConfig | ViTConfig = ResNetConfig(**{**sizes, "depths": (*sizes["depths"],)})
    else:
        image = ViTConfig(**table["vit"])
    return ClipConfig(embed=table["embed"], image=image, text=TextConfig(**table["text"]))


def _row(sizes: str, tag: str, line: dict[str, Any]) -> Row:
    hub = line.pop("hub")
    activation = line.pop("activation", "gelu")
    image = _architectures()[sizes].image
    assert image is not None
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in line.items()
    }
    return Row(sizes, tag, hub, activation, ImageSpec(size=image.image_size, **given))
