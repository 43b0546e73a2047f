"""A Qdrant server over HTTP: addresses, the key, answers that are errors."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ecliptic.errors import ConfigError, StorageError
from tests.index.servers.cases import SCHEMA

pytest.importorskip("qdrant_client", reason="pip install ecliptic[qdrant]")
from ecliptic.index.servers.qdrant import QdrantStore


class _Server(ThreadingHTTPServer):
    """Answers each path with what the test sets, and notes the keys that it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        version = {"title": "qdrant", "version": "1.20.1"}
        self.answers: dict[str, tuple[int, Any]] = {"/": (200, version)}
        self.keys: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["api-key"])
        code, answer = self.server.answers.get(self.path, (404, {"status": {"error": "?"}}))
        body = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def _open(server: _Server, key: str = "") -> Any:
    environment = {"QDRANT_API_KEY": key} if key else {}
    return QdrantStore.open(f"qdrant://127.0.0.1:{server.server_port}/photos", None, environment)


def test_a_store_that_is_not_there(server: _Server) -> None:
    exists = {"result": {"exists": False}, "status": "ok", "time": 0}
    server.answers["/collections/photos/exists"] = (200, exists)
    with pytest.raises(StorageError, match="there is no store qdrant://127"):
        _open(server)
    assert set(server.keys) == {None}


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection:UserWarning")
@pytest.mark.parametrize(
    ("code", "match"),
    [
        (401, "refuses this key or its rights.*Set QDRANT_API_KEY"),
        (403, "refuses this key"),
        (404, "is gone"),
        (500, "could not do it .500: .*out of disk"),
        (429, "could not do it .429"),
    ],
)
def test_answers_that_are_errors(server: _Server, code: int, match: str) -> None:
    server.answers["/"] = (code, {"status": {"error": "out of disk"}})
    with pytest.raises(StorageError, match=match) as caught:
        _open(server, " s3cret\n")
    assert "s3cret" not in str(caught.value) + str(caught.value.__cause__)
    assert server.keys == ["s3cret"]


def test_answers_that_are_no_answers(server: _Server) -> None:
    server.answers["/"] = (200, ["not a version"])
    with pytest.raises(StorageError, match="no connection to qdrant://127"):
        _open(server)


def test_no_server() -> None:
    with pytest.raises(StorageError, match=r"no connection to qdrant://127.*:1/photos.*try again"):
        QdrantStore.open("qdrant://127.0.0.1:1/photos", SCHEMA, {})


@pytest.mark.parametrize(
    "url",
    [
        "qdrant://user:s3cret@host/photos",
        "qdrant://host/photos?api_key=s3cret",
        "qdrant:///photos",
        "qdrant://host/",
        "qdrant://host/a/b",
        "http://host/photos",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        QdrantStore.open(url, None, {})
    assert "s3cret" not in str(caught.value)


def test_a_key_that_is_none_is_refused_and_not_told() -> None:
    for key in ("s3cret\nx", "s3crét"):
        with pytest.raises(ConfigError, match="has characters that no key has") as caught:
            QdrantStore.open("qdrant://127.0.0.1:1/photos", None, {"QDRANT_API_KEY": key})
        assert "s3cr" not in str(caught.value)
