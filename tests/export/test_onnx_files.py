"""The ONNX files give our numbers in onnxruntime, for every kind of tower, batch and length."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ecliptic.engine import Clip
from ecliptic.export import OPSET, write_export
from tests import tiny
from tests.export.conftest import Clips, Exports

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install ecliptic[export]")

BATCHES = (1, 2, 3, 5)
Inputs = NDArray[Any]


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def vectors(run: Any, inputs: Inputs) -> Inputs:
    (name,) = (one.name for one in run.get_inputs())
    return run.run(["vectors"], {name: inputs})[0]  # type: ignore[no-any-return]


def near(found: Inputs, wanted: Inputs) -> bool:
    return float(np.abs(found - wanted).max()) <= 1e-4 * float(np.abs(wanted).max())


def cosines(found: Inputs, wanted: Inputs) -> Inputs:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return (found * wanted).sum(axis=1) / lengths  # type: ignore[no-any-return]


def random_pixels(clip: Clip, count: int) -> torch.Tensor:
    size = clip.preprocessor.spec.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def pixels_of(clip: Clip) -> Iterator[torch.Tensor]:
    yield from (random_pixels(clip, count) for count in BATCHES)


def tokens_of(clip: Clip) -> Iterator[torch.Tensor]:
    """Each number of texts, as short as they are, at the context, and between."""
    texts = ["", "a", "a photo of a cat", "x " * 40, "red"]
    batch = clip.tokenizer.batch(texts, "truncate")
    context, ids = clip.tokenizer.spec.context, torch.from_numpy(batch.ids)
    for count in BATCHES:
        shortest = int(batch.lengths[:count].max())
        for length in sorted({shortest, (shortest + context) // 2, context}):
            yield ids[:count, :length]


FP32, FP16 = ("fp32",), ("fp16",)
# The program of the docs runs a ResNet in fp32: `mini`.
FAST = {"vit": FP32, "text": FP16, "resnet_image": FP16}
SLOW = [pytest.param(kind, FP32 + FP16, marks=pytest.mark.slow) for kind in tiny.CONFIGS]


@pytest.mark.parametrize(("kind", "precisions"), [*FAST.items(), *SLOW])
def test_every_kind_of_tower_in_any_batch_and_length(
    clips: Clips, exports: Exports, kind: str, precisions: tuple[str, ...]
) -> None:
    clip, made = clips(kind), exports(kind, "onnx", precisions)
    towers = {file.tower for file in made.files}
    assert towers == {name for name in ("image", "text") if getattr(clip.model, name) is not None}
    for file in made.files:
        batches = pixels_of(clip) if file.tower == "image" else tokens_of(clip)
        ours = clip.runtime.image if file.tower == "image" else clip.runtime.text
        run = session(made.folder / file.file)
        for inputs in batches:
            found, wanted = vectors(run, inputs.numpy()), ours(inputs).numpy()
            assert cosines(found, wanted).min() >= 0.9999, (file.file, inputs.shape)
            assert file.precision == "fp16" or near(found, wanted), (file.file, inputs.shape)
        assert (made.folder / file.file).stat().st_size == file.bytes
        if file.precision == "fp32":
            assert file.agreement.error <= 1e-5
        assert file.agreement.cosine >= 0.9999
        assert file.agreement.rows >= 10


def test_a_file_states_its_opset_axes_and_space(clips: Clips, exports: Exports) -> None:
    folder = exports("vit").folder
    image, text = (session(folder / f"{tower}.onnx") for tower in ("image", "text"))
    assert [(one.name, one.shape, one.type) for one in image.get_inputs()] == [
        ("pixels", ["batch", 3, 32, 32], "tensor(float)")
    ]
    assert [(one.name, one.shape, one.type) for one in text.get_inputs()] == [
        ("tokens", ["batch", "length"], "tensor(int64)")
    ]
    for run in (image, text, session(exports("text", "onnx", FP16).folder / "text.fp16.onnx")):
        (output,) = run.get_outputs()
        assert (output.name, output.shape, output.type) == (
            "vectors",
            ["batch", 32],
            "tensor(float)",
        )
    told = image.get_modelmeta().custom_metadata_map["ecliptic"]
    assert clips("vit").card.space in told
    onnx = pytest.importorskip("onnx", reason="pip install ecliptic[export]")
    model = onnx.load(folder / "text.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
    onnx.checker.check_model(model)


def test_a_row_without_an_end_gives_nan_and_never_a_vector(clips: Clips, exports: Exports) -> None:
    tokens = clips("vit").tokenize(["a cat", "a dog"]).numpy()
    tokens[1][tokens[1] == clips("vit").tokenizer.spec.end_of_text] = 5
    found = vectors(session(exports("vit").folder / "text.onnx"), tokens)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_the_first_end_is_pooled_and_what_follows_changes_nothing(
    clips: Clips, exports: Exports
) -> None:
    run = session(exports("vit").folder / "text.onnx")
    tokens = clips("vit").tokenize(["a cat"]).numpy()
    end = int((tokens[0] == clips("vit").tokenizer.spec.end_of_text).argmax())
    padded = tokens.copy()
    padded[:, end + 1 :] = tokens[0, end]  # as transformers pads
    np.testing.assert_allclose(vectors(run, padded), vectors(run, tokens), atol=1e-5)


def test_what_does_not_fit_the_model_is_an_error_of_the_runtime(exports: Exports) -> None:
    image = session(exports("vit").folder / "image.onnx")
    text = session(exports("vit").folder / "text.onnx")
    for run, inputs in (
        (image, np.zeros((1, 3, 48, 48), np.float32)),
        (text, np.full((1, 17), 5)),  # the context is 16
        (text, np.full((1, 4), 49408)),
    ):
        with pytest.raises(Exception, match=r"(?i)invalid|bounds|broadcast"):
            vectors(run, inputs)


def test_weights_over_the_limit_of_a_file_lie_beside_it(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = "torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD"
    monkeypatch.setattr(limit, 1000)  # in place of 1.75 GB
    made = write_export(clips("image"), tmp_path / "out")
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == ["export.json", "image.json", "image.onnx", "image.onnx.data"]
    (file,) = made.files
    assert file.bytes == sum((made.folder / name).stat().st_size for name in names[2:])
    pixels = random_pixels(clips("image"), 3)
    found = vectors(session(made.folder / "image.onnx"), pixels.numpy())
    assert near(found, clips("image").runtime.image(pixels).numpy())
