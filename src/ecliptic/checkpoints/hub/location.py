"""`locate`, the first step of loading: from a name to a file or folder on this disk.

An existing path is used as it is, without network. A catalog name or `hf:` name is looked up in
the hub's cache, and downloaded if it is not there (`repository.py`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.catalog import OPEN_CLIP_PREFIX, Row
from ecliptic.checkpoints.hub.endpoint import redact
from ecliptic.checkpoints.hub.repository import Repository
from ecliptic.errors import UnknownModelError, find_near
from ecliptic.storage import WEIGHT_SUFFIXES

HUB_PREFIX = "hf:"


@dataclass(frozen=True)
class Located:
    """A model on this disk, not yet read."""

    path: Path
    row: Row | None  # of the catalog, if `source` was a catalog name
    name: str  # "ViT-B-32/openai", "org/name", or the file's stem


def locate(
    source: str | os.PathLike[str],
    *,
    offline: bool | None = None,
    revision: str | None = None,
    progress: bool = True,
) -> Located:
    """Find `source` on this disk, or download it.

    Args:
        source: a file or folder; a catalog name ("ViT-L-14/openai"), also as other libraries spell
            it; or "hf:org/name[/file or folder][@revision]".
        offline: True allows no network; None uses the hub's own setting (`HF_HUB_OFFLINE`).
        revision: branch, tag or commit of the repository.
        progress: show bars on stderr while downloading.

    Returns:
        Where it is. Catalog weights in the cache are used without network. For an `hf:` name the
        hub is asked for the newest state, and the cache is used if there is no network.

    Raises:
        UnknownModelError: no file, folder or model has this name; the message lists similar ones.
        DownloadError: the download failed, or the file differs from the hub's listing.
    """
    if path := _find_existing(source):
        return Located(path, None, path.resolve().name if path.is_dir() else path.stem)
    if not isinstance(source, str) or _is_path(source):
        raise UnknownModelError(redact(str(source)), fix=_suggest_files(str(source)))
    if offline is None:
        from huggingface_hub import constants

        offline = bool(constants.HF_HUB_OFFLINE)
    repository = partial(Repository, offline=offline, progress=progress)
    if source.startswith(HUB_PREFIX):
        return _locate_on_hub(source, repository, revision)
    row = _find_row(source)
    if row is None:
        name = source.removeprefix(OPEN_CLIP_PREFIX)
        return _locate_on_hub(f"{HUB_PREFIX}{name}", repository, revision)
    return Located(repository(row.hub, revision or "main").fetch_weights(), row, row.name)


def _find_existing(source: str | os.PathLike[str]) -> Path | None:
    """The file or folder with the path `source`, if there is one; a pipe or device is an error."""
    try:
        path = Path(source).expanduser()
        if not str(source) or not path.exists():
            return None
        usable = path.is_file() or path.is_dir()
    except (OSError, RuntimeError) as error:  # too long, not permitted, no such user's home
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnknownModelError(str(source)[:200], fix=f"it cannot be a path: {reason}.") from None
    if not usable:
        fix = "it is a pipe or a device; pass a regular file or a folder."
        raise UnknownModelError(str(source), fix=fix)
    return path


def _locate_on_hub(
    source: str, repository: Callable[[str, str], Repository], revision: str | None
) -> Located:
    """Locate `hf:org/name[/file or folder][@revision]`."""
    place, _, own = source.removeprefix(HUB_PREFIX).partition("@")
    parts = place.strip("/").split("/", 2)
    if len(parts) < 2 or not all(parts) or ".." in place.split("/"):
        raise UnknownModelError(source, fix="write it as 'hf:org/name' or 'hf:org/name/folder'.")
    if own and revision and own != revision:
        raise UnknownModelError(
            source, fix=f"it names the revision {own!r}, but revision={revision!r} was passed."
        )
    own = own or revision or ""
    inside = parts[2] if len(parts) > 2 else ""
    folder = repository("/".join(parts[:2]), own or "main").fetch_folder(inside)
    return Located(folder, None, "/".join(parts) + (f"@{own}" if own else ""))


def _find_row(source: str) -> Row | None:
    """The row of the catalog; None for open_clip's name of a repository that has none.

    For another name like the hub's, the error says how to write that.
    """
    try:
        return catalog.find(source)
    except UnknownModelError:
        if catalog.refuse_others(source):
            raise
        if source.startswith(OPEN_CLIP_PREFIX):
            return None
        sizes = source.split("/")[0]
        if source.count("/") == 1 and not find_near(sizes, catalog.architectures()):
            fix = f"for the repository of that name on the Hugging Face hub write 'hf:{source}'."
            raise UnknownModelError(source, fix=fix) from None
        raise


def _is_path(source: str) -> bool:
    """Whether a name that does not exist looks like a path or a URL."""
    if "://" in source:
        return True
    if source.startswith(HUB_PREFIX) or source in catalog.names():
        return False
    return source.endswith(WEIGHT_SUFFIXES) or source.startswith((".", "/", "~")) or "\\" in source


def _suggest_files(source: str) -> str:
    """The fix for a missing path: the existing names near it, nearest first."""
    path = Path(source).expanduser()
    if "://" in source:
        return "URLs are not downloaded; download the file and pass its path, or 'hf:org/name'."
    folder = next(parent for parent in (path.parent, *path.parent.parents) if parent.is_dir())
    if folder != path.parent:
        return f"there is no folder {str(path.parent)!r}; {str(folder)!r} exists."
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    near = find_near(path.name, names, count=5)
    near = near or [name for name in names if name.endswith(WEIGHT_SUFFIXES)][:5]
    if not near:
        return f"there is no such file, and the folder {str(folder)!r} has no weights."
    return f"the folder {str(folder)!r} has {', '.join(map(repr, near))}."
