"""`read` and `write` for checkpoints of every layout."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal, NoReturn, get_args

from ecliptic.checkpoints.catalog import Row
from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.hints import Hints
from ecliptic.checkpoints.layouts import (
    diffusers,
    native,
    open_clip,
    openai,
    safety_checker,
    transformers,
)
from ecliptic.checkpoints.source import Source, find_single_weights
from ecliptic.errors import ConfigError, UnsupportedLayoutError
from ecliptic.storage import WEIGHT_SUFFIXES

Layout = Literal["ecliptic", "openai", "open_clip", "transformers"]

# The order matters: OpenAI's files also match open_clip, those of pipelines and safety checkers
# also transformers.
_READERS: tuple[ModuleType, ...] = (
    native,
    diffusers,
    openai,
    open_clip,
    safety_checker,
    transformers,
)
_WRITERS: dict[Layout, ModuleType] = {
    "ecliptic": native,
    "openai": openai,
    "open_clip": open_clip,
    "transformers": transformers,
}

# Suffixes of the single files that a layout can write; any other path becomes a folder.
_FILES: dict[Layout, tuple[str, ...]] = {"ecliptic": (".safetensors",), "openai": openai.SUFFIXES}


def read(path: Path | str, hints: Hints | None = None, row: Row | None = None) -> Checkpoint:
    """Read the checkpoint at `path`, in any layout; tensors are mapped, not copied.

    Args:
        path: a file or a folder.
        hints: settings that the file may not state.
        row: the catalog row of the checkpoint; used where `hints` are None.

    Raises:
        UnsupportedLayoutError: an unknown layout, or another kind of model.
        AmbiguousCheckpointError: the file does not state a setting; the message names the argument.
        WeightsMismatchError: tensors are missing, unexpected or of a wrong shape.
        ConfigError: impossible sizes, or a given spec that does not fit the towers.
        CorruptFileError, UnsafeFileError: from the safe reader, or an impossible value in a config.
    """
    source = Source(Path(path))
    hints = _add_row(hints or Hints(), row)
    reader = _find_reader(source)
    if reader is None and source.folder:
        source = find_single_weights(source)
        reader = _find_reader(source)
    if reader is None:
        _refuse_unknown(source)
    try:
        checkpoint: Checkpoint = reader.read(source, hints)
    except ConfigError as error:  # the caller's specs may be wrong: same class
        raise type(error)(f"{source.path}: {error}") from error
    return checkpoint if checkpoint.name else replace(checkpoint, name=source.stem)


def write(
    checkpoint: Checkpoint,
    path: Path | str,
    layout: Layout = "ecliptic",
    *,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write `checkpoint` so that `read` gives the same tensors, and the other projects load it.

    Args:
        checkpoint: what to write; its tensors keep their dtypes.
        path: a folder, or for "ecliptic" a `.safetensors` and for "openai" a `.pt` file.
        layout: "ecliptic", "openai", "open_clip" or "transformers".
        overwrite: replace files of the same names with other content.

    Returns:
        Notes on values that the layout does not store; no vector depends on them.

    Raises:
        UnsupportedLayoutError: the layout cannot hold this model, or writes no file with the
            suffix of `path`; the message says why.
        CheckpointError: `path` holds something else, and `overwrite` is False.
    """
    if layout not in _WRITERS:
        known = ", ".join(get_args(Layout))
        raise UnsupportedLayoutError(f"cannot write layout {layout!r}; use one of {known}.")
    _check_suffix(Path(path), layout)
    notes: tuple[str, ...] = _WRITERS[layout].write(checkpoint, Path(path), overwrite=overwrite)
    if layout == native.NAME:
        return notes
    left_out = {
        "the calibration of the card": checkpoint.calibration,
        "int8 layers; their weights are written as float32": checkpoint.quantisation,
    }
    lost = [what for what, value in left_out.items() if value is not None]
    return (*notes, *(f"the {layout} layout does not store {what}" for what in lost))


def _check_suffix(path: Path, layout: Layout) -> None:
    """Refuse the name of a weights file if the layout would write a folder of that name."""
    suffix = path.suffix.lower()
    if path.suffix in _FILES.get(layout, ()) or suffix not in WEIGHT_SUFFIXES:
        return
    writers = " or ".join(f'"{name}"' for name, suffixes in _FILES.items() if suffix in suffixes)
    instead = f"layout {writers} writes such a file" if writers else "no layout writes such a file"
    raise UnsupportedLayoutError(
        f"the {layout} layout does not write {path.name!r} as a file: {instead}; "
        "a path without suffix becomes a folder."
    )


def _find_reader(source: Source) -> ModuleType | None:
    return next((module for module in _READERS if module.matches(source)), None)


def _add_row(hints: Hints, row: Row | None) -> Hints:
    if row is None:
        return hints
    return replace(
        hints,
        activation=hints.activation or row.activation,
        image_spec=hints.image_spec or row.image_spec,
        name=hints.name or row.name,
    )


def _refuse_unknown(source: Source) -> NoReturn:
    names = list(source.open().tensors)
    raise UnsupportedLayoutError(
        f"{source.path} holds {len(names)} tensors ({', '.join(names[:3])}, ...), whose names "
        "match no known layout; ecliptic reads CLIP checkpoints with the names of OpenAI, "
        "open_clip, Hugging Face or diffusion models."
    )
