"""Everything that takes a path refuses one that no file can have with an error of its own."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import ecliptic.adapters as adapters
import ecliptic.diffusion as diffusion
from ecliptic.checkpoints import locate, read, write
from ecliptic.diffusion import Conditioner
from ecliptic.engine import (
    Clip,
    Columns,
    EmbeddingCache,
    Item,
    load,
    load_vectors,
    read_items,
    read_lines,
    save_vectors,
)
from ecliptic.errors import EclipticError, StorageError
from ecliptic.report import demo
from ecliptic.settings import load_toml
from ecliptic.train import TrainSettings
from tests import tiny
from tests.storage.test_paths import IMPOSSIBLE

LAYOUTS = ("ecliptic", "openai", "open_clip", "transformers")
Use = Callable[[Path, Clip, Conditioner], object]

WRITERS: dict[str, Use] = {
    **{f"write {x}": lambda p, c, d, x=x: write(tiny.checkpoint("vit"), p, x) for x in LAYOUTS},
    "save": lambda p, c, d: c.save(p),
    "save_conditioning": lambda p, c, d: diffusion.save_conditioning(
        d("a"), Path(f"{p}.safetensors"), {}
    ),
    "write_cache": lambda p, c, d: diffusion.write_cache(d, ["a"], p),
    "EmbeddingCache": lambda p, c, d: EmbeddingCache(p),
    "demo": lambda p, c, d: demo(p, c, quiet=True),
    **{
        f"save_vectors {x}": lambda p, c, d, x=x: save_vectors(
            Path(f"{p}.{x}"), c.encode_text(["a"]), c.card, ["a"]
        )
        for x in ("npy", "safetensors", "parquet")
    },
}


def raise_error_of(items: Iterable[Item]) -> None:
    """A name without files is one item with an error, so that the other names are still done."""
    (item,) = items
    assert item.error is not None
    raise item.error


READERS: dict[str, Use] = {
    **{
        f"load_vectors {x}": lambda p, c, d, x=x: load_vectors(Path(f"{p}.{x}"))
        for x in ("npy", "safetensors", "parquet")
    },
    "load": lambda p, c, d: load(str(p)),
    "load a Path": lambda p, c, d: load(p),
    "locate": lambda p, c, d: locate(p),
    "read": lambda p, c, d: read(p),
    "encode_image": lambda p, c, d: c.encode_image(str(p)),
    "encode_image of a Path": lambda p, c, d: c.encode_image([p]),
    "verify_cache": lambda p, c, d: diffusion.verify_cache(p),
    "ConditionCache": lambda p, c, d: diffusion.ConditionCache(p).load("a"),
    "read_kohya": lambda p, c, d: diffusion.read_kohya(f"{p}.npz"),
    "read_lora": lambda p, c, d: adapters.read_lora(p),
    "read_inversion": lambda p, c, d: adapters.read_inversion(p),
    "load_toml": lambda p, c, d: load_toml(TrainSettings, p),
    "read_lines": lambda p, c, d: list(read_lines(p)),
    **{
        f"read_items {x}": lambda p, c, d, x=x: list(read_items(f"{p}.{x}", Columns("a")))
        for x in ("csv", "jsonl", "parquet")
    },
    "read_items of a glob": lambda p, c, d: raise_error_of(read_items(f"{p}*", Columns())),
}


@pytest.fixture(scope="module")
def clip(model: str) -> Clip:
    return load(model)


@pytest.mark.parametrize("path", [path for path, _ in IMPOSSIBLE.values()], ids=IMPOSSIBLE)
@pytest.mark.parametrize("name", WRITERS)
def test_c11_writers_refuse_an_impossible_name(
    name: str, path: str, tmp_path: Path, clip: Clip, sdxl: Conditioner
) -> None:
    with pytest.raises(StorageError, match="cannot be the name of a file"):
        WRITERS[name](tmp_path / path, clip, sdxl)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [path for path, _ in IMPOSSIBLE.values()], ids=IMPOSSIBLE)
@pytest.mark.parametrize("name", READERS)
def test_c11_readers_refuse_an_impossible_name(
    name: str, path: str, tmp_path: Path, clip: Clip, sdxl: Conditioner
) -> None:
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    with pytest.raises(EclipticError):
        READERS[name](tmp_path / path, clip, sdxl)


@pytest.mark.parametrize("path", [path for path, _ in IMPOSSIBLE.values()], ids=IMPOSSIBLE)
def test_c11_an_impossible_glob_is_one_item_that_cannot_be_used(path: str) -> None:
    (item,) = read_items(f"{path}*", Columns())
    assert isinstance(item.error, EclipticError)


@pytest.mark.parametrize("path", [path for path, _ in IMPOSSIBLE.values()], ids=IMPOSSIBLE)
def test_c11_an_image_with_an_impossible_name_is_rejected_alone(
    path: str, images: Path, clip: Clip
) -> None:
    names = [str(images / "a.png"), path, str(images / "sub/b.png")]
    items = [item for name in names for item in read_items(name, Columns())]
    found = clip.encode_image([item.value for item in items], on_error="reject")
    assert list(found.kept) == [0, 2]


def test_c11_convert_says_so(run: Any, model: str, tmp_path: Path) -> None:
    result = run("convert", model, tmp_path / ("a" * 300))
    assert result.exit_code == 1
    assert "too long" in result.stderr
