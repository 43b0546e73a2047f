"""From what the user wrote to a file or folder on this disk: the first step of loading.

A path that exists is taken as it is and never causes network traffic. A catalog name or `hf:`
name is looked up in the hub's cache and fetched if need be (`hub.py`).
"""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.catalog import Row
from ecliptic.checkpoints.hub.repository import Repository
from ecliptic.errors import UnknownModelError, did_you_mean
from ecliptic.storage import WEIGHT_SUFFIXES

HUB_PREFIX = "hf:"


@dataclass(frozen=True)
class Located:
    """A model on this disk, not yet read."""

    path: Path
    row: Row | None  # what the catalog knows about it, where it was asked for by that name
    name: str  # "ViT-B-32/openai", "org/name", or the file's stem


def locate(
    source: str | os.PathLike[str],
    *,
    offline: bool | None = None,
    revision: str | None = None,
    progress: bool = True,
) -> Located:
    """Find `source` on this disk, or fetch it.

    Args:
        source: a file or folder; a catalog name ("ViT-L-14/openai"); or
            "hf:org/name[/file or folder][@revision]".
        offline: True allows no network; None takes the hub's own setting (`HF_HUB_OFFLINE`).
        revision: branch, tag or commit of the repository.
        progress: show bars on stderr while downloading.

    Returns:
        Where it is. Catalog weights that are in the cache are used without asking the network;
        an `hf:` name asks for the newest state and falls back to the cache.

    Raises:
        UnknownModelError: no file, folder or name is called so; with the nearest ones.
        DownloadError: it could not be fetched, or is not what the hub promised.
    """
    if path := _existing(source):
        return Located(path, None, path.resolve().name if path.is_dir() else path.stem)
    if not isinstance(source, str) or _is_path(source):
        raise UnknownModelError(str(source), fix=_near_files(str(source)))
    asks = Repository("", revision or "main", _is_offline(offline), progress)
    if source.startswith(HUB_PREFIX):
        return _from_hub(source, asks, revision)
    row = _find(source)
    repository = Repository(row.hub, asks.revision, asks.offline, progress)
    return Located(repository.weights(), row, row.name)


def _existing(source: str | os.PathLike[str]) -> Path | None:
    """The file or folder that `source` is the path of; never a pipe or device."""
    try:
        path = Path(source).expanduser()
        if not str(source) or not path.exists():
            return None
        usable = path.is_file() or path.is_dir()
    except (OSError, RuntimeError) as error:  # too long, not permitted, no such user's home
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnknownModelError(str(source)[:200], fix=f"as a path it fails: {reason}.") from None
    if not usable:
        fix = "it is a pipe or a device; pass a regular file or a folder."
        raise UnknownModelError(str(source), fix=fix)
    return path


def _from_hub(source: str, asks: Repository, revision: str | None) -> Located:
    """`hf:org/name[/file or folder][@revision]`."""
    place, _, own = source.removeprefix(HUB_PREFIX).partition("@")
    parts = place.strip("/").split("/", 2)
    if len(parts) < 2 or not all(parts) or ".." in place.split("/"):
        raise UnknownModelError(source, fix="write it as 'hf:org/name', with a folder behind it.")
    if own and revision and own != revision:
        raise UnknownModelError(
            source, fix=f"it names the revision {own!r}, but revision={revision!r} was passed."
        )
    inside = parts[2] if len(parts) > 2 else ""
    repository = Repository("/".join(parts[:2]), own or asks.revision, asks.offline, asks.progress)
    name = "/".join(parts) + (f"@{own or revision}" if own or revision else "")
    return Located(repository.folder(inside), None, name)


def _find(source: str) -> Row:
    """The catalog's row; where a name looks like the hub's, say how to write that."""
    try:
        return catalog.find(source)
    except UnknownModelError:
        sizes = source.split("/")[0]
        if source.count("/") == 1 and not did_you_mean(sizes, catalog.architectures()):
            fix = f"for the repository of that name on the Hugging Face hub write 'hf:{source}'."
            raise UnknownModelError(source, fix=fix) from None
        raise


def _is_offline(offline: bool | None) -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) if offline is None else offline


def _is_path(source: str) -> bool:
    """Whether a name that does not exist was meant as a path, or as an address."""
    return (
        not source.startswith(HUB_PREFIX)
        and source not in catalog.names()
        and (
            source.endswith(WEIGHT_SUFFIXES) or source.startswith((".", "/", "~")) or "\\" in source
        )
    ) or "://" in source


def _near_files(source: str) -> str:
    """What lies where the missing path points, nearest names first."""
    path = Path(source).expanduser()
    if "://" in source:
        return "addresses are not fetched; download the file and pass its path, or 'hf:org/name'."
    folder = next(parent for parent in (path.parent, *path.parent.parents) if parent.is_dir())
    if folder != path.parent:
        return f"there is no folder {str(path.parent)!r}; {str(folder)!r} exists."
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    near = difflib.get_close_matches(path.name, names, n=5, cutoff=0.5)
    near = near or [name for name in names if name.endswith(WEIGHT_SUFFIXES)][:5]
    if not near:
        return f"the folder {str(folder)!r} has no file of weights."
    return f"the folder {str(folder)!r} has {', '.join(map(repr, near))}."
