"""No function of the package waits for a pipe, reads a device, or replaces one."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecliptic.checkpoints import locate, read, write
from ecliptic.compat import clip as openai_clip
from ecliptic.diffusion import conditioner
from ecliptic.engine import load, save_vectors
from ecliptic.errors import EclipticError, ImageError
from ecliptic.inputs import open_image
from ecliptic.report import demo
from ecliptic.settings import load_toml
from ecliptic.train import TrainSettings
from ecliptic.train.data.archives import TarExamples
from ecliptic.train.data.drawings import read_csv
from ecliptic.train.settings import TarsConfig
from tests import tiny
from tests.waiting import alarm_after, special_files

READERS: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "read": read,
    "locate": locate,
    "clip.load": lambda path: openai_clip.load(str(path)),
    "conditioner": lambda path: conditioner("sd1", path),
    "t5": lambda path: conditioner("sd3", [path, path], t5=path),
    "open_image": open_image,
    "load_toml": lambda path: load_toml(TrainSettings, path),
    "read_csv": read_csv,
    "read_tar": lambda path: TarExamples([path], TarsConfig(f"{path}")),
}


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(60)


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_device_is_an_error_of_ours_at_once(name: str, tmp_path: Path) -> None:
    for path in special_files(tmp_path):
        with pytest.raises(EclipticError):
            READERS[name](path)


@pytest.mark.parametrize("layout", ["ecliptic", "open_clip", "transformers"])
def test_every_file_of_a_checkpoint_may_be_a_pipe(layout: Any, tmp_path: Path) -> None:
    """A file that the layout can do without counts as missing."""
    write(tiny.checkpoint("vit"), tmp_path / "model", layout)
    for place in sorted((tmp_path / "model").iterdir()):
        held = tmp_path / "held"
        place.rename(held)
        pipe, *_ = special_files(tmp_path / "model", ".test")
        pipe.rename(place)
        with suppress(EclipticError):
            read(tmp_path / "model")
        place.unlink()
        for other in (tmp_path / "model").glob("*.test"):
            other.unlink()
        held.rename(place)
    read(tmp_path / "model")


def test_a_file_that_becomes_a_pipe_after_it_was_checked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, *_ = special_files(tmp_path, ".safetensors")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(EclipticError, match="must be a regular file"):
        read(pipe)


def test_images_of_a_list_are_rejected_one_by_one(tmp_path: Path) -> None:
    clip = load("mini")
    paths = special_files(tmp_path)
    found = clip.encode_image([np.zeros((8, 8, 3), np.uint8), *paths], on_error="reject")
    assert found.kept == (0,)
    assert all("must be a regular file" in reject.reason for reject in found.rejected)
    with pytest.raises(ImageError, match="must be a regular file"):
        clip.encode_image(paths[0])


def test_outputs_are_never_pipes_or_devices(tmp_path: Path) -> None:
    card = load("mini").card
    for path in special_files(tmp_path, ".npy"):
        with pytest.raises(EclipticError, match="a file cannot replace"):
            save_vectors(path, torch.zeros(1, card.embed), card)
        assert not path.is_file()
    for path in special_files(tmp_path, ".html"):
        with pytest.raises(EclipticError, match="a file cannot replace"):
            demo(path, quiet=True)
