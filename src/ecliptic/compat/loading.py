"""Loading by the old names: what a name implied there answers what a file here leaves open."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from ecliptic.engine import Clip, Precision, load
from ecliptic.errors import AmbiguousCheckpointError
from ecliptic.inputs import ImageSpec
from ecliptic.model import Activation


@dataclass(frozen=True)
class Placement:
    """Where, how and at what size a model is wanted."""

    device: str = "auto"
    precision: Precision = "auto"
    image_size: int | None = None  # pixels; None is the trained size
    activation: Activation | None = None  # the caller's own word, before anything implied


@dataclass(frozen=True)
class Implied:
    """What a name meant to the other project, used only where the file does not tell."""

    by: str  # the name and the project, for the warning
    activation: Activation | None
    heads: tuple[int, int] | None = None  # image, text
    image_spec: ImageSpec | None = None


def load_as_named(source: str | Path, placement: Placement, implied: Implied | None = None) -> Clip:
    """`load`; where the file is ambiguous, once more with what the name implies, and a warning."""
    try:
        return _load(source, placement, Implied("", None))
    except AmbiguousCheckpointError as question:
        if implied is None:
            raise
        warnings.warn(
            f"{question} Until then, {implied.by} stands for {_spelled(placement, implied)}. If "
            "the weights were trained with something else, every vector is wrong.",
            UserWarning,
            stacklevel=3,
        )
    return _load(source, placement, implied)


def _spelled(placement: Placement, implied: Implied) -> str:
    """What will be assumed, in words."""
    assumed = [str(placement.activation or implied.activation)]
    if implied.heads:
        assumed.append("{} and {} heads".format(*implied.heads))
    if implied.image_spec:
        assumed.append(str(implied.image_spec))
    return ", ".join(assumed)


def _load(source: str | Path, placement: Placement, implied: Implied) -> Clip:
    return load(
        source,
        device=placement.device,
        precision=placement.precision,
        image_size=placement.image_size,
        activation=placement.activation or implied.activation,
        heads=implied.heads,
        image_spec=implied.image_spec,
    )


def warn_of_folder(argument: str, value: object) -> None:
    """Say that the folder of downloads is the hub's own affair."""
    if value is not None:
        warnings.warn(
            f"{argument}={str(value)!r} is not used: downloads go to the Hugging Face hub's cache; "
            "set HF_HOME to move it.",
            UserWarning,
            stacklevel=3,
        )
