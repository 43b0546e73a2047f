"""A hub that lies, never ends or dawdles costs bounded bytes and time, and gets no secret."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import close_session, constants, get_session
from safetensors.torch import save

from ecliptic.checkpoints.hub import transfers
from ecliptic.checkpoints.hub.endpoint import redact
from ecliptic.checkpoints.hub.location import locate
from ecliptic.errors import DownloadError, UnknownModelError
from tests.hub import COMMIT, Hub, point_client, serve

WEIGHTS = save({"a": torch.arange(100_000.0)})
FILE = "model.safetensors"
MIB = 1 << 20


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {"a/model": {FILE: WEIGHTS, "config.json": b"{}"}}
    with serve(monkeypatch, str(tmp_path / "cache"), Hub(repositories)) as hub:
        yield hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second without progress is a stall."""
    monkeypatch.setattr(transfers, "STALL", 0.5)


@pytest.fixture
def telemetry(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own settings: its headers name the program that runs it, from a list online."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "list"), raising=False)
    with contextlib.suppress(ImportError):  # older clients have no such list
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)


def kept(tmp_path: Path) -> list[Path]:
    """The files of weights in the cache, also partial ones."""
    found = (tmp_path / "cache").rglob("blobs/*")
    return [path for path in found if path.is_file() and path.stat().st_size > 2]


def fetch(source: str = "hf:a/model") -> Path:
    return locate(source, progress=False).path


def test_c7_more_bytes_than_declared_end_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.floods[FILE] = 500 * MIB
    with pytest.raises(DownloadError, match=f"more than the {len(WEIGHTS)} bytes that it declared"):
        fetch()
    assert hub.sent < 20 * MIB  # what the sockets hold
    assert kept(tmp_path) == []
    hub.floods.clear()
    assert (fetch() / FILE).read_bytes() == WEIGHTS


def test_c7_a_file_without_a_size_has_a_limit_of_its_own(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "UNDECLARED", 2 * MIB)
    hub.listing["siblings"] = [{"rfilename": FILE}]
    hub.floods[FILE] = 500 * MIB
    with pytest.raises(DownloadError, match="more than 2097152 bytes, without having declared"):
        fetch()
    assert hub.sent < 20 * MIB
    assert kept(tmp_path) == []


def test_c7_another_size_than_listed_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.listing["siblings"] = [{"rfilename": FILE, "size": len(WEIGHTS) + 1}]
    with pytest.raises(DownloadError, match="bytes"):
        fetch()
    assert kept(tmp_path) == []


def test_c7_a_repository_that_declares_too_much_is_refused_before_the_first_byte(hub: Hub) -> None:
    hub.listing["siblings"] = [{"rfilename": FILE, "size": 10**15}]
    with pytest.raises(DownloadError, match="has 1000000000000000 bytes"):
        fetch()
    assert not any("resolve" in request for request in hub.requests)


def test_an_endless_listing_ends(hub: Hub) -> None:
    hub.floods[""] = 500 * MIB
    with pytest.raises(DownloadError, match="listing has more than"):
        fetch()
    assert hub.sent < 2 * transfers.LISTING + 8 * MIB


