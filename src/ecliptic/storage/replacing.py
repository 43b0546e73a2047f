"""Files that appear whole or not at all: a draft beside the target, synced, renamed over it.

A run that is killed leaves a draft at most, never half a file. A draft has a random name, is made
anew and is never a link, so nothing else is written through it.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ecliptic.errors import StorageError

Writer = Callable[[Path], object]  # writes the file that it is given the path of
Drafts = Mapping[Path, Path]  # target -> its draft

_DRAFT = re.compile(r"\.(.*)\.[0-9a-f]{16}\.draft")
_KEPT = 64  # characters of the target's name in a draft's; names have at most 255 bytes
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def replace_file(path: Path, write: Writer, *, exclusive: bool = False) -> None:
    """Let `write` make the file `path`, in place of one that is there.

    Args:
        path: the file; its folder exists.
        write: gets the path of the draft, an empty file.
        exclusive: fail when there is such a file already, even if another process makes it now.

    Raises:
        StorageError: it cannot be written; what was there is unchanged.
        FileExistsError: the name is taken, under `exclusive`.
    """
    with _drafts([path]) as drafts:
        _write(drafts, {path: write})
        if exclusive:
            _take_free_name(drafts[path], path)
        else:
            _rename(drafts)
        _sync_folder(path.parent)


def replace_files(
    writers: Mapping[Path, Writer], check: Callable[[Drafts], object] = lambda _: None
) -> None:
    """As `replace_file` for several: all drafts are written, then renamed in order.

    Put the file by which the set is recognised last: a set cut short is then not recognised.

    Args:
        writers: for each file, what writes it.
        check: looks at the drafts before anything is renamed, and raises to keep what is there.
    """
    with _drafts(writers) as drafts:
        _write(drafts, writers)
        check(drafts)
        _rename(drafts)
        for folder in dict.fromkeys(path.parent for path in writers):
            _sync_folder(folder)


def drafts_of(folder: Path, start: str) -> list[Path]:
    """Drafts in `folder` of files whose name begins with `start`, left by runs that were killed.

    Only for who knows that nobody is writing them at the moment.
    """
    names = ((path, _DRAFT.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(path for path, name in names if name and name[1].startswith(start))


@contextmanager
def _drafts(paths: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """An empty file beside each path; those that were not renamed are removed at the end."""
    with ExitStack() as cleaning:
        drafts: dict[Path, Path] = {}
        for path in paths:
            with _writing(path):
                draft = path.with_name(f".{path.name[:_KEPT]}.{secrets.token_hex(8)}.draft")
                os.close(os.open(draft, _NEW, 0o666))
            cleaning.callback(draft.unlink, missing_ok=True)
            drafts[path] = draft
        yield drafts


def _write(drafts: Drafts, writers: Mapping[Path, Writer]) -> None:
    for path, write in writers.items():
        draft = drafts[path]
        with _writing(path):
            mode = draft.stat().st_mode
            write(draft)
            draft.chmod(mode)  # safetensors makes files that only their owner can read
            with draft.open("rb+") as file:
                os.fsync(file.fileno())


def _rename(drafts: Drafts) -> None:
    for path, draft in drafts.items():
        with _writing(path):
            draft.replace(path)


def _take_free_name(draft: Path, path: Path) -> None:
    """Give `draft` the name `path` too, unless the name is taken."""
    try:
        os.link(draft, path)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        raise
    except OSError:  # a file system without links: as safe as the caller's own lock
        if path.exists():
            raise FileExistsError(path) from None
        _rename({path: draft})


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path} cannot be written: {reason}; check the path, its permissions and the free "
            "space."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make names outlive a power cut, where folders can be opened (not on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
