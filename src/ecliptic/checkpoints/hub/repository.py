"""Downloads files from the Hugging Face hub into its cache, and finds them there offline.

`huggingface_hub` does the transfer: resuming, retries, tokens, mirrors (`HF_ENDPOINT`), the place
of the cache (`HF_HOME`) and the offline switch (`HF_HUB_OFFLINE`) are its settings. This module
chooses the files that are needed, checks them against the hub's listing, and explains failures;
`transfers.py` limits what a hub can send. It imports no torch, and the client only when needed.
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from ecliptic.checkpoints.hub.endpoint import read_endpoint, redact
from ecliptic.checkpoints.hub.listing import Listed, check_sizes, fetch_listing
from ecliptic.checkpoints.hub.transfers import watch
from ecliptic.errors import CorruptFileError, DownloadError
from ecliptic.storage import WEIGHT_SUFFIXES, hash_file, refuse_kind, sniff

OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# The file that identifies a layout, and the weights to look for beside it, best first.
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
    """A repository at one revision, and how to access it."""

    name: str  # "organisation/name"
    revision: str = "main"
    offline: bool = False  # use the cache only
    progress: bool = True  # bars on stderr while downloading

    def fetch_weights(self) -> Path:
        """The weights of a repository in open_clip's layout; needs the network only if not cached.

        Raises:
            DownloadError: not cached and offline, unreachable, or not as the hub lists it.
        """
        for file in OPEN_CLIP_WEIGHTS:
            if cached := self._find_cached(file):
                return cached
        listed = self._list_files()
        file = next((file for file in OPEN_CLIP_WEIGHTS if file in listed), "")
        if not file:
            self._refuse(f"it has none of {', '.join(OPEN_CLIP_WEIGHTS)}")
        return self._fetch({file: listed[file]})[0]

    def fetch_folder(self, inside: str = "") -> Path:
        """The folder of the repository's needed files, or the file or folder `inside` it.

        Asks the hub for the newest state of the revision; without network, uses the cache.

        Raises:
            DownloadError: as for `fetch_weights`, or the repository has no weights there.
        """
        try:
            listed = self._list_files()
        except DownloadError:
            if cached := self._find_cached_folder(inside):
                return cached
            raise
        files = [inside] if inside in listed else choose(listed, inside)
        if not any(file.endswith(WEIGHT_SUFFIXES) for file in files):
            self._refuse(f"it has no weights at {inside!r}" if inside else "it has no weights")
        paths = self._fetch({file: listed[file] for file in files})
        root = paths[0].parents[files[0].count("/")]
        return root / inside

    def _find_cached(self, file: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        with self._translate_errors(file):
            found = try_to_load_from_cache(self.name, file, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def _find_cached_folder(self, inside: str) -> Path | None:
        """Like `fetch_folder`, from the cache alone; None if it holds no weights there."""
        prefix = f"{inside}/" if inside else ""
        marks = [mark for mark, _ in LAYOUTS] + [PIPELINE]
        guesses = [inside] if inside else []
        guesses += [prefix + file for file in (*marks, *OPEN_CLIP_WEIGHTS)]
        for guess in guesses:
            if not (cached := self._find_cached(guess)):
                continue
            root = cached.parents[guess.count("/")]
            found = [file.relative_to(root).as_posix() for file in root.rglob("*.*")]
            if guess == inside or any(x.endswith(WEIGHT_SUFFIXES) for x in choose(found, inside)):
                return root / inside
        return None

    def _list_files(self) -> dict[str, Listed]:
        """The repository's files, and what the hub says of each."""
        if self.offline:
            self._refuse("it is not in the cache, and offline mode forbids the network")
        with self._translate_errors():
            return fetch_listing(self.name, self.revision, read_endpoint())

    def _fetch(self, files: dict[str, Listed]) -> list[Path]:
        """The paths of files, which are downloaded and checked unless they are cached."""
        with self._translate_errors():
            check_sizes(files.values())
        return [self._fetch_file(file, listed) for file, listed in files.items()]

    def _fetch_file(self, file: str, listed: Listed) -> Path:
        from huggingface_hub import hf_hub_download

        before = self._find_cached(file)
        with (
            self._translate_errors(file),
            _show_bars(self.progress),
            watch(file, listed.size) as transfer,
        ):
            endpoint = read_endpoint()
            found = hf_hub_download(
                self.name,
                file,
                revision=self.revision,
                endpoint=endpoint.address,
                headers=endpoint.headers,
                tqdm_class=transfer.bar(),
            )
        path = Path(found)
        if path != before:
            self._check(file, path, listed)
        return path

    def _check(self, file: str, path: Path, listed: Listed) -> None:
        """Delete and refuse a file that differs from the hub's listing, or is not weights."""
        try:
            found = hash_file(path, CorruptFileError).hexdigest() if listed.sha256 else ""
            if found != listed.sha256:
                self._refuse(f"{file} has the SHA-256 {found}, the hub lists {listed.sha256}")
            if listed.size not in (None, size := path.stat().st_size):
                self._refuse(f"{file} has {size} bytes, the hub lists {listed.size}")
            kind = sniff(path)
            if file.endswith(WEIGHT_SUFFIXES) and kind in ("empty", "html", "json", "lfs"):
                refuse_kind(path, kind, "weights")
        except (DownloadError, CorruptFileError) as error:
            path.resolve().unlink(missing_ok=True)  # so that the next attempt downloads it again
            path.unlink(missing_ok=True)
            raise DownloadError(f"{error} The file was removed; try again.") from error

    @contextlib.contextmanager
    def _translate_errors(self, file: str = "") -> Iterator[None]:
        """Say in a DownloadError which file of which repository failed, and how to get it."""
        try:
            yield
        except Exception as error:  # the client's errors have no common class
            self._refuse(_explain(error), file, error)

    def _refuse(self, reason: str, file: str = "", cause: Exception | None = None) -> NoReturn:
        from huggingface_hub import constants

        where = f"{redact(constants.ENDPOINT)}/{self.name} (revision {self.revision})"
        what = f"{file} of {where}" if file else where
        by_hand = f"hf download {self.name} {file}".rstrip()
        raise DownloadError(
            f"{what} could not be used: {reason}. By hand: run `{by_hand}` on a machine with "
            f"network and access, copy the files here, and load their path; or copy them into the "
            f"cache {constants.HF_HUB_CACHE}, and the name works offline."
        ) from cause


