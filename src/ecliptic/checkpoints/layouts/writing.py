"""Writes the files of a checkpoint: all or none, and never over another checkpoint."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import CheckpointError, UnsupportedLayoutError
from ecliptic.model import ordinary
from ecliptic.storage import (
    Drafts,
    Writer,
    find_changes,
    make_folder,
    replace_files,
    text_writer,
    write_safetensors,
)

MARKERS = ("ecliptic.json", "open_clip_config.json", "config.json", "model_index.json")


def write_files(folder: Path, writers: Mapping[str, Writer], *, overwrite: bool) -> None:
    """Write all files of a checkpoint or none, in the order of `writers`.

    Put the file that identifies the layout last, so that an unfinished folder has no layout.
    Rewriting the same content is allowed; files of other names are never touched.

    Raises:
        CheckpointError: a file with other content exists and `overwrite` is False, or the folder
            holds the config of another layout, or a file is in the place of the folder.
        StorageError: it cannot be written.
    """
    make_folder(folder, CheckpointError)
    if any(name in writers for name in MARKERS):
        _refuse_mixture(folder, writers)

    def check(drafts: Drafts) -> None:
        if not overwrite and (changed := find_changes(drafts)):
            raise CheckpointError(
                f"{folder} already holds another {', '.join(changed)}; "
                "choose another path, or pass overwrite=True."
            )

    replace_files({folder / name: write for name, write in writers.items()}, check)


def json_writer(value: Mapping[str, Any]) -> Writer:
    """Readable JSON with a final newline."""
    return text_writer(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def tensor_writer(tensors: Mapping[str, Tensor], **metadata: str) -> Writer:
    """A safetensors file, with the "format" that Hugging Face's readers need."""

    def write(path: Path) -> None:
        compacted = {name: compact(tensor) for name, tensor in tensors.items()}
        write_safetensors(path, compacted, {"format": "pt", **metadata})

    return write


def compact(tensor: Tensor) -> Tensor:
    """The tensor, contiguous and alone in its storage; copied only if needed."""
    tensor = ordinary(tensor.detach())
    if tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor.contiguous()
    return tensor.clone(memory_format=torch.contiguous_format)


def check_obstacles(layout: str, obstacles: Iterable[str]) -> None:
    """Raise UnsupportedLayoutError with all reasons why `layout` cannot hold a checkpoint."""
    if reasons := "; ".join(obstacles):
        raise UnsupportedLayoutError(
            f"the {layout} layout cannot hold this checkpoint: {reasons}. "
            'Save it with layout="ecliptic", which holds everything.'
        )


def _refuse_mixture(folder: Path, writers: Mapping[str, Writer]) -> None:
    others = [name for name in MARKERS if name not in writers and (folder / name).exists()]
    if others:
        raise CheckpointError(
            f"{folder} holds {', '.join(others)} of another layout, and a folder of two layouts "
            "is ambiguous; choose another folder."
        )
