"""A file that fails its check is not left; folders are whole or as they were."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.errors import (
    ConfigError,
    ExportError,
    MissingExtraError,
    NumericalError,
    StorageError,
)
from ecliptic.export import Agreement, write_export
from tests import tiny
from tests.export.conftest import Clips


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda x: x + 1e-3 * x.abs().max(), r"image\.pt2 differs from ours by 1\.0e-03 of the la"),
        (
            lambda x: x * float("nan"),
            r"the vectors of the model must be finite, .*; repair its weights",
        ),
    ],
)
def test_a_file_that_differs_is_never_left(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any, said: str
) -> None:
    clip = clips("image")
    write_export(clip, tmp_path / "old", "torch")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(
        clip.runtime, "image", lambda x: found(type(clip.runtime).image(clip.runtime, x))
    )
    for folder in ("new", "old"):
        with pytest.raises((ExportError, NumericalError), match=said):
            write_export(clip, tmp_path / folder, "torch", overwrite=True)
    assert names(tmp_path) == ["old"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_fp16_that_overflows_is_refused_and_fp32_is_not(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("image")
    weights = dict(checkpoint.weights)
    weights["image.projection"] = weights["image.projection"] * 1e6
    write(type(checkpoint)(**vars(checkpoint) | {"weights": weights}), tmp_path / "model")
    clip = ecliptic.load(tmp_path / "model")
    with pytest.raises(ExportError, match=r"image\.fp16\.pt2 gives NaN or inf.*export fp32"):
        write_export(clip, tmp_path / "out", "torch", ["fp16"])
    write_export(clip, tmp_path / "out", "torch")


def test_a_folder_is_replaced_only_if_asked_and_keeps_no_older_files(
    clips: Clips, tmp_path: Path
) -> None:
    out = tmp_path / "a" / "out"
    write_export(clips("text"), out, "torch", ["fp16"])
    assert names(out) == ["export.json", "text.fp16.pt2", "text.json"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="out exists; pass overwrite=True"):
        write_export(clips("image"), out, "torch")
    made = write_export(clips("image"), out, "torch", overwrite=True)
    assert names(out) == ["export.json", "image.json", "image.pt2", "notes.txt"]
    assert made.notes == ("the model has no text tower, so there is no text file",)
    about = json.loads((out / "export.json").read_text("utf-8"))
    assert [file["file"] for file in about["files"]] == ["image.pt2"]
    assert (about["scale"], about["opset"], about["notes"]) == (None, None, list(made.notes))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be a folder, because it"):
        write_export(clips("image"), tmp_path / "file", "torch", overwrite=True)


def test_the_model_of_another_precision_or_in_train_mode_is_exported_as_fp32_and_stays(
    tmp_path: Path,
) -> None:
    write(tiny.checkpoint("resnet_image", dtype=torch.bfloat16), tmp_path / "model")
    clip, exact = (ecliptic.load(tmp_path / "model", precision=name) for name in ("bf16", "fp32"))  # type: ignore[arg-type]
    clip.model.train()
    made = write_export(clip, tmp_path / "out", "torch")
    assert made.notes[-1] == "the weights are those of bf16, written as fp32"
    assert clip.model.training
    assert clip.runtime.precision == "bf16"
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = torch.export.load(tmp_path / "out" / "image.pt2").module()(pixels)
    torch.testing.assert_close(found.detach(), exact.runtime.image(pixels), rtol=0, atol=1e-4)


def test_other_pixels_are_noted_since_the_steps_make_the_exact_ones(tmp_path: Path) -> None:
    write(tiny.checkpoint("image"), tmp_path / "model")
    clip = ecliptic.load(tmp_path / "model", pixels="close")
    made = write_export(clip, tmp_path / "out", "torch")
    note = "here images become close pixels; the steps of image.json make the exact ones"
    assert note in made.notes


def test_what_is_missing_or_unknown_is_named(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip: Any = clips("image")
    for words in (("tensorflow",), ("onnx", ["int8"]), ("onnx", [])):
        with pytest.raises(ConfigError, match="one of"):
            write_export(clip, tmp_path / "out", *words)
    monkeypatch.setattr("ecliptic.export.programs.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"onnx needs .*onnxruntime; `pip install 'eclip"):
        write_export(clip, tmp_path / "out")
    write_export(clip, tmp_path / "out", "torch")  # needs torch alone


def test_what_an_exporter_raises_is_told(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr("torch.export.export", fail)
    with pytest.raises(ExportError, match=r"image\.pt2 cannot be made .*: no such operator; try"):
        write_export(clips("image"), tmp_path / "out", "torch")
    assert names(tmp_path) == []


def test_an_agreement_with_nan_is_not_finite() -> None:
    assert not Agreement(float("nan"), 1.0, 3).finite
    assert Agreement(0.0, 1.0, 3).finite
