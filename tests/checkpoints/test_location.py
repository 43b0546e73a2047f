"""A name becomes a checked file on this disk; a path never causes network traffic."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from ecliptic.checkpoints.catalog import find
from ecliptic.checkpoints.hub.location import Located, locate
from ecliptic.checkpoints.hub.repository import choose
from ecliptic.errors import DownloadError, UnknownModelError
from tests.hub import COMMIT, Hub, point_client, serve

NAME = "ViT-B-32/laion2b_s34b_b79k"
REPOSITORY = find(NAME).hub
WEIGHTS = save({"a": torch.arange(300_000.0)})
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {
        REPOSITORY: {
            "open_clip_model.safetensors": WEIGHTS,
            "open_clip_pytorch_model.bin": b"old",
            "open_clip_config.json": b"{}",
            "model.safetensors": b"transformers' copy",
            "config.json": b"{}",
            "README.md": b"words",
        },
        "a/sharded": {
            "config.json": b"{}",
            "merges.txt": b"",
            "model.safetensors.index.json": json.dumps({"weight_map": {}}).encode(),
            "model-00001-of-00002.safetensors": save({"a": torch.ones(2)}),
            "model-00002-of-00002.safetensors": save({"b": torch.ones(2)}),
            "pytorch_model.bin": b"old",
            "flax_model.msgpack": b"other",
        },
        "a/pipeline": {
            "model_index.json": b"{}",
            "unet/config.json": b"{}",
            "unet/model.safetensors": WEIGHTS,
            "text_encoder/config.json": b"{}",
            "text_encoder/model.safetensors": save({"a": torch.ones(2)}),
            "text_encoder_2/config.json": b"{}",
            "text_encoder_2/model.safetensors": save({"b": torch.ones(2)}),
            "tokenizer/merges.txt": b"",
        },
        "a/empty": {"README.md": b"words"},
    }
    with serve(monkeypatch, str(tmp_path / "cache"), Hub(repositories)) as hub:
        yield hub


def files(folder: Path) -> set[str]:
    return {x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()}


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("blobs/*") if path.is_file()]


def test_a_catalog_name_downloads_its_weights_and_only_those(hub: Hub) -> None:
    located = locate(NAME, progress=False)
    assert located.path.name == "open_clip_model.safetensors"
    assert located.path.read_bytes() == WEIGHTS
    assert located.row == find(NAME)
    assert located.name == NAME
    assert files(located.path.parent) == {"open_clip_model.safetensors"}


@pytest.mark.parametrize(
    "name", ["ViT-B-32::laion2b_s34b_b79k", f"hf-hub:{REPOSITORY}", REPOSITORY]
)
def test_another_librarys_name_downloads_the_same_weights(hub: Hub, name: str) -> None:
    assert locate(name, progress=False) == locate(NAME, progress=False, offline=True)


def test_another_repository_in_open_clips_spelling_is_fetched_as_it_is(hub: Hub) -> None:
    located = locate("hf-hub:a/sharded", progress=False)
    assert located == locate("hf:a/sharded", progress=False)


def test_cached_weights_need_no_request(hub: Hub) -> None:
    first = locate(NAME, progress=False)
    hub.requests.clear()
    assert locate(NAME, progress=False) == first
    assert locate(NAME, progress=False, offline=True) == first
    assert hub.requests == []


def test_older_repositories_give_their_pickled_weights(hub: Hub) -> None:
    hub.repositories[REPOSITORY] = {"open_clip_pytorch_model.bin": b"\x80\x02}."}
    assert locate(NAME, progress=False).path.name == "open_clip_pytorch_model.bin"


def test_a_cut_connection_is_resumed_where_it_broke(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)  # bytes kept at a time
    hub.cut["open_clip_model.safetensors"] = 500_000
    assert locate(NAME, progress=False).path.read_bytes() == WEIGHTS
    fetched = [x for x in hub.requests if x.startswith("GET") and "resolve" in x]
    assert len(fetched) == 2
    assert fetched[1].endswith("bytes=500000-")


def test_c7_other_bytes_than_listed_are_refused_and_forgotten(hub: Hub, tmp_path: Path) -> None:
    hub.spoilt["open_clip_model.safetensors"] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DownloadError, match=r"has the SHA-256 .* the hub lists"):
        locate(NAME, progress=False)
    assert blobs(tmp_path) == []
    hub.spoilt.clear()
    assert locate(NAME, progress=False).path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LFS_POINTER, "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"", "empty file"),
        (b'{"error": "no"}', "JSON text"),
    ],
)
def test_c7_what_is_no_weights_is_refused_and_forgotten(
    hub: Hub, tmp_path: Path, content: bytes, reason: str
) -> None:
    hub.repositories[REPOSITORY]["open_clip_model.safetensors"] = content
    with pytest.raises(DownloadError, match=reason):
        locate(NAME, progress=False)
    assert blobs(tmp_path) == []


def test_offline_without_cache_says_how_to_get_the_file(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DownloadError, match="not in the cache, and offline") as refusal:
        locate(NAME, offline=True)
    assert f"hf download {REPOSITORY}" in str(refusal.value)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="not in the cache, and offline"):
        locate(NAME)
    assert hub.requests == []


def test_without_network_the_error_names_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    point_client(monkeypatch, str(tmp_path), address)
    with pytest.raises(DownloadError) as refusal:
        locate(NAME, progress=False)
    for part in (address, REPOSITORY, "no answer from the hub", "hf download", str(tmp_path)):
        assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "RepoNotFound", "no such repository"),
        (401, "RepoNotFound", "hf auth login"),
        (403, "GatedRepo", "access must be requested on its page"),
        (500, "", "status 500"),
    ],
)
def test_refusals_of_the_hub_are_told_with_the_fix(
    hub: Hub, status: int, code: str, reason: str
) -> None:
    hub.refusals[REPOSITORY] = (status, code)
    with pytest.raises(DownloadError, match=reason):
        locate(NAME, progress=False)


def test_an_unknown_revision_is_refused(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="no such revision"):
        locate(NAME, revision="v9", progress=False)


def test_a_repository_gives_one_set_of_weights_and_its_texts(hub: Hub) -> None:
    located = locate(f"hf:{REPOSITORY}", progress=False)
    assert located.path.is_dir()
    assert located.name == REPOSITORY
    assert located.row is None
    assert files(located.path) == {
        *("open_clip_model.safetensors", "open_clip_config.json", "config.json")
    }
    sharded = locate("hf:a/sharded", progress=False).path
    assert files(sharded) == {
        *("config.json", "merges.txt", "model.safetensors.index.json"),
        *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
    }


def test_a_pipeline_gives_its_encoders_without_the_rest(hub: Hub) -> None:
    whole = locate("hf:a/pipeline", progress=False).path
    assert {name.split("/")[0] for name in files(whole)} == {
        *("model_index.json", "text_encoder", "text_encoder_2", "tokenizer")
    }
    part = locate("hf:a/pipeline/text_encoder_2", progress=False)
    assert files(part.path) == {"config.json", "model.safetensors"}


def test_one_file_and_a_revision_can_be_named(hub: Hub) -> None:
    source = f"hf:a/pipeline/text_encoder/model.safetensors@{COMMIT}"
    located = locate(source, progress=False)
    assert located.path.name == "model.safetensors"
    assert located.name == source.removeprefix("hf:")
    with pytest.raises(UnknownModelError, match="names the revision"):
        locate("hf:a/pipeline@one", revision="two")


def test_a_repository_falls_back_to_the_cache(hub: Hub) -> None:
    online = {name: locate(name, progress=False) for name in ("hf:a/sharded", "hf:a/pipeline")}
    inside = locate("hf:a/pipeline/text_encoder", progress=False)
    assert all(locate(name, offline=True) == found for name, found in online.items())
    hub.refusals |= {"a/sharded": (503, ""), "a/pipeline": (500, "")}
    assert all(locate(name, progress=False) == found for name, found in online.items())
    assert locate("hf:a/pipeline/text_encoder", offline=True) == inside


def test_a_repository_without_weights_is_refused(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="has no weights"):
        locate("hf:a/empty", progress=False)
    with pytest.raises(DownloadError, match="no weights at 'vae'"):
        locate("hf:a/pipeline/vae", progress=False)


def test_progress_can_be_hidden(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    locate(NAME, progress=False)
    assert capfd.readouterr() == ("", "")


def test_what_exists_on_this_disk_is_taken_as_it_is(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "x.pt", tmp_path / "model"
    file.touch()
    folder.mkdir()
    assert locate(file) == Located(file, None, "x")
    assert locate(str(folder)) == Located(folder, None, "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/x.pt").path == file
    monkeypatch.chdir(tmp_path)
    Path(*NAME.split("/")).mkdir(parents=True)
    assert locate(NAME).row is None
    assert hub.requests == []


@pytest.mark.parametrize("make", [str, Path])
def test_a_missing_path_lists_what_is_near(tmp_path: Path, make: type) -> None:
    (tmp_path / "vit_b_32.pt").touch()
    (tmp_path / "notes.md").touch()
    with pytest.raises(UnknownModelError, match=r"has 'vit_b_32\.pt'"):
        locate(make(tmp_path / "vit_b32.pt"))
    with pytest.raises(UnknownModelError, match=r"has 'vit_b_32\.pt'"):
        locate(make(tmp_path / "something.safetensors"))
    with pytest.raises(UnknownModelError, match="there is no folder"):
        locate(make(tmp_path / "a" / "b" / "x.pt"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(UnknownModelError, match="has no weights"):
        locate(make(tmp_path / "bare" / "x.pt"))


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("someone/clip-vit-base-patch32", "'hf:someone/clip-vit-base-patch32'"),
        ("ViT-B-32/openay", "'ViT-B-32/openai'"),
        ("RN50-quickgelu", "'RN50/openai'"),
        ("hf:alone", "write it as 'hf:org/name'"),
        ("hf:a/../b", "write it as 'hf:org/name'"),
        ("https://example.org/x.pt", "URLs are not downloaded"),
        ("", "run `ecliptic models`"),
    ],
)
def test_a_name_that_is_none_is_refused_with_advice(source: str, advice: str) -> None:
    with pytest.raises(UnknownModelError, match=re.escape(advice)):
        locate(source)


def test_shards_and_texts_are_chosen_by_name_alone() -> None:
    assert choose(["a.pt", "notes.md"]) == ["a.pt"]
    assert choose(["a.pt", "b.pt"]) == []
    assert choose(["a.safetensors", "a.ckpt"]) == ["a.safetensors"]
    assert choose(["model.safetensors", "ecliptic.json"]) == ["model.safetensors", "ecliptic.json"]
    assert choose(["x/y.pt", "z.pt"], "x") == ["x/y.pt"]


def test_a_name_that_the_hub_does_not_allow_is_refused_as_such(hub: Hub) -> None:
    for name in ("hf:a b/c", "hf:a/b--c", "hf:a/" + "c" * 200):
        with pytest.raises(DownloadError):
            locate(name, progress=False)
        with pytest.raises(DownloadError):
            locate(name, progress=False, offline=True)
