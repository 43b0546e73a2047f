"""Files that appear whole or not at all, and never over somebody's other checkpoint."""

import filecmp
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import safetensors.torch
import torch
from torch import Tensor

from ecliptic.errors import CheckpointError, UnsupportedLayoutError

Writer = Callable[[Path], object]

MARKERS = ("ecliptic.json", "open_clip_config.json", "config.json", "model_index.json")


def write_files(folder: Path, writers: Mapping[str, Writer], *, overwrite: bool) -> None:
    """Write beside the target, then rename into place, in the order of `writers`.

    Put the file by which a folder is recognised last: a folder cut short is then not recognised.
    Rewriting the same content is allowed; files of other names are never touched.

    Raises:
        CheckpointError: a file with other content is there and `overwrite` is False, or the
            folder holds the config of another layout, or a file is where it should be.
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
    with TemporaryDirectory(prefix=".writing-", dir=folder) as stage:
        for name, write in writers.items():
            write(Path(stage) / name)
        taken = [name for name in writers if _differs(Path(stage) / name, folder / name)]
        if taken and not overwrite:
            raise CheckpointError(
                f"{folder} already holds another {', '.join(taken)}; "
                "choose another path, or pass overwrite=True."
            )
        for name in writers:
            os.replace(Path(stage) / name, folder / name)  # noqa: PTH105 - same file system


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
        plain = {name: compact(tensor) for name, tensor in tensors.items()}
        path.touch()
        mode = path.stat().st_mode  # safetensors makes files that only their owner can read
        safetensors.torch.save_file(plain, path, dict(metadata))
        path.chmod(mode)

    return write


def compact(tensor: Tensor) -> Tensor:
    """The same values in order, in a storage that holds nothing else; copied only if needed."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes
    return (
        tensor.detach().contiguous()
        if whole
        else tensor.detach().clone(memory_format=torch.contiguous_format)
    )


def refuse(layout: str, reasons: list[str]) -> NoReturn:
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