def choose(files: Collection[str], inside: str = "") -> list[str]:
    """Choose the files that are needed to load the model in the folder `inside`.

    These are one set of weights (safetensors before pickles, open_clip's before transformers'),
    its shards if it is an index, and the small text files beside it; of a diffusion pipeline, those
    of its encoders.
    """
    prefix = f"{inside}/" if inside else ""
    here = {
        file.removeprefix(prefix)
        for file in files
        if file.startswith(prefix) and "/" not in file.removeprefix(prefix)
    }
    weights = _choose_weights(here)
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


def _choose_weights(names: set[str]) -> list[str]:
    """One set of weights of a folder; empty if there is none, or several and no config."""
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


def _explain(error: Exception) -> str:
    """Why the client failed, in one line."""
    from huggingface_hub import errors

    if isinstance(error, DownloadError):
        return f"{error}".rstrip(".")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return "access must be requested on its page; then run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return "there is no such repository, or it is private and needs `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, errors.HFValidationError):
        return redact(f"{error}".rstrip("."))
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "it is not in the cache, and HF_HUB_OFFLINE is set"
    if isinstance(error, errors.EntryNotFoundError):
        return "there is no such file, or the hub cannot be reached and it is not in the cache"
    if status is not None:
        return f"the hub answered with status {status}"
    first = str(error).strip().splitlines() or [""]
    return f"no answer from the hub ({type(error).__name__}: {redact(first[0])[:200]})"


@contextlib.contextmanager
def _show_bars(shown: bool) -> Iterator[None]:
    """Hide the client's progress bars unless `shown`; its own switch is restored afterwards."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
