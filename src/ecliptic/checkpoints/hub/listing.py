"""The list of a repository's files, read with limits and checked: it may come from any server."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from ecliptic.checkpoints.hub import transfers
from ecliptic.checkpoints.hub.endpoint import Endpoint
from ecliptic.errors import DownloadError, printable


@dataclass(frozen=True)
class Listed:
    """What the hub says of one file."""

    size: int | None = None  # bytes
    sha256: str = ""  # "" for small files, which are stored in git itself


def fetch_listing(name: str, revision: str, endpoint: Endpoint) -> dict[str, Listed]:
    """The files of a repository; those whose names no download could use are left out.

    Args:
        name: "organisation/name".
        revision: branch, tag or commit.
        endpoint: of the hub.

    Raises:
        DownloadError: it is too long, too slow, or not a listing.
    """
    from huggingface_hub import constants, get_session, hf_raise_for_status, utils

    utils.validate_repo_id(name)  # type: ignore[attr-defined]
    url = f"{endpoint.address}/api/models/{name}/revision/{quote(revision, safe='')}"
    wait = constants.HF_HUB_ETAG_TIMEOUT
    limit = transfers.LISTING
    with transfers.watch("listing", None, limit=limit + 1) as transfer:
        headers = utils.build_hf_headers(headers=endpoint.headers)  # type: ignore[attr-defined]
        options: dict[str, Any] = {"params": {"blobs": True}, "headers": headers, "timeout": wait}
        with get_session().stream("GET", url, **options) as answer:
            hf_raise_for_status(answer)
            data = bytearray()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > limit:
                    transfer.fail(f"its listing has more than {limit} bytes")
                transfer.count(len(piece))
    return _parse(bytes(data))


def _parse(data: bytes) -> dict[str, Listed]:
    try:
        files = json.loads(data)["siblings"] or []
        if len(files) > transfers.FILES:
            raise DownloadError(f"it lists more than {transfers.FILES} files")
        found = {file["rfilename"]: _read(file) for file in files}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DownloadError(f"its listing is not one of a hub ({type(error).__name__})") from error
    return {name: listed for name, listed in found.items() if _is_plain(name)}


def _read(file: dict[str, Any]) -> Listed:
    """What a listing says of one file; ValueError and the like if it has another form."""
    size, digest = file.get("size"), (file.get("lfs") or {}).get("sha256", "")
    if not (size is None or (type(size) is int and size >= 0)) or not isinstance(digest, str):
        raise ValueError
    return Listed(size, digest)


def _is_plain(name: str) -> bool:
    """Whether `name` stays in its folder, and cannot control a terminal."""
    parts = PurePosixPath(name).parts
    return (
        name == "/".join(parts) == printable(name)
        and ".." not in parts
        and not set(name) & set("\\:")
        and 0 < len(name) <= 1000
        and not name.startswith("/")
    )


def check_sizes(files: Iterable[Listed]) -> None:
    """Raise DownloadError if the files are larger together than any model."""
    total = sum(file.size or 0 for file in files)
    if total > transfers.LARGEST:
        raise DownloadError(
            f"what is needed of it has {total} bytes, but at most {transfers.LARGEST} are fetched"
        )
