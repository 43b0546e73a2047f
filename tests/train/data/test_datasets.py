"""Data sets of Hugging Face: rows, splits, and the package that may be missing."""

import pickle
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ecliptic.errors import ConfigError, InputError, MissingExtraError, StorageError
from ecliptic.train.data.datasets import open_dataset
from ecliptic.train.settings import DatasetConfig

from .pictures import png

CONFIG = DatasetConfig(Path("set"), captions=("caption", "more"))


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets")


def test_rows_have_encoded_images_and_all_captions(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "3.png").write_bytes(png(3))
    images = [{"bytes": png(i), "path": None} for i in range(3)]
    rows = {
        "image": [*images, str(tmp_path / "3.png"), None],
        "caption": ["zero", " one", "", "three", "four"],
        "more": [["a", "b"], [], [], ["c"], []],
    }
    features = datasets.Features(
        image=datasets.Image(), caption=datasets.Value("string"),
        more=datasets.Sequence(datasets.Value("string")),
    )  # fmt: skip
    datasets.Dataset.from_dict(rows, features).save_to_disk(str(tmp_path / "set"))
    found = pickle.loads(pickle.dumps(open_dataset(CONFIG, tmp_path)))
    assert len(found) == 5
    assert found.captions(0) == ("zero", "a", "b")
    assert found.draw(1, Random(0)).caption == "one"
    assert found.picture(1) == png(1)
    picture = found.picture(3)  # save_to_disk may store the bytes
    assert (picture if isinstance(picture, bytes) else picture.read_bytes()) == png(3)
    with pytest.raises(InputError, match="set, row 3: no caption in 'caption', 'more'"):
        found.draw(2, Random(0))
    with pytest.raises(InputError, match="set, row 5: no image"):
        found.draw(4, Random(0))
    before = found.fingerprint()
    (tmp_path / "set" / "state.json").write_text("{}")
    assert found.fingerprint() != before


def test_splits_columns_and_other_folders_are_named(tmp_path: Path, datasets: Any) -> None:
    one = datasets.Dataset.from_dict({"image": ["a.png"], "captoin": ["x"]})
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(StorageError, match=r"several splits.*set/train, set/test"):
        open_dataset(CONFIG, tmp_path)
    with pytest.raises(StorageError, match=r"no column 'caption'.*did you mean 'captoin'"):
        open_dataset(DatasetConfig(Path("set/train")), tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageError, match="is no data set of `save_to_disk`"):
        open_dataset(DatasetConfig(Path("other")), tmp_path)


def test_without_the_package_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "set").mkdir()
    with pytest.raises(MissingExtraError, match="`pip install datasets`, or write tars"):
        open_dataset(CONFIG, tmp_path)
    with pytest.raises(StorageError, match="there is no folder"):
        open_dataset(DatasetConfig(Path("none")), tmp_path)
    with pytest.raises(ConfigError, match="at least one column"):
        open_dataset(DatasetConfig(Path("set"), captions=()), tmp_path)
