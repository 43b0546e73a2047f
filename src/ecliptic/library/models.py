"""What a library says of its model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ecliptic.checkpoints import catalog
from ecliptic.engine import Card, Clip, load
from ecliptic.errors import ConfigError, SpaceMismatchError, warn
from ecliptic.index import ColumnType
from ecliptic.library.layout import LibraryAbout, write_about


def check_clip(folder: Path, about: LibraryAbout, clip: Clip) -> None:
    """Raise unless the model is of the space of a library.

    Raises:
        SpaceMismatchError: it is of another one.

    Warns:
        UserWarning: its vectors differ a little, by precision or preparation.
    """
    card = clip.card
    if card.space != about.space:
        then, now = about.settings.get("precision"), card.precision
        if about.name == card.name and then not in (None, now):
            raise SpaceMismatchError(
                f"{folder} was made with {about.name} in {then}, whose vectors cannot be compared "
                f"with those of this {card.name} in {now}; load it in {then}, as it was then."
            )
        raise SpaceMismatchError(
            f"{folder} was made with {about.name} (space {about.space[:12]}), but the "
            f"model is {card.name} (space {card.space[:12]}); use that model, or embed the "
            "pictures anew with reembed."
        )
    if card.exact != about.exact:
        warn(
            f"{folder} was made with {_differences(about.settings, settings_of(card))}; vectors "
            "may differ a little. Load the model as it was then to be sure.",
            stacklevel=None,
        )


def settings_of(card: Card) -> dict[str, str]:
    """What decides the bits of a vector, beside the weights."""
    preparation = {"pixels": "exact", **card.preprocess}
    preparation.pop("error", None)  # it follows from the pixels
    return {"precision": card.precision, **preparation}


def _differences(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The settings of a library that are others now, in words."""
    others = [name for name in now if name in then and then[name] != now[name]]
    if not others:
        return "another precision or preparation of images than the model has now"
    return ", ".join(f"{name}={then[name]} (now {now[name]})" for name in others)


def describe(clip: Clip, given: Clip | str, columns: Mapping[str, ColumnType]) -> LibraryAbout:
    """What a library of this model says about itself; `given` is what the user passed."""
    card = clip.card
    return LibraryAbout(
        name_source(given),
        card.name,
        card.space,
        card.exact,
        card.embed,
        dict(columns),
        settings_of(card),
    )


def name_source(clip: Clip | str) -> str:
    """What `load` takes to load the model again; "" if that is not known."""
    if isinstance(clip, str):
        return str(Path(clip).absolute()) if Path(clip).exists() else clip
    return known_name(clip.card.name)


def change_source(folder: Path, about: LibraryAbout, now: LibraryAbout) -> LibraryAbout:
    """Note the place from which a model of the same space is loaded.

    Warns:
        UserWarning: its vectors would differ a little, by precision or preparation.
    """
    if now.exact != about.exact:
        warn(
            f"{folder} keeps its vectors: {now.name} is of their space, and differs in precision "
            "or preparation of images only; to embed anew, make another library.",
            stacklevel=None,
        )
    changed = replace(about, model=now.model)
    if changed != about:
        write_about(folder, changed)
    return changed


def known_name(name: str) -> str:
    """The name of a model if `load` takes it, else ""."""
    return name if name in {"mini", *catalog.names()} else ""


def load_own(folder: Path, about: LibraryAbout) -> Clip:
    """Load the model that made a library.

    Raises:
        ConfigError: it was not made from a name or path that is known.
        SpaceMismatchError: what has its name is another model now.
    """
    if not about.model:
        raise ConfigError(
            f"{folder} was made with {about.name}, but not from a name or path that is known; pass "
            "the model to Library.open."
        )
    clip = load(about.model)
    check_clip(folder, about, clip)
    return clip
