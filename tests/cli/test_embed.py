"""`embed`: each usable item gets a vector, in order; each other item is reported."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ecliptic.cli.main import app
from ecliptic.engine import Item, embed_items, load, load_vectors


def test_vectors_are_those_of_the_api(run: Any, model: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    result = run("embed", images / "a.png", images / "sub", "-t", "a cat", "-m", model, "-o", out)
    assert result.exit_code == 0, result.stderr
    clip = load(model)
    stored = load_vectors(out, clip.card)
    assert stored.ids == (str(images / "a.png"), str(images / "sub/b.png"), "a cat")
    vectors = clip.encode_image([images / "a.png", images / "sub/b.png"])
    expected = torch.cat([vectors, clip.encode_text("a cat")])
    np.testing.assert_allclose(stored.vectors, expected.numpy(), atol=1e-6)
    assert not Path(f"{out}.rejects.jsonl").exists()


@pytest.mark.parametrize("pixels", ["close", "fast"])
def test_pixels_are_those_of_the_flag(run: Any, model: str, tmp_path: Path, pixels: Any) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "v.npy"
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    assert run("embed", photo, "-m", model, "--pixels", pixels, "-o", out).exit_code == 0
    clip, exact = load(model, pixels=pixels), load(model)
    stored = load_vectors(out, clip.card)
    np.testing.assert_allclose(stored.vectors, clip.encode_image(photo).numpy(), atol=1e-6)
    assert not np.array_equal(stored.vectors, exact.encode_image(photo).numpy())


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_every_format_holds_vectors_and_ids(
    run: Any, model: str, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"v{suffix}"
    assert run("embed", "-t", "a", "-t", "b", "-m", model, "-o", out).exit_code == 0
    stored = load_vectors(out)
    assert stored.ids == ("a", "b")
    assert stored.vectors.shape == (2, 32)


def test_rejects_are_listed_and_exit_with_3(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "v.npy"
    result = run("embed", images, tmp_path / "gone*.png", "-m", model, "-o", out, "--json")
    assert result.exit_code == 3
    assert "rejected" in result.stderr
    lines = Path(f"{out}.rejects.jsonl").read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [r["source"] for r in rejects] == [
        str(images / "broken.png"),
        str(tmp_path / "gone*.png"),
    ]
    assert [r["index"] for r in rejects] == [1, 0] or rejects[0]["index"] == 1
    assert all(r["reason"] for r in rejects)
    assert json.loads(result.stdout)["vectors"] == 2
    assert load_vectors(out).ids == (str(images / "a.png"), str(images / "sub/b.png"))


def test_an_old_list_of_rejects_does_not_stay(run: Any, model: str, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    stale = Path(f"{out}.rejects.jsonl")
    stale.write_text("{}\n")
    assert run("embed", "-t", "a", "-m", model, "-o", out, "--force").exit_code == 0
    assert not stale.exists()


def test_nothing_usable_is_a_failure_and_writes_no_vectors(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    result = run("embed", images / "broken.png", "-m", model, "-o", tmp_path / "v.npy")
    assert result.exit_code == 1
    assert "1 item rejected and none embedded, so nothing is written" in result.stderr
    assert "broken.png" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_what_is_there_is_replaced_only_by_force(run: Any, model: str, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    words = ["embed", "-t", "a", "-m", model, "-o", out]
    assert run(*words).exit_code == 0
    refused = run(*words)
    assert refused.exit_code == 1
    assert "--force" in refused.stderr
    assert run(*words, "--force").exit_code == 0


def test_an_unknown_suffix_is_refused_before_the_work(run: Any, tmp_path: Path) -> None:
    result = run("embed", "-t", "a", "-m", tmp_path / "no model", "-o", tmp_path / "v.csv")
    assert result.exit_code == 2
    assert "must end in one of .npy" in result.stderr


def test_tables_need_a_column(run: Any, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("c\na\n")
    assert run("embed", tmp_path / "t.csv").exit_code == 2


def test_a_table_of_texts(run: Any, model: str, tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "v.npy"
    table.write_text("key,caption\n7,a cat\n8,a dog\n")
    words = ["embed", table, "--kind", "text", "--column", "caption", "--id", "key"]
    assert run(*words, "-m", model, "-o", out).exit_code == 0
    assert load_vectors(out).ids == ("7", "8")


def test_paths_and_texts_from_stdin(model: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    names = f"{images / 'a.png'}\n{images / 'sub/b.png'}\n"
    words = ["embed", "-", "-m", model, "-o", str(out), "--force"]
    assert CliRunner().invoke(app, words, input=names).exit_code == 0
    assert load_vectors(out).ids == tuple(names.split())
    texts = "caf\u00e9\n\nzwei\n".encode()
    assert CliRunner().invoke(app, [*words, "--kind", "text"], input=texts).exit_code == 0
    assert load_vectors(out).ids == ("caf\u00e9", "zwei")


def test_long_texts_are_cut_and_named_by_their_place(run: Any, model: str, tmp_path: Path) -> None:
    words = ["embed", "-t", "short", "-t", "one two three " * 10, "-m", model]
    result = run(*words, "-o", tmp_path / "v.npy")
    assert result.exit_code == 0
    assert "text 1 is too long and loses" in result.stderr


def test_b12_a_text_that_cannot_be_tokenized_is_one_reject(
    run: Any, model: str, tmp_path: Path
) -> None:
    file, out = tmp_path / "t.txt", tmp_path / "v.npy"
    file.write_text("a cat\n&#" + "9" * 5000 + ";\na dog\n")
    result = run("embed", "--texts", file, "-m", model, "-o", out)
    assert result.exit_code == 3, result.stderr
    assert load_vectors(out).ids == ("a cat", "a dog")
    rejects = (tmp_path / "v.npy.rejects.jsonl").read_text().splitlines()
    assert [json.loads(row)["index"] for row in rejects] == [1]
    assert "thousands of digits" in json.loads(rejects[0])["reason"]


def test_names_that_are_not_utf8_survive(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (images / "a.png").rename(images / name)
    out = tmp_path / "v.parquet"
    pytest.importorskip("pyarrow")
    result = run("embed", images / name, "-m", model, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    assert load_vectors(out).ids == (str(images / r"caf\udce9.png"),)


def test_memory_holds_a_few_batches_of_an_endless_stream(model: str, images: Path) -> None:
    """Items are read as they are needed, not collected first."""
    clip, taken = load(model), 0

    def endless() -> Iterator[Item]:
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), str(images / "a.png"))

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with embed_items(clip, [("image", endless())], batch_size=2, advance=stop) as done:
        assert done.interrupted
        assert 0 < len(done.names) <= taken <= 200
        assert done.vectors().shape == (len(done.names), 32)


def test_flags_of_images_that_are_not_read_are_named(run: Any, model: str, tmp_path: Path) -> None:
    words = ["--model", model, "--pixels", "fast", "--preprocess", "robust"]
    done = run("embed", "-t", "a cat", "-o", tmp_path / "a.npy", *words)
    said = "note: no image is read, so --preprocess, --pixels change no vector"
    assert said in done.stderr
    again = run("similarity", tmp_path / "a.npy", "-t", "a dog", "--model", model, *words[2:4])
    assert "note: no image is read, so --pixels changes no vector" in again.stderr
    stored = run("similarity", tmp_path / "a.npy", "--image-size", "3")
    assert "note: stored vectors need no model, so --image-size is not used" in stored.stderr
    labels = run("classify", tmp_path / "a.npy", "-l", "cat,dog", "--model", model, *words[2:4])
    assert "note: no image is read, so --pixels changes no vector" in labels.stderr
