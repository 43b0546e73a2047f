"""A saved classifier answers as before; other models and damaged files are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from ecliptic.errors import CorruptFileError, SpaceMismatchError, StorageError
from ecliptic.storage import write_safetensors
from ecliptic.tasks import Classifier, Promises
from ecliptic.tasks.classification.files import FORMAT
from tests import tiny
from tests.tasks.classification.conftest import LABELS, Draw

WAYS: dict[str, dict[str, Any]] = {
    "not fitted": {},
    "temperature": {"method": "temperature", "promises": Promises(accuracy=0.5, sets=0.8)},
    "platt per label": {"method": "platt", "per_label": True, "promises": Promises(answered=0.8)},
    "probe": {"few_shot": "probe", "promises": Promises(known=0.9)},
    "tip-adapter": {"few_shot": "tip-adapter"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_classifier_answers_as_the_saved_one(
    clip: Clip, draw: Draw, tmp_path: Path, way: str
) -> None:
    classifier = Classifier(clip, {"animal": ["cat", "dog"], "thing": ["car", "house"]})
    if WAYS[way]:
        classifier.fit(*draw(80, noise=2.0), **WAYS[way])
    _check_same(classifier, clip, draw, tmp_path / "c.safetensors")


def test_backgrounds_and_several_labels_are_saved_too(
    clip: Clip, draw: Draw, tmp_path: Path
) -> None:
    vectors, truth = draw(400, noise=2.0)
    made = {
        "images": Classifier(clip, LABELS, background_images=vectors),
        "texts": Classifier(clip, LABELS, background_texts=["a photo"]).fit(vectors, truth),
        "several": Classifier(clip, LABELS, several=True).fit(
            vectors, truth, promises=Promises(recall=0.9)
        ),
    }
    for name, classifier in made.items():
        _check_same(classifier, clip, draw, tmp_path / f"{name}.safetensors")


def _check_same(classifier: Classifier, clip: Clip, draw: Draw, path: Path) -> None:
    classifier.save(path)
    loaded = Classifier.load(path, clip)
    asked = draw(50, seed=9, noise=2.0)[0]
    one, other = classifier.predict(asked), loaded.predict(asked)
    assert (one.labels, one.sets) == (other.labels, other.sets)
    assert torch.equal(one.probabilities, other.probabilities)
    assert torch.equal(one.abstained, other.abstained)
    assert loaded.describe() == classifier.describe()
    assert (loaded.tree, loaded.labels) == (classifier.tree, classifier.labels)


def test_another_model_is_refused(clip: Clip, tmp_path: Path) -> None:
    Classifier(clip, LABELS).save(tmp_path / "c.safetensors")
    write(tiny.checkpoint("vit", seed=5), tmp_path / "other")
    with pytest.raises(SpaceMismatchError, match="load that model, or fit a classifier for this"):
        Classifier.load(tmp_path / "c.safetensors", ecliptic.load(tmp_path / "other"))


def test_files_are_not_replaced_unasked_and_need_their_suffix(clip: Clip, tmp_path: Path) -> None:
    classifier = Classifier(clip, LABELS)
    classifier.save(tmp_path / "c.safetensors")
    with pytest.raises(StorageError, match="overwrite=True"):
        classifier.save(tmp_path / "c.safetensors")
    classifier.save(tmp_path / "c.safetensors", overwrite=True)
    with pytest.raises(StorageError, match=r"must end in \.safetensors"):
        classifier.save(tmp_path / "c.pt")
    with pytest.raises(StorageError, match="there is no file"):
        Classifier.load(tmp_path / "missing.safetensors", clip)


def _damage(about: dict[str, Any], tensors: dict[str, torch.Tensor], how: str) -> None:
    if how == "labels":
        about["labels"] = ["cat"]
    elif how == "field":
        about["colour"] = "red"
    elif how == "scale":
        about["scale"] = -1.0
    elif how == "calibrator":
        about["calibrator"]["value"] = "warm"
    elif how == "nan":
        tensors["texts"][0, 0] = torch.nan
    elif how == "tensor":
        tensors["more"] = torch.ones(1)
    elif how == "probe":
        tensors["probe.weights"] = torch.ones(1, 32)
    else:
        del tensors["texts"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("labels", "not of 1 labels"),
        ("field", "no field 'colour'"),
        ("scale", r"its scale is -1\.0"),
        ("calibrator", "value must be float"),
        ("nan", "not of 4 labels"),
        ("tensor", "the unknown tensor more"),
        ("probe", "linear probe does not fit"),
        ("texts", "is damaged"),
    ],
)
def test_damaged_files_are_refused(
    clip: Clip, draw: Draw, tmp_path: Path, how: str, message: str
) -> None:
    path = tmp_path / "c.safetensors"
    Classifier(clip, LABELS).fit(*draw(40), few_shot="probe").save(path)
    about, tensors = FORMAT.read(path)
    _damage(about, tensors, how)
    FORMAT.write(tmp_path / "bad.safetensors", about, tensors)
    with pytest.raises(CorruptFileError, match=message):
        Classifier.load(tmp_path / "bad.safetensors", clip)


def test_a_file_of_something_else_is_refused(clip: Clip, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", {"a": torch.ones(1)}, {"format": "pt"})
    with pytest.raises(CorruptFileError, match="is no classifier"):
        Classifier.load(tmp_path / "x.safetensors", clip)
