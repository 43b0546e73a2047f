"""Folders of images with captions beside them."""

import pickle
from pathlib import Path
from random import Random

import pytest

from ecliptic.engine import LeftOutWarning
from ecliptic.errors import ConfigError, EclipticError, StorageError
from ecliptic.train.data.folders import FolderExamples, open_folder
from ecliptic.train.settings import FolderConfig

from .pictures import colour_of, png


def opened(root: Path, **settings: object) -> FolderExamples:
    return open_folder(FolderConfig(Path(), **settings), root)  # type: ignore[arg-type]


def write(root: Path, name: str, captions: bytes | None, number: int = 0) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(png(number))
    if captions is not None:
        (root / name).with_suffix(".txt").write_bytes(captions)


def test_captions_stand_beside_their_images(tmp_path: Path) -> None:
    write(tmp_path, "b/x.y.png", b"\xef\xbb\xbfone\r\n\r\n two \n", 1)
    write(tmp_path, "a.png", b"three")
    (tmp_path / "C.PNG").write_bytes(png(2))
    (tmp_path / "C.TXT").write_text("four")
    found = pickle.loads(pickle.dumps(opened(tmp_path, templates=("a {} here",))))
    assert list(found.files) == ["C.PNG", "a.png", "b/x.y.png"]
    assert [found.captions(i) for i in range(3)] == [("four",), ("three",), ("one", "two")]
    example = found.draw(2, Random(0))
    assert example.key == "b/x.y.png"
    assert example.caption in ("a one here", "a two here")
    assert colour_of(example.image) == (37, 91, 128)


def test_images_without_captions_are_counted_and_named_once(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, f"{name}.png", b"x" if name == "a" else None)
    with pytest.warns(LeftOutWarning, match=r"left out 2 of 3 images.*such as b\.png"):
        assert len(opened(tmp_path)) == 1
    (tmp_path / "a.txt").unlink()
    with pytest.raises(StorageError, match=r"no image in .* write those of cat\.jpg into cat\.txt"):
        opened(tmp_path)


def test_bad_caption_files_are_errors_of_their_example_alone(tmp_path: Path) -> None:
    for name, text in (("a", b"\xff"), ("b", b"\n \n"), ("c", b"x" * 70_000), ("d", b"good")):
        write(tmp_path, f"{name}.png", text)
    found = opened(tmp_path)
    for index, message in enumerate(("is not text", "holds no caption", "more than 65536 bytes")):
        with pytest.raises(StorageError, match=message):
            found.draw(index, Random(0))
    (tmp_path / "d.txt").unlink()
    with pytest.raises(StorageError, match="is gone"):
        found.draw(3, Random(0))


def test_folders_that_are_missing_or_empty_are_named(tmp_path: Path) -> None:
    with pytest.raises(EclipticError, match="no images in"):
        opened(tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        opened(tmp_path / "none")
    write(tmp_path, "a.png", b"x")
    for suffix in ("txt", "", ".", ".a/b"):
        with pytest.raises(ConfigError, match="is no suffix"):
            opened(tmp_path, captions=suffix)
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        opened(tmp_path, templates=("x",))


def test_the_fingerprint_follows_images_and_captions(tmp_path: Path) -> None:
    write(tmp_path, "a.png", b"x")
    found = opened(tmp_path)
    prints = [found.fingerprint()]
    assert prints[0] == opened(tmp_path).fingerprint()
    (tmp_path / "a.txt").write_text("longer")
    prints.append(found.fingerprint())
    (tmp_path / "a.png").write_bytes(png(3) + b"x")
    prints.append(found.fingerprint())
    assert len(set(prints)) == 3
