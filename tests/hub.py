"""A local server that imitates the Hugging Face hub: enough of its protocol for downloads.

It serves the listing of a repository (`/api/models/...?blobs=true`) and its files
(`/org/name/resolve/revision/file`, with HEAD, ETag and Range). Faults on purpose: `cut` ends a
transfer early, `spoilt` sends other bytes than listed, `refusals` answers with a status, `floods`
sends more bytes than declared, `slow` and `slow_headers` send a byte at a time, `redirects` answers
with another place. In the last four the listing is called "".
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """The served files, the faults, and the requests so far."""

    repositories: dict[str, dict[str, bytes]]  # "org/name" -> file -> content
    cut: dict[str, int] = field(
        default_factory=dict
    )  # file -> bytes after which to disconnect, once
    spoilt: dict[str, bytes] = field(default_factory=dict)  # file -> bytes to send instead
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)  # repository -> status, code
    floods: dict[str, int] = field(default_factory=dict)  # file -> bytes to send
    flood_as: tuple[int, dict[str, str]] = (200, {})  # status and headers of floods
    slow: set[str] = field(default_factory=set)  # files
    slow_headers: set[str] = field(default_factory=set)  # files; HEAD is slow too
    redirects: dict[str, str] = field(default_factory=dict)  # file -> URL
    linked: dict[str, str] = field(default_factory=dict)  # headers of redirects
    listing: dict[str, object] = field(default_factory=dict)  # fields to change in the listing
    requests: list[str] = field(default_factory=list)  # "GET /path bytes=5-"
    authorizations: list[str] = field(default_factory=list)  # of each request
    sent: int = 0  # bytes of floods
    address: str = ""


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, cache: str, hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port, and point the client to it with an empty cache."""
    handler = type("Bound", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    point_client(monkeypatch, cache, hub.address)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        close_session()


def point_client(monkeypatch: pytest.MonkeyPatch, cache: str, address: str) -> None:
    """Set the client's settings, which it reads from the environment when imported."""
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "")
    close_session()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, *, body: bool) -> None:
        wanted = self.headers.get("Range", "")
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {wanted}".rstrip())
        self.hub.authorizations.append(self.headers.get("Authorization", ""))
        listing = path.startswith("/api/models/")
        organisation, name, kind, revision, *rest = (
            *path.removeprefix("/api/models").strip("/").split("/"),
            *("", "", "", ""),
        )
        repository = f"{organisation}/{name}"
        file = "/".join(part for part in rest if part)
        if repository in self.hub.refusals:
            self._refuse(*self.hub.refusals[repository])
        elif repository not in self.hub.repositories:
            self._refuse(404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif file in self.hub.redirects:
            self._send(b"", False, 302, {"Location": self.hub.redirects[file], **self.hub.linked})
        elif body and file in self.hub.floods:
            self._flood(self.hub.floods[file])
        elif body and file in self.hub.slow:
            self._trickle(b"HTTP/1.1 200 OK\r\n\r\n")
        elif file in self.hub.slow_headers:
            self._trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        elif listing:
            self._send(json.dumps(self._listing(repository)).encode(), body)
        elif kind != "resolve" or file not in self.hub.repositories[repository]:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_file(file, self.hub.repositories[repository][file], wanted, body)

    def _listing(self, repository: str) -> dict[str, object]:
        siblings = [
            {"rfilename": file, "size": len(data), "blobId": "0" * 40}
            | ({} if file.endswith((".json", ".txt")) else {"lfs": lfs(data)})
            for file, data in self.hub.repositories[repository].items()
        ]
        return {"id": repository, "sha": COMMIT, "siblings": siblings, **self.hub.listing}

    def _send_file(self, file: str, data: bytes, wanted: str, body: bool) -> None:
        etag = hashlib.sha256(data).hexdigest()
        data = self.hub.spoilt.get(file, data)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        stop = self.hub.cut.pop(file, None) if body else None
        self._send(data[start:], body, 206 if wanted else 200, headers, stop)

    def _send(
        self,
        data: bytes,
        body: bool,
        status: int = 200,
        headers: dict[str, str] | None = None,
        stop: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:stop])
        if stop is not None:
            self.close_connection = True

    def _flood(self, count: int) -> None:
        """Send `count` bytes, or until the client goes away, without a declared length."""
        status, headers = self.hub.flood_as
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("ETag", '"flood"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        self.close_connection = True
        piece = b"[" * (64 << 10)
        with contextlib.suppress(OSError):
            while self.hub.sent < count:
                self.wfile.write(piece)
                self.hub.sent += len(piece)

    def _trickle(self, start: bytes) -> None:
        """Send `start`, then a byte every 0.05 s for 20 s, or until the client goes away."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(start)
            for _ in range(400):
                self.wfile.write(b"[")
                self.wfile.flush()
                time.sleep(0.05)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", False, status, {"X-Error-Code": code} if code else {})


def lfs(data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    return {"sha256": digest, "size": len(data), "pointerSize": 134}
