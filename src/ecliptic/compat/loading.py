"""Loading by the old names: a name of the other project fills in what a file does not state."""

from dataclasses import dataclass
from pathlib import Path

from ecliptic.engine import Clip, Precision, load
from ecliptic.errors import AmbiguousCheckpointError, warn
from ecliptic.inputs import ImageSpec
from ecliptic.model import Activation


@dataclass(frozen=True)
class Placement:
    """The device, precision, image size and activation to load a model with."""

    device: str = "auto"
    precision: Precision = "auto"
    image_size: int | None = None  # pixels; None is the trained size
    activation: Activation | None = None  # as the caller demands; overrides an implied one


@dataclass(frozen=True)
class Implied:
    """The settings of a name in the other project, used only if the file does not state them."""

    by: str  # the name and the project, for the warning
    remedy: str  # what to do if they are wrong
    activation: Activation
    heads: tuple[int, int] | None = None  # image, text
    image_spec: ImageSpec | None = None


def load_as_named(source: str | Path, placement: Placement, implied: Implied | None = None) -> Clip:
    """Load `source`; if the file is ambiguous, warn and load it with the implied settings.

    Raises:
        AmbiguousCheckpointError: the file and the name leave a setting open.
    """
    try:
        return _load(source, placement)
    except AmbiguousCheckpointError as error:
        if implied is None:
            raise _ask_name(source) from error
    warn(
        f"{source} does not state all settings that its vectors depend on, so ecliptic uses those "
        f"that {implied.by} implies: {_describe(placement, implied)}. If the weights were trained "
        f"with others, every vector is wrong: {implied.remedy}.",
        UserWarning,
        stacklevel=3,
    )
    try:
        return _load(source, placement, implied)
    except AmbiguousCheckpointError as error:
        raise _ask_name(source) from error


def _ask_name(source: str | Path) -> AmbiguousCheckpointError:
    return AmbiguousCheckpointError(
        f"{source} does not state its activation, heads or image preparation, and neither does "
        "this way of loading it; name its architecture, as in "
        f'open_clip.create_model("ViT-B-32", pretrained="{source}"), or use ecliptic.load, which '
        "takes these settings as arguments."
    )


def _describe(placement: Placement, implied: Implied) -> str:
    """The assumed settings in words."""
    assumed: list[str] = [placement.activation or implied.activation]
    if implied.heads:
        assumed.append("{} and {} heads".format(*implied.heads))
    if implied.image_spec:
        assumed.append(str(implied.image_spec))
    return ", ".join(assumed)


def _load(source: str | Path, placement: Placement, implied: Implied | None = None) -> Clip:
    return load(
        source,
        device=placement.device,
        precision=placement.precision,
        kernels="plain",  # scripts change these models in ways that torch does not count
        image_size=placement.image_size,
        activation=placement.activation or (implied.activation if implied else None),
        heads=implied.heads if implied else None,
        image_spec=implied.image_spec if implied else None,
    )


def warn_of_folder(argument: str, value: object) -> None:
    """Warn that the folder of downloads is not used, because the hub has its own cache."""
    if value is not None:
        warn(
            f"{argument}={str(value)!r} is not used: downloads go to the Hugging Face hub's cache; "
            "set HF_HOME to move it.",
            UserWarning,
            stacklevel=3,
        )
