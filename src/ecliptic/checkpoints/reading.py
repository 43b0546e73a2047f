"""All layouts behind two functions: `read` finds out what a path is, `write` makes one."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

from ecliptic.checkpoints.catalog import Row
from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.hints import Hints
from ecliptic.checkpoints.layouts import diffusers, native, open_clip, openai, transformers
from ecliptic.checkpoints.source import Source, single_weights
from ecliptic.errors import ConfigError, UnsupportedLayoutError
from ecliptic.storage import WEIGHT_SUFFIXES

Layout = Literal["ecliptic", "openai", "open_clip", "transformers"]

# In this order: OpenAI's files also have open_clip's names, a pipeline also has other folders.
_READERS: tuple[ModuleType, ...] = (native, diffusers, openai, open_clip, transformers)
_WRITERS: dict[Layout, ModuleType] = {
    "ecliptic": native,
    "openai": openai,
    "open_clip": open_clip,
    "transformers": transformers,
}

# What each layout can write as one file; any other path becomes a folder.
_FILES: dict[Layout, tuple[str, ...]] = {"ecliptic": (".safetensors",), "openai": openai.SUFFIXES}


def read(path: Path | str, hints: Hints | None = None, row: Row | None = None) -> Checkpoint:
    """The checkpoint at `path`, whatever its layout; tensors are mapped, not copied.

    Args:
        path: a file or a folder.
        hints: the caller's answers to what the file may leave open.
        row: the catalog row it was located by; answers what `hints` do not.

    Raises:
        UnsupportedLayoutError: none of the layouts, or another kind of model.
        AmbiguousCheckpointError: something has to be said; the message names the argument.
        WeightsMismatchError: tensors missing, unexpected or ill-shaped; the first named.
        ConfigError: sizes that no model has, or a given spec that does not fit the towers.
        CorruptFileError, UnsafeFileError: from the safe reader, or a config without sense.
    """
    source = Source(Path(path))
    hints = _with_row(hints or Hints(), row)
    reader = _reader(source)
    if reader is None and source.folder:
        source = single_weights(source)
        reader = _reader(source)
    if reader is None:
        raise _unknown(source)
    try:
        checkpoint: Checkpoint = reader.read(source, hints)
    except ConfigError as error:  # the class stays: the caller's own specs may be what is wrong
        raise type(error)(f"{source.path}: {error}") from error
    return checkpoint if checkpoint.name else replace(checkpoint, name=source.stem)


def write(
    checkpoint: Checkpoint,
    path: Path | str,
    layout: Layout = "ecliptic",
    *,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write `checkpoint` so that `read` gives the same tensors, and the peers load it.

    Args:
        checkpoint: what to write; its tensors keep their dtypes.
        path: a folder, or for "ecliptic" a `.safetensors` and for "openai" a `.pt` file.
        layout: "ecliptic", "openai", "open_clip" or "transformers".
        overwrite: replace files of the same names that hold something else.

    Returns:
        Notes on what the layout does not store and no vector depends on.

    Raises:
        UnsupportedLayoutError: the layout cannot hold this model, or writes no file with the
            suffix of `path`; the message says why.
        CheckpointError: something else is there and `overwrite` is False.
    """
    if layout not in _WRITERS:
        known = ", ".join(get_args(Layout))
        raise UnsupportedLayoutError(f"cannot write layout {layout!r}; use one of {known}.")
    _check_suffix(Path(path), layout)
    notes: tuple[str, ...] = _WRITERS[layout].write(checkpoint, Path(path), overwrite=overwrite)
    return notes


def _check_suffix(path: Path, layout: Layout) -> None:
    """Refuse the name of a weights file where the layout would make a folder of it."""
    suffix = path.suffix.lower()
    if path.suffix in _FILES.get(layout, ()) or suffix not in WEIGHT_SUFFIXES:
        return
    writers = " or ".join(f'"{name}"' for name, suffixes in _FILES.items() if suffix in suffixes)
    instead = f"layout {writers} writes such a file" if writers else "no layout writes such a file"
    raise UnsupportedLayoutError(
        f"the {layout} layout does not write {path.name!r} as a file: {instead}; "
        "a path without suffix becomes a folder."
    )


def _reader(source: Source) -> ModuleType | None:
    return next((module for module in _READERS if module.matches(source)), None)


def _with_row(hints: Hints, row: Row | None) -> Hints:
    if row is None:
        return hints
    return replace(
        hints,
        activation=hints.activation or row.activation,
        image_spec=hints.image_spec or row.image_spec,
        name=hints.name or row.name,
    )


def _unknown(source: Source) -> UnsupportedLayoutError:
    names = list(source.open().tensors)
    return UnsupportedLayoutError(
        f"{source.path} holds {len(names)} tensors ({', '.join(names[:3])}, ...) under the names "
        "of no known layout; ecliptic reads CLIP as OpenAI, open_clip, Hugging Face and diffusion "
        "checkpoints name it."
    )
