"""Drawings are read from tar files whose other members change nothing on disk."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ecliptic.errors import EclipticError, ImageError, StorageError
from ecliptic.train.drawings import read_csv, read_tar
from tests.train.drawings import draw
from tests.waiting import alarm_after


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(20)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], **kinds: bytes) -> Path:
    """A tar of files, and of members whose type is in `kinds` and who link to /etc/passwd."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
        for name, kind in kinds.items():
            about = tarfile.TarInfo(f"{name}.png")
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
    return path


def test_c8_links_devices_and_foreign_names_are_left_out_and_nothing_is_extracted(
    tmp_path: Path,
) -> None:
    drawing = png(draw("red", "circle", "flat"))
    members = {"a.png": drawing, "../../b.png": drawing, "/c.png": drawing}
    kinds = {"sym": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE,
             "device": tarfile.CHRTYPE, "folder": tarfile.DIRTYPE}  # fmt: skip
    path = write_tar(tmp_path / "x.tar", members, **kinds)
    assert [name for name, _ in read_tar(path)] == ["a", "b", "c"]
    assert [found.name for found in tmp_path.iterdir()] == ["x.tar"]


def test_c10_members_that_are_no_drawings_are_left_out(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.pkl": b"cos\nsystem\n", "b.pt": b"", "c.pyd": b""})
    assert read_tar(path) == []


def test_a_drawing_of_another_size_or_kind_is_named(tmp_path: Path) -> None:
    small = write_tar(tmp_path / "s.tar", {"a.png": png(Image.new("RGBA", (8, 8)))})
    with pytest.raises(StorageError, match=r"a\.png in .*s\.tar is not 96x96"):
        read_tar(small)
    large = write_tar(tmp_path / "l.tar", {"a.png": png(Image.new("1", (30_000, 2_000)))})
    with pytest.raises(ImageError, match=r"a\.png in .*l\.tar is 30000x2000"):
        read_tar(large)
    jpeg = write_tar(tmp_path / "j.tar", {"a.png": b"\xff\xd8\xff\xe0" + bytes(100)})
    with pytest.raises(ImageError, match="allowed format"):
        read_tar(jpeg)


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", {"a.png": png(draw("red", "circle", "flat"))})
    whole = path.read_bytes()
    for cut in (100, 512, 700):
        path.write_bytes(whole[:cut])
        with pytest.raises(EclipticError, match=r"x\.tar"):
            read_tar(path)
    path.write_bytes(b"\x1f\x8b" + whole)  # compressed files could unpack to anything
    with pytest.raises(StorageError, match="no intact tar file"):
        read_tar(path)
    with pytest.raises(StorageError, match="no file"):
        read_tar(tmp_path / "none.tar")
    (tmp_path / "x.csv").write_bytes(b'a\n"' + b"x" * 9_000_000 + b'"\n')
    with pytest.raises(StorageError, match=r"x\.csv is no csv file"):
        read_csv(tmp_path / "x.csv")