@pytest.mark.parametrize("status", [302, 401, 404, 416, 500, 503])
@pytest.mark.parametrize("file", [FILE, ""])
def test_an_endless_refusal_or_redirect_is_not_read(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, status: int
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before another try
    hub.floods[file] = 500 * MIB
    hub.flood_as = (status, {"Location": f"{hub.address}/b/none"} if status == 302 else {})
    with pytest.raises(DownloadError) as refusal:
        fetch()
    assert len(str(refusal.value)) < 1000
    assert hub.sent < 20 * MIB
    assert kept(tmp_path) == []


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate\u00ff"])
def test_c7_an_answer_that_is_compressed_unasked_is_refused(hub: Hub, coding: str) -> None:
    hub.floods[""] = 500 * MIB
    hub.flood_as = (200, {"Content-Encoding": coding})
    with pytest.raises(DownloadError, match="compressed its answer"):
        fetch()
    assert hub.sent < 20 * MIB


@pytest.mark.parametrize(
    "wait",
    [{"Retry-After": "100000"}, {"RateLimit": '"api";r=0;t=100000'}, {"Retry-After": "9" * 400}],
)
@pytest.mark.parametrize("file", [FILE, ""])
def test_a_hub_that_asks_to_wait_for_a_day_is_an_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, file: str, wait: dict[str, str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    hub.floods[file] = 0
    hub.flood_as = (429, wait)
    with pytest.raises(DownloadError, match=r"status 429 and asks to wait (100000|inf) seconds"):
        fetch()
    assert max(slept, default=0) < 60


def test_a_refusal_is_bounded_after_the_client_was_closed_too(hub: Hub) -> None:
    with transfers.watch("listing", None):
        close_session()  # as the client does when it cannot connect
        hub.floods[""] = 500 * MIB
        hub.flood_as = (404, {})
        url = f"{hub.address}/api/models/a/model/revision/main"
        assert get_session().get(url).content == b""
    assert hub.sent < 20 * MIB


def test_answers_outside_of_a_download_are_left_alone(hub: Hub) -> None:
    session = get_session()
    fetch()
    assert get_session() is session
    assert session.event_hooks["response"] == []
    close_session()
    assert get_session().event_hooks["response"] == []
    answer = get_session().get(f"{hub.address}/api/models/a/model/revision/main")
    assert "gzip" in answer.request.headers["accept-encoding"]


def test_a_listing_of_too_many_files_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "FILES", 10)
    hub.listing["siblings"] = [{"rfilename": f"{i}.json", "size": 2} for i in range(11)]
    with pytest.raises(DownloadError, match="lists more than 10 files"):
        fetch()


@pytest.mark.parametrize(
    "listing",
    [
        {"siblings": 3},
        {"siblings": [3]},
        {"siblings": [{"rfilename": 3}]},
        {"siblings": [{"rfilename": FILE, "size": "many"}]},
        {"siblings": [{"rfilename": FILE, "size": -1}]},
        {"siblings": [{"rfilename": FILE, "size": 5, "lfs": 3}]},
        {"siblings": [{"rfilename": FILE, "size": 5, "lfs": {"sha256": 3}}]},
    ],
)
def test_a_listing_of_another_form_is_refused(hub: Hub, listing: dict[str, Any]) -> None:
    hub.listing.update(listing)
    with pytest.raises(DownloadError, match="listing"):
        fetch()


def test_names_that_could_leave_the_folder_or_control_a_terminal_are_never_fetched(
    hub: Hub,
) -> None:
    bad = (
        "../x.json",
        "/x.json",
        "a\\..\\x.json",
        "\x1b]0;t\x07.json",
        "a//b.json",
        "C:x.json",
        "",
    )
    hub.listing["siblings"] = [
        *({"rfilename": name, "size": 2} for name in bad),
        *({"rfilename": name, "size": len(WEIGHTS)} for name in (FILE,)),
    ]
    assert [path.name for path in fetch().iterdir()] == [FILE]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("headers", [False, True])
@pytest.mark.parametrize("slow", [FILE, ""])
def test_c7_one_byte_at_a_time_ends_as_a_stall(
    hub: Hub, tmp_path: Path, slow: str, headers: bool
) -> None:
    (hub.slow_headers if headers else hub.slow).add(slow)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"sent less than .* bytes within"):
        fetch()
    assert time.monotonic() - start < 8
    assert kept(tmp_path) == []
    hub.slow.clear()
    hub.slow_headers.clear()
    assert (fetch() / FILE).read_bytes() == WEIGHTS


def test_the_settings_of_the_client_are_as_before(hub: Hub) -> None:
    before = dict(vars(constants))
    fetch("hf:a/model")
    hub.floods[""] = 10 * MIB
    with pytest.raises(DownloadError):
        fetch("hf:b/model")
    assert before == vars(constants)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
@pytest.mark.parametrize("file", [FILE, ""])
def test_a_redirect_to_another_scheme_is_refused(hub: Hub, file: str, place: str) -> None:
    hub.redirects[file] = place
    with pytest.raises(DownloadError):
        fetch()


def test_a_redirect_to_itself_ends(hub: Hub) -> None:
    hub.redirects[""] = f"{hub.address}/api/models/a/model/revision/main"
    with pytest.raises(DownloadError):
        fetch()
    assert len(hub.requests) < 50


def test_a_redirect_to_another_server_gets_no_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Hub({"a/model": {FILE: WEIGHTS, "config.json": b"{}"}})
    with monkeypatch.context() as patch, serve(patch, str(tmp_path / "x"), other):
        pass_on = other.address
        patch.setattr(constants, "ENDPOINT", hub.address.replace("http://", "http://me:secret@"))
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        hub.redirects[""] = f"{pass_on}/api/models/a/model/revision/main"
        template = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        hub.redirects[FILE] = f"{pass_on}/a/model/resolve/main/{FILE}"
        with pytest.raises(DownloadError):  # the redirect has no ETag, so nothing is taken
            fetch()
    assert set(other.authorizations) <= {""}
    assert any(hub.authorizations)


