"""Writes files atomically: a draft beside the target is written, synced and renamed over it.

A killed run leaves at most a draft, never half a file. A draft is a new file with a random name and
never a link, so writing it changes no other file. All files of the package are written here, apart
from SQLite's.
"""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from ecliptic.errors import StorageError
from ecliptic.storage.opening import describe_kind, hash_file, open_regular
from ecliptic.storage.paths import check_path

Writer = Callable[[Path], object]  # writes the file at the path that it gets
Drafts = Mapping[Path, Path]  # target -> its draft

_DRAFT = re.compile(r"\.(.*)\.[0-9a-f]{16}\.draft")
_KEPT = 40  # characters of the target's name in the draft's: 160 bytes at most, of the 255
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK


def replace_file(path: Path, write: Writer, *, exclusive: bool = False) -> None:
    """Write the file `path`, and replace an existing one.

    A link at `path` is replaced like a file; the file that it names is never changed. To keep a
    link to another disk, link the folder instead.

    Args:
        path: the file; its folder must exist.
        write: gets the path of the draft, an empty file.
        exclusive: fail if the file exists, even if another process makes it at this moment.

    Raises:
        StorageError: it cannot be written, or `path` is a folder, pipe or device, or a link to
            one; what exists is unchanged.
        FileExistsError: the file exists, with `exclusive`.
    """
    with _make_drafts([path]) as drafts:
        _write(drafts, {path: write})
        if exclusive:
            _take_free_name(drafts[path], path)
        else:
            _rename(drafts)
        sync_folder(path.parent)


def replace_files(
    writers: Mapping[Path, Writer], check: Callable[[Drafts], object] = lambda _: None
) -> None:
    """Replace several files: all drafts are written, then renamed in order.

    Put the file that identifies the set last, so that an incomplete set is not recognised.

    Args:
        writers: for each file, the function that writes it.
        check: gets the drafts before any is renamed; it raises to keep the existing files.
    """
    with _make_drafts(writers) as drafts:
        _write(drafts, writers)
        check(drafts)
        _rename_synced(drafts)


def replace_set(paths: Iterable[Path], write: Callable[[Drafts], object]) -> None:
    """Like `replace_files`, for files that are written side by side, in one pass over their data.

    Args:
        paths: the files; the one that identifies the set last.
        write: writes all drafts.
    """
    with _make_drafts(paths) as drafts:
        first, *others = drafts
        writers: dict[Path, Writer] = {first: lambda _: write(drafts)}
        _write(drafts, writers | dict.fromkeys(others, lambda _: None))
        _rename_synced(drafts)


def find_changes(drafts: Drafts) -> list[str]:
    """Names of the existing files that have another content than their drafts."""
    return [path.name for path, draft in drafts.items() if _differs(draft, path)]


def _differs(new: Path, old: Path) -> bool:
    if not old.exists():
        return False
    if not old.is_file() or old.stat().st_size != new.stat().st_size:
        return True
    try:
        return hash_file(new).digest() != hash_file(old).digest()
    except OSError:  # the old one may not be read
        return True


def text_writer(text: str) -> Writer:
    """Writes UTF-8 with plain newlines; a surrogate, which UTF-8 lacks, is written as an escape."""
    return stream_writer(lambda file: file.write(text.encode(errors="backslashreplace")))


def stream_writer(write: Callable[[IO[bytes]], object]) -> Writer:
    """Opens the draft for `write`, which takes an open binary file."""

    def write_draft(draft: Path) -> None:
        with open_draft(draft) as file:
            write(file)

    return write_draft


def open_draft(draft: Path) -> IO[bytes]:
    """Open a draft for writing from its start and for reading, if it is not a link."""
    return os.fdopen(os.open(draft, os.O_RDWR | os.O_TRUNC | _NO_LINK), "w+b")


def copy_writer(source: Path) -> Writer:
    """Copies the bytes of the regular file `source`."""

    def copy(file: IO[bytes]) -> None:
        with open_regular(source) as found:
            shutil.copyfileobj(found, file)

    return stream_writer(copy)


def start_log(path: Path, kept: str = "") -> IO[str]:
    """Open a text file at `path` that grows line by line, as a draft could not be read before its
    end.

    An existing file is replaced, and a link is never followed.

    Args:
        path: of the file.
        kept: the text that it begins with, written at once.

    Raises:
        StorageError: it cannot be made, or `path` is a folder, pipe or device.
    """
    replace_file(path, text_writer(kept))
    with explain_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _NO_LINK)
        return os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)


def try_folder(folder: Path) -> None:
    """Make and remove a draft in `folder`, so that a lack of permission shows before the work.

    Raises:
        StorageError: nothing can be written there.
    """
    with _make_drafts([folder / "test"]):
        pass


def refuse_special(path: Path) -> None:
    """Raise unless `path` is free, or is a file or a link to one.

    Raises:
        StorageError: it is, or links to, a folder, pipe, device or socket, or cannot be a path.
    """
    try:
        modes = [path.lstat().st_mode, path.stat().st_mode]
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{path} cannot be written: {reason}; check the path.") from error
    for mode in modes:
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise StorageError(
                f"{path} cannot be written: it is {describe_kind(mode)}, which a file cannot "
                "replace; check the path."
            )


def drafts_of(folder: Path, start: str) -> list[Path]:
    """Drafts in `folder`, left by killed runs, of files whose name begins with `start`.

    Call it only when no other process writes these files.
    """
    names = ((path, _DRAFT.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(path for path, name in names if name and name[1].startswith(start))


@contextmanager
def _make_drafts(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Make an empty draft beside each path; at the end, remove those that were not renamed."""
    with ExitStack() as cleaning:
        drafts: dict[Path, Path] = {}
        for path in paths:
            check_path(path)
            with explain_errors(path):
                refuse_special(path)
                draft = path.with_name(f".{path.name[:_KEPT]}.{secrets.token_hex(8)}.draft")
                os.close(os.open(draft, _NEW, 0o666))
            cleaning.callback(draft.unlink, missing_ok=True)
            drafts[path] = draft
        yield drafts


def _write(drafts: Drafts, writers: Mapping[Path, Writer]) -> None:
    for path, write in writers.items():
        draft = drafts[path]
        with explain_errors(path):
            mode = draft.stat().st_mode
            write(draft)
            draft.chmod(mode)  # safetensors makes files that only their owner can read
            file = os.open(draft, os.O_RDWR | _NO_LINK)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def _rename(drafts: Drafts) -> None:
    for path, draft in drafts.items():
        with explain_errors(path):
            draft.replace(path)


def _rename_synced(drafts: Drafts) -> None:
    _rename(drafts)
    for folder in dict.fromkeys(path.parent for path in drafts):
        sync_folder(folder)


def _take_free_name(draft: Path, path: Path) -> None:
    """Give `draft` the name `path` too, unless the name is taken."""
    try:
        os.link(draft, path)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        raise
    except OSError:  # a file system without links: only a lock of the caller prevents a race
        if path.exists():
            raise FileExistsError(path) from None
        _rename({path: draft})


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Raise StorageError if `path` cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path} cannot be written: {reason}; check the path, its permissions and the free "
            "space."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames survive a power cut, where folders can be opened (not on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
