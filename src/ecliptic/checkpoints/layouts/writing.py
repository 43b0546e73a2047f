"""The files of a checkpoint: written whole or not at all, never over another checkpoint."""

import filecmp
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from ecliptic.errors import CheckpointError, UnsupportedLayoutError
from ecliptic.storage import Drafts, Writer, replace_files, write_safetensors

MARKERS = ("ecliptic.json", "open_clip_config.json", "config.json", "model_index.json")


def write_files(folder: Path, writers: Mapping[str, Writer], *, overwrite: bool) -> None:
    """Write the files of a checkpoint whole or not at all, in the order of `writers`.

    Put the file by which a folder is recognised last: a folder cut short is then not recognised.
    Rewriting the same content is allowed; files of other names are never touched.

    Raises:
        CheckpointError: a file with other content is there and `overwrite` is False, or the
            folder holds the config of another layout, or a file is where it should be.
        StorageError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(
            f"{folder} cannot be a folder, because it or a part of it is a file; choose another "
            "path."
        ) from None
    if any(name in writers for name in MARKERS):
        _refuse_mixture(folder, writers)

    def check(drafts: Drafts) -> None:
        taken = [path.name for path, draft in drafts.items() if _differs(draft, path)]
        if taken and not overwrite:
            raise CheckpointError(
                f"{folder} already holds another {', '.join(taken)}; "
                "choose another path, or pass overwrite=True."
            )

    replace_files({folder / name: write for name, write in writers.items()}, check)


def json_writer(value: Mapping[str, Any]) -> Writer:
    """Readable JSON with a final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8")


def text_writer(text: str) -> Writer:
    """UTF-8 with plain newlines."""
    return lambda path: path.write_bytes(text.encode())


def tensor_writer(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Writer:
    """A safetensors file; Hugging Face's readers ask for `{"format": "pt"}` in `metadata`."""

    def write(path: Path) -> None:
        write_safetensors(path, {name: compact(t) for name, t in tensors.items()}, metadata)

    return write


def compact(tensor: Tensor) -> Tensor:
    """The same values in order, in a storage that holds nothing else; copied only if needed."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return (
        tensor.detach().contiguous()
        if whole
        else tensor.detach().clone(memory_format=torch.contiguous_format)
    )


def refuse_layout(layout: str, reasons: list[str]) -> NoReturn:
    """Say everything about a checkpoint that `layout` cannot hold.

    Raises:
        UnsupportedLayoutError: always.
    """
    raise UnsupportedLayoutError(
        f"the {layout} layout cannot hold this checkpoint: {'; '.join(reasons)}. "
        'Save it with layout="ecliptic", which holds everything.'
    )


def _refuse_mixture(folder: Path, writers: Mapping[str, Writer]) -> None:
    others = [name for name in MARKERS if name not in writers and (folder / name).exists()]
    if others:
        raise CheckpointError(
            f"{folder} holds {', '.join(others)} of another layout, and both together could not "
            "be told apart; choose another folder."
        )


def _differs(new: Path, old: Path) -> bool:
    return old.exists() and not (old.is_file() and filecmp.cmp(new, old, shallow=False))
