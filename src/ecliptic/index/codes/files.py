"""The files of codes: one for each data file of a table, which can be made again at any time.

A file of codes is named after its data file. One that is missing, damaged or of another format is
made anew, so nothing is lost with it.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError, EclipticError, StorageError
from ecliptic.index.codes.coding import Codes
from ecliptic.storage import (
    make_folder,
    read_safetensors,
    release,
    replace_file,
    write_safetensors,
)

SUFFIX = ".safetensors"
_FORMAT = "1"  # increased when older codes cannot be used
_TENSORS = ("codes", "scales", "mean", "offsets")


def codes_path(folder: Path, data_file: str) -> Path:
    """The file of the codes of a data file."""
    return folder / f"{Path(data_file).stem}{SUFFIX}"


def open_codes(folder: Path, data_file: str, rows: int, make: Callable[[], Codes]) -> Codes:
    """The codes of a data file, mapped from their file; made and written if there is none.

    Args:
        folder: of the codes.
        data_file: its name.
        rows: of the data file; codes may have fewer, if rows were deleted before they were made.
        make: codes the rows.
    """
    path = codes_path(folder, data_file)
    found = _read(path, data_file, rows)
    if found is not None:
        return found
    codes = make()
    try:
        make_folder(folder)
        replace_file(path, partial(_write, codes=codes, data_file=data_file))
    except StorageError:  # it may only be read, or the disk is full: they stay in memory
        return codes
    return _read(path, data_file, rows) or codes


def _write(path: Path, codes: Codes, data_file: str) -> None:
    tensors = {name: getattr(codes, name).contiguous() for name in _TENSORS}
    metadata = {"format": _FORMAT, "data_file": data_file, "sha256": _sum_up(tensors)}
    write_safetensors(path, tensors, metadata)


def _read(path: Path, data_file: str, rows: int) -> Codes | None:
    """The codes in a file; None if they cannot be used."""
    try:
        file = read_safetensors(path)
        codes = Codes(*(file.tensors[name] for name in _TENSORS))
    except (EclipticError, OSError, KeyError):
        return None
    count, width = len(codes.offsets), codes.mean.numel()
    about = {"format": _FORMAT, "data_file": data_file}
    fits = (
        about.items() <= file.metadata.items()
        and codes.codes.shape == (count, width)
        and codes.codes.dtype == torch.int8
        and codes.scales.shape == (count,)
        and codes.offsets.dtype == torch.int32
        and count <= rows
        and (not count or int(codes.offsets.max()) < rows)
    )
    return codes if fits else None


def damaged_codes(folder: Path, data_files: Iterable[str]) -> list[Path]:
    """Files of codes whose bytes are not those that were written."""
    paths = (codes_path(folder, name) for name in data_files)
    return [path for path in paths if path.exists() and not _is_intact(path)]


def _is_intact(path: Path) -> bool:
    try:
        file = read_safetensors(path)
    except (CorruptFileError, StorageError, OSError):
        return False
    intact = file.metadata.get("sha256") == _sum_up(file.tensors)
    for tensor in file.tensors.values():
        release(tensor)
    return intact


def remove_codes(folder: Path, kept: Iterable[str]) -> None:
    """Remove files of codes but those of the data files `kept`."""
    names = {codes_path(folder, name).name for name in kept}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in names and path.suffix == SUFFIX:
            path.unlink(missing_ok=True)


def _sum_up(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