def test_a_link_to_a_store_of_files_is_followed_without_a_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hubs keep large files on other hosts: HEAD names the file, GET goes to the other host."""
    monkeypatch.setenv("HF_TOKEN", "hf_t0k3n")
    store = Hub({"a/model": {FILE: WEIGHTS}})
    with monkeypatch.context() as patch, serve(patch, str(tmp_path / "x"), store):
        point_client(patch, str(tmp_path / "cache"), hub.address)
        patch.setenv("HF_TOKEN", "hf_t0k3n")
        hub.redirects[FILE] = f"{store.address}/a/model/resolve/main/{FILE}"
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        hub.linked = {
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(len(WEIGHTS)),
            "X-Repo-Commit": COMMIT,
        }
        assert (fetch() / FILE).read_bytes() == WEIGHTS
        assert set(hub.authorizations) == {"Bearer hf_t0k3n"}
        assert store.requests == [f"GET /a/model/resolve/main/{FILE}"]
        assert store.authorizations == [""]
        store.spoilt[FILE] = WEIGHTS[:-1] + b"!"
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache 2"))
        with pytest.raises(DownloadError, match="SHA-256"):
            fetch()


def test_a_password_in_the_endpoint_works_and_is_told_to_nobody(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address = hub.address.replace("http://", "http://me:s3cr3t@") + "?token=t0k3n"
    monkeypatch.setattr(constants, "ENDPOINT", address.removesuffix("?token=t0k3n"))
    template = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    located = locate("hf:a/model", progress=False)
    assert set(hub.authorizations) == {"Basic bWU6czNjcjN0"}
    said = [caplog.text, str(located)]
    for break_it in (
        lambda: hub.refusals.update({"a/model": (500, "")}),
        lambda: hub.refusals.update({"a/model": (401, "RepoNotFound")}),
        lambda: hub.refusals.update({"a/model": (404, "")}),
        lambda: (hub.refusals.clear(), hub.redirects.update({"": address})),
        lambda: monkeypatch.setattr(constants, "ENDPOINT", "http://me:s3cr3t@127.0.0.1:1"),
        lambda: monkeypatch.setattr(constants, "ENDPOINT", "http://me:s3cr3t@127.0.0.1:http"),
    ):
        break_it()
        with pytest.raises(DownloadError) as refusal:
            locate("hf:a/model@other", progress=False)
        error: BaseException | None = refusal.value
        while error is not None:  # --traceback shows the causes too
            said.append(f"{error}")
            error = error.__cause__
    said.append(caplog.text)
    for line in said:
        assert "s3cr3t" not in line
        assert "bWU6czNjcjN0" not in line
        assert "t0k3n" not in line


@pytest.mark.usefixtures("telemetry")
def test_only_the_listing_and_the_files_are_asked_for(hub: Hub) -> None:
    fetch()
    assert {request.split()[1].split("/")[1] for request in hub.requests} == {"api", "a"}
    assert not any("agent" in request for request in hub.requests), hub.requests


@pytest.mark.usefixtures("telemetry")
def test_a_password_in_the_endpoint_is_in_no_log_with_telemetry(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.address.replace("http://", "http://me:s3cr3t@"))
    caplog.set_level(logging.DEBUG)
    fetch()
    assert "/api/models/a/model" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_the_log_of_a_broken_download_shows_no_signature(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    with transfers.quiet_logs():
        logging.getLogger("huggingface_hub.file_download").warning(
            "Error while downloading from %s: %s", "https://u:p@cdn/x?sig=SECRET", "\x1b[2J"
        )
    assert r"from https://cdn/x?... \x1b[2J" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pw@host/a?b=c#d e", "https://host/a?... e"),
        ("for url 'http://u:p@ss@host:80/x'", "for url 'http://host:80/x'"),
        ("(https://token@host)", "(https://host)"),
        ("hf:a/b@main and mail@host", "hf:a/b@main and mail@host"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_secrets_of_urls_are_cut_out(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_url_as_a_name_is_refused_without_its_secrets() -> None:
    with pytest.raises(UnknownModelError) as refusal:
        locate("https://user:pw@host/model.pt?token=abc")
    assert "https://host/model.pt?..." in str(refusal.value)
    assert "pw" not in str(refusal.value)
    assert "abc" not in str(refusal.value)
