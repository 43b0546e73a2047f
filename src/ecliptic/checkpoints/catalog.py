"""The released models by name: "ARCH/TAG" -> sizes, activation, image preparation, repository.

Everything is data in `catalog.toml`; a new model is a new line there. No torch is imported here,
so that commands can list names quickly. `hub/` downloads the files.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ecliptic.errors import UnknownModelError, find_near
from ecliptic.inputs import ImageSpec
from ecliptic.model import Activation, ClipConfig, ResNetConfig, TextConfig, ViTConfig

OPEN_CLIP_PREFIX = "hf-hub:"  # of a repository, in open_clip
QUICK_GELU_SUFFIX = "-quickgelu"  # of open_clip's names for an architecture with QuickGELU
_ADVISED = 5  # names in a message


@dataclass(frozen=True)
class Row:
    """One set of released weights, and the facts that are needed to use them."""

    architecture: str
    tag: str
    hub: str  # "organisation/name" of the repository on the Hugging Face hub
    activation: Activation
    image_spec: ImageSpec

    @property
    def name(self) -> str:
        """The name that `find` takes."""
        return f"{self.architecture}/{self.tag}"

    @property
    def config(self) -> ClipConfig:
        """Sizes of both towers, with the activation these weights were trained with."""
        return architecture(self.name)


def names() -> tuple[str, ...]:
    """All "ARCH/TAG" names, in the order of the table."""
    return tuple(_rows())


def architectures() -> tuple[str, ...]:
    """All architectures, also those without released weights."""
    return tuple(_architectures())


def find(name: str) -> Row:
    """The weights called `name`.

    Args:
        name: "ViT-B-32/openai", or as another library spells it: openai/CLIP ("ViT-L/14@336px",
            "RN50"), open_clip ("ViT-B-32-quickgelu::laion2b-s34b-b79k", "hf-hub:laion/..."),
            transformers ("openai/clip-vit-base-patch32", or the repository of the weights).

    Raises:
        UnknownModelError: no weights have this name, or it names sizes only, or it asks for
            QuickGELU and the weights have GELU.
    """
    repository = name.removeprefix(OPEN_CLIP_PREFIX)
    if row := _by_repository().get(repository.lower()):
        return row
    spelled = _read_tables()["openai_names"].get(name, name).replace("::", "/")
    sizes, _, tag = spelled.rpartition("/")
    tag = tag.lower().replace("-", "_")  # open_clip takes capitals and dashes too
    row = _rows().get(f"{_normalise(sizes)}/{tag}")
    if row is None:
        raise UnknownModelError(name, names(), fix=refuse_others(name) or _advise(spelled))
    if sizes.endswith(QUICK_GELU_SUFFIX) and row.activation != "quick_gelu":
        raise UnknownModelError(
            name, fix=f"those weights were trained with GELU; they are called {row.name!r}."
        )
    return row


def architecture(name: str) -> ClipConfig:
    """Sizes of both towers.

    Args:
        name: an architecture, with the suffix "-quickgelu" for QuickGELU in place of GELU; or the
            name of weights, which decide the activation.

    Raises:
        UnknownModelError: no architecture and no weights have this name.
    """
    if config := _architectures().get(_normalise(name)):
        quick = name.endswith(QUICK_GELU_SUFFIX)
        return replace_activation(config, "quick_gelu") if quick else config
    if "/" not in name:
        raise UnknownModelError(name, architectures(), fix=refuse_others(name))
    row = find(name)
    return replace_activation(_architectures()[row.architecture], row.activation)


def replace_activation(config: ClipConfig, activation: Activation) -> ClipConfig:
    """The same sizes with `activation` in both towers; a ResNet always has ReLU."""
    image, text = config.image, config.text
    if isinstance(image, ViTConfig):
        image = replace(image, activation=activation)
    return replace(config, image=image, text=text and replace(text, activation=activation))


def _normalise(sizes: str) -> str:
    """The table's spelling of an architecture."""
    return sizes.removesuffix(QUICK_GELU_SUFFIX).replace("/", "-").replace("@336px", "-336")


def refuse_others(name: str) -> str:
    """The fix for the name of a model with other towers than CLIP's; else ""."""
    for mark, kind in _read_tables()["unsupported"].items():
        if re.search(rf"(?<![a-z]){re.escape(mark)}", name.lower()):
            return (
                f"this is {kind}, which is not supported: ecliptic reads only CLIP's own image and "
                "text towers; run `ecliptic models` to list the released ones."
            )
    return ""


def _advise(name: str) -> str:
    """The fix for an unknown name that has a known architecture or tag in it, else ""."""
    weights = _read_tables()["weights"]
    starts = (_normalise(part) for part in (name, name.rpartition("/")[0]))
    sizes = next((start for start in starts if start in weights), "")
    if sizes:
        if near := find_near(name.rpartition("/")[2], weights[sizes]):
            return f"did you mean '{sizes}/{near[0]}'? `ecliptic models {sizes}` lists all."
        tags = ", ".join(repr(f"{sizes}/{tag}") for tag in [*weights[sizes]][:_ADVISED])
        return f"write its weights too, such as {tags}; `ecliptic models {sizes}` lists them."
    wanted = name.lower().replace("-", "_")
    tagged = [repr(row.name) for row in _rows().values() if row.tag.startswith(wanted[:40])]
    more = ", ..." if len(tagged) > _ADVISED else ""
    found = ", ".join(tagged[:_ADVISED]) if len(wanted) > 2 else ""
    return f"weights of that name are called {found}{more}." if found else ""


@cache
def _read_tables() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("catalog.toml").read_text(encoding="utf-8"))


@cache
def _architectures() -> Mapping[str, ClipConfig]:
    tables = _read_tables()["architectures"]
    return {name: _make_config(table) for name, table in tables.items()}


@cache
def _rows() -> Mapping[str, Row]:
    weights = _read_tables()["weights"]
    rows = [
        _make_row(sizes, tag, dict(line))
        for sizes in weights
        for tag, line in weights[sizes].items()
    ]
    return {row.name: row for row in rows}


@cache
def _by_repository() -> Mapping[str, Row]:
    """The row of each repository of the hub, by its name in lower case."""
    rows = {row.hub.lower(): row for row in _rows().values()}
    return rows | {hub: _rows()[name] for hub, name in _read_tables()["hub_names"].items()}


def _make_config(table: Mapping[str, Any]) -> ClipConfig:
    if sizes := table.get("resnet"):
        image: ResNetConfig | ViTConfig = ResNetConfig(**{**sizes, "depths": (*sizes["depths"],)})
    else:
        image = ViTConfig(**table["vit"])
    return ClipConfig(embed=table["embed"], image=image, text=TextConfig(**table["text"]))


def _make_row(sizes: str, tag: str, line: dict[str, Any]) -> Row:
    hub = line.pop("hub")
    activation = line.pop("activation", "gelu")
    image = _architectures()[sizes].image
    assert image is not None
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in line.items()
    }
    return Row(sizes, tag, hub, activation, ImageSpec(size=image.image_size, **given))
