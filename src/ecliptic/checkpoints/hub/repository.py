"""Fetches files from the Hugging Face hub into its cache, checked, and finds them there offline.

`huggingface_hub` does the transfer: resuming, retries, tokens, mirrors (`HF_ENDPOINT`), the place
of the cache (`HF_HOME`) and the offline switch (`HF_HUB_OFFLINE`) are its settings. Here it is
decided which files of a repository are needed, that they are what the hub promised, and what to
tell the user when they are not. Imports no torch; the client is imported when it is needed.
"""

import contextlib
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ecliptic.errors import CorruptFileError, DownloadError
from ecliptic.storage import WEIGHT_SUFFIXES, refuse_kind, sniff

OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# The file that tells a layout, and the weights to look for beside it, best first.
LAYOUTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ecliptic.json", ("model.safetensors",)),
    ("open_clip_config.json", OPEN_CLIP_WEIGHTS),
    (
        "config.json",
        (
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        ),
    ),
)
PIPELINE = "model_index.json"  # of a diffusion pipeline
ENCODERS = ("text_encoder", "tokenizer", "image_encoder", "feature_extractor")  # its folders


@dataclass(frozen=True)
class Repository:
    """A repository at one revision, and how it may be reached."""

    name: str  # "organisation/name"
    revision: str = "main"
    offline: bool = False  # only what the cache holds
    progress: bool = True  # bars on stderr while downloading

    def weights(self) -> Path:
        """The weights of a repository of open_clip's layout; the network only if not cached.

        Raises:
            DownloadError: not cached and offline, unreachable, or not what was promised.
        """
        for file in OPEN_CLIP_WEIGHTS:
            if cached := self._cached(file):
                return cached
        digests = self._listing()
        file = next((file for file in OPEN_CLIP_WEIGHTS if file in digests), "")
        if not file:
            self._refuse(f"it has none of {', '.join(OPEN_CLIP_WEIGHTS)}")
        return self._fetch(file, digests[file])

    def folder(self, inside: str = "") -> Path:
        """The needed files of the repository, or the file or folder `inside` of it.

        The newest state of the revision is asked for; without network, what is cached is used.

        Raises:
            DownloadError: as for `weights`, or the repository has no weights there.
        """
        try:
            digests = self._listing()
        except DownloadError:
            if cached := self._cached_folder(inside):
                return cached
            raise
        files = [inside] if inside in digests else choose(digests, inside)
        if not any(file.endswith(WEIGHT_SUFFIXES) for file in files):
            self._refuse(f"it has no weights at {inside!r}" if inside else "it has no weights")
        paths = [self._fetch(file, digests[file]) for file in files]
        root = paths[0].parents[files[0].count("/")]
        return root / inside

    def _cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        with self._translated(file):
            found = try_to_load_from_cache(self.name, file, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _cached_folder(self, inside: str) -> Path | None:
        """The same from the cache alone; None unless it holds weights there."""
        prefix = f"{inside}/" if inside else ""
        marks = [mark for mark, _ in LAYOUTS] + [PIPELINE]
        guesses = [inside] if inside else []
        guesses += [prefix + file for file in (*marks, *OPEN_CLIP_WEIGHTS)]
        for guess in guesses:
            if not (cached := self._cached(guess)):
                continue
            root = cached.parents[guess.count("/")]
            found = [file.relative_to(root).as_posix() for file in root.rglob("*.*")]
            if guess == inside or any(x.endswith(WEIGHT_SUFFIXES) for x in choose(found, inside)):
                return root / inside
        return None

    def _listing(self) -> dict[str, str]:
        """The repository's files and their SHA-256; "" for small files kept in git itself."""
        if self.offline:
            self._refuse("it is not in the cache, and offline means no network")
        from huggingface_hub import HfApi

        with self._translated():
            info = HfApi().model_info(self.name, revision=self.revision, files_metadata=True)
            siblings = info.siblings or []
            return {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in siblings}

    def _fetch(self, file: str, digest: str) -> Path:
        """One file, downloaded unless cached; checked when it was downloaded."""
        from huggingface_hub import hf_hub_download

        before = self._cached(file)
        with self._translated(file), _bars(self.progress):
            path = Path(hf_hub_download(self.name, file, revision=self.revision))
        if path != before:
            self._check(file, path, digest)
        return path

    def _check(self, file: str, path: Path, digest: str) -> None:
        """Refuse, and forget, a file that is not what the hub lists or no weights at all."""
        try:
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest() if digest else ""
            if found != digest:
                self._refuse(f"{file} has the SHA-256 {found}, the hub lists {digest}")
            kind = sniff(path)
            if file.endswith(WEIGHT_SUFFIXES) and kind in ("empty", "html", "json", "lfs"):
                refuse_kind(path, kind, "weights")
        except (DownloadError, CorruptFileError) as error:
            path.resolve().unlink(missing_ok=True)  # so that the next attempt starts afresh
            path.unlink(missing_ok=True)
            raise DownloadError(f"{error} The file was removed; try again.") from error

    @contextlib.contextmanager
    def _translated(self, file: str = "") -> Iterator[None]:
        """Errors of the client as ours."""
        try:
            yield
        except DownloadError:
            raise
        except Exception as error:  # the client's transports share no root of their errors
            self._refuse(_reason(error), file, error)

    def _refuse(self, reason: str, file: str = "", cause: Exception | None = None) -> NoReturn:
        from huggingface_hub import constants

        where = f"{constants.ENDPOINT}/{self.name} (revision {self.revision})"
        what = f"{file} of {where}" if file else where
        by_hand = f"hf download {self.name} {file}".rstrip()
        raise DownloadError(
            f"{what} could not be used: {reason}. By hand: run `{by_hand}` where there is network "
            f"and access, copy the files here, and load their path; or copy them into the cache "
            f"{constants.HF_HUB_CACHE}, and the name works offline."
        ) from cause


def choose(files: Collection[str], inside: str = "") -> list[str]:
    """The files of a repository that loading the model in the folder `inside` needs.

    One set of weights (safetensors before pickles, open_clip's before transformers'), its shards
    if it is an index, and the small text files beside; of a diffusion pipeline, the encoders'.
    """
    prefix = f"{inside}/" if inside else ""
    here = {
        file.removeprefix(prefix)
        for file in files
        if file.startswith(prefix) and "/" not in file.removeprefix(prefix)
    }
    weights = _weights(here)
    texts = {
        name
        for name in here
        if name.endswith((".json", "merges.txt")) and not name.endswith(".index.json")
    }
    chosen = [prefix + name for name in (*weights, *sorted(texts))]
    if not weights and PIPELINE in here:
        folders = sorted({PurePosixPath(f.removeprefix(prefix)).parts[0] for f in files} - here)
        for folder in folders:
            if folder.startswith(ENCODERS):
                chosen += choose(files, prefix + folder)
    return chosen


def _weights(names: set[str]) -> list[str]:
    """The weights of one folder, best first; empty if there are none or no way to choose."""
    for mark, candidates in LAYOUTS:
        found = [name for name in candidates if name in names] if mark in names else []
        if found and found[0].endswith(".index.json"):
            stem, suffix = found[0].removesuffix(".index.json").rsplit(".", 1)
            shards = [x for x in names if x.startswith(f"{stem}-") and x.endswith(f".{suffix}")]
            return [found[0], *sorted(shards)]
        if found:
            return found[:1]
    for suffix in WEIGHT_SUFFIXES:
        alone = [name for name in names if name.endswith(suffix)]
        if len(alone) == 1:
            return alone
    return []


def _reason(error: Exception) -> str:
    """Why the client failed, in one line."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return "access has to be asked for on its page, then `hf auth login`, or HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return "there is no such repository, or it is private and needs `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, errors.HFValidationError):
        return f"{error}".rstrip(".")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "it is not in the cache, and HF_HUB_OFFLINE is set"
    if isinstance(error, errors.EntryNotFoundError):
        return "there is no such file, or the hub cannot be reached and it is not in the cache"
    if status is not None:
        return f"the hub answered with status {status}"
    first = str(error).strip().splitlines() or [""]
    return f"no answer from the hub ({type(error).__name__}: {first[0][:200]})"


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """The client's progress bars, shown or not; its own switch, put back afterwards."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled as are_hidden,
        disable_progress_bars,
        enable_progress_bars,
    )

    hidden = are_hidden()
    if shown or hidden:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
