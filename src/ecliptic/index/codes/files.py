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
from ecliptic.index.codes.lists import NAME
from ecliptic.storage import (
    drafts_of,
    make_folder,
    read_safetensors,
    release,
    replace_file,
    write_safetensors,
)

SUFFIX = ".safetensors"
_FORMAT = "2"  # increased when older codes cannot be used
_TENSORS = ("codes", "scales", "mean", "offsets", "starts")


def codes_path(folder: Path, data_file: str) -> Path:
    """The file of the codes of a data file."""
    return folder / f"{Path(data_file).stem}{SUFFIX}"


def open_codes(
    folder: Path,
    data_file: str,
    rows: int,
    make: Callable[[], Codes],
    suits: Callable[[Codes], bool] = lambda _: True,
) -> Codes:
    """The codes of a data file, mapped from their file; made and written if there is none.

    Args:
        folder: of the codes.
        data_file: its name.
        rows: of the data file; codes may have fewer, if rows were deleted before they were made.
        make: codes the rows.
        suits: whether codes have all rows that are there.
    """
    path = codes_path(folder, data_file)
    found = _read(path, data_file, rows)
    if found is not None and suits(found):
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
    about = _describe(data_file) | {"lists": codes.lists, "sha256": _sum_up(tensors)}
    write_safetensors(path, tensors, about)


def _describe(data_file: str) -> dict[str, str]:
    """The metadata, but for the lists and the checksum."""
    return {"format": _FORMAT, "data_file": data_file}


def _read(path: Path, data_file: str, rows: int) -> Codes | None:
    """The codes in a file; None if they cannot be used."""
    try:
        file = read_safetensors(path)
        tensors = {name: file.tensors[name] for name in _TENSORS}
        codes = Codes(**tensors, lists=file.metadata["lists"])
    except (EclipticError, OSError, KeyError):
        return None
    count, width = len(codes.offsets), codes.mean.numel()
    fits = (
        _describe(data_file).items() <= file.metadata.items()
        and codes.codes.shape == (count, width)
        and codes.codes.dtype == torch.int8
        and codes.scales.shape == (count,)
        and codes.offsets.dtype == torch.int32
        and count <= rows
        and (not count or _are_sound(codes, rows))
    )
    return codes if fits else None


def _are_sound(codes: Codes, rows: int) -> bool:
    """Whether each code is of another row of the file, and scores are numbers."""
    offsets = codes.offsets
    if codes.lists:
        if not _have_lists(codes):
            return False
        offsets = offsets.sort().values
    ascending = bool((offsets[1:] > offsets[:-1]).all())
    inside = int(offsets[0]) >= 0 and int(offsets[-1]) < rows
    return (
        ascending and inside and bool(codes.scales.isfinite().all() & codes.mean.isfinite().all())
    )


def _have_lists(codes: Codes) -> bool:
    """Whether the lists follow each other, and have all rows."""
    starts = codes.starts
    ends = len(starts) > 1 and int(starts[0]) == 0 and int(starts[-1]) == len(codes)
    return starts.dtype == torch.int32 and ends and bool((starts[1:] >= starts[:-1]).all())


def damaged_codes(folder: Path, data_files: Iterable[str]) -> list[Path]:
    """Files of codes whose bytes are not those that were written."""
    paths = ((codes_path(folder, name), name) for name in data_files)
    return [path for path, name in paths if path.exists() and not _is_intact(path, name)]


def _is_intact(path: Path, data_file: str) -> bool:
    try:
        file = read_safetensors(path)
    except (CorruptFileError, StorageError, OSError):
        return False
    if file.metadata.get("format", _FORMAT) != _FORMAT:
        return True  # of another version, which the next search makes again
    about = _describe(data_file) | {"sha256": _sum_up(file.tensors)}
    intact = about.items() <= file.metadata.items()
    for tensor in file.tensors.values():
        release(tensor)
    return intact


def remove_codes(folder: Path, kept: Iterable[str]) -> None:
    """Remove files of codes but those of the data files `kept`, and drafts of killed processes.

    A process that writes codes at this moment keeps them in memory instead.

    Raises:
        StorageError: one cannot be removed.
    """
    if not folder.is_dir():
        return
    names = {NAME, *(codes_path(folder, name).name for name in kept)}
    old = [p for p in folder.iterdir() if p.name not in names and p.suffix == SUFFIX]
    for path in [*old, *drafts_of(folder, "")]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path} cannot be removed: {error.strerror}.") from error


def _sum_up(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
