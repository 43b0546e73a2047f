"""int8 models: loaded, saved and described; refused where they would not be what was asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.checkpoints import read, write
from ecliptic.engine import Clip, find_quantisation, loading
from ecliptic.engine.quantising import bundled_images, bundled_texts
from ecliptic.errors import ConfigError, CorruptFileError
from tests import tiny
from tests.engine.models import draw, save

TEXTS = ["a", "two dogs", "a photo of a cat"]


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny.checkpoint(), tmp_path_factory.mktemp("floats") / "model")


@pytest.fixture(scope="module")
def clip(floats: Path) -> Clip:
    return ecliptic.load(floats, precision="int8", min_cosine=0.999)


@pytest.fixture
def stored(clip: Clip, tmp_path: Path) -> Path:
    clip.save(tmp_path / "int8")
    return tmp_path / "int8"


def test_a_loaded_model_is_calibrated_and_keeps_the_space(clip: Clip, floats: Path) -> None:
    plain = ecliptic.load(floats)
    report = clip.card.quantisation.report  # type: ignore[union-attr]
    assert [(t.tower, t.inputs, t.calibrated_on) for t in report.towers] == [
        ("image", 90, 90),
        ("text", 150, 150),
    ]
    assert report.worst >= report.wanted == 0.999
    images = bundled_images()[1::2]
    cosines = F.cosine_similarity(clip.encode_image(images), plain.encode_image(images))
    assert float(cosines.min()) == pytest.approx(report.towers[0].worst, abs=2e-6)
    assert float(cosines.min()) < 1 - 1e-6
    assert clip.card.precision == clip.runtime.precision == "int8"
    assert clip.card.space == plain.card.space
    assert clip.card.exact != plain.card.exact
    assert "int8 on cpu" in repr(clip)
    assert clip.card.to_dict()["int8"] == {
        "wanted": 0.999,
        "worst": {"image": report.towers[0].worst, "text": report.towers[1].worst},
        "mean": {"image": report.towers[0].mean, "text": report.towers[1].mean},
        "in_int8": 20 - len(report.kept),
        "in_fp32": len(report.kept),
    }
    assert clip.similarity(plain.encode_text(TEXTS), clip.encode_image([draw(0)])).shape == (3, 1)


def test_a_bound_that_is_too_loose_makes_another_space(floats: Path, tmp_path: Path) -> None:
    plain = ecliptic.load(floats)
    found = find_quantisation(plain, 0.5)
    report = replace(found.report, towers=tuple(replace(t, worst=0.9) for t in found.report.towers))
    far = plain.quantised(replace(found, report=report))
    assert far.card.space != plain.card.space
    far.save(tmp_path / "far")
    assert ecliptic.load(tmp_path / "far").card.space != plain.card.space


def test_a_stored_model_gives_the_same_vectors_without_calibration(
    clip: Clip, floats: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_quantisation", None)
    for options in ({}, {"precision": "int8"}, {"precision": "int8", "min_cosine": 0.99}):
        again = ecliptic.load(stored, **options)  # type: ignore[arg-type]
        assert torch.equal(again.encode_image([draw(0)]), clip.encode_image([draw(0)]))
        assert torch.equal(again.encode_text(TEXTS), clip.encode_text(TEXTS))
        assert again.card.space == clip.card.space
        assert again.card.exact == clip.card.exact
    again.save(stored)  # the same content may be written again
    size = sum(layer.weight.numel() for layer in clip.card.quantisation.linears.values())  # type: ignore[union-attr]
    files = [(path / "model.safetensors").stat().st_size for path in (floats, stored)]
    assert files[1] < files[0] - 2.5 * size


def test_one_file_holds_int8_too(clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "model.safetensors")
    again = ecliptic.load(tmp_path / "model.safetensors")
    assert again.runtime.precision == "int8"
    assert torch.equal(again.encode_text(TEXTS), clip.encode_text(TEXTS))


def test_a_stored_model_in_float32_is_a_model_of_its_own(clip: Clip, stored: Path) -> None:
    plain = ecliptic.load(stored, precision="fp32")
    assert plain.runtime.precision == "fp32"
    assert plain.card.quantisation is None
    assert plain.card.space != clip.card.space  # nothing was compared with it
    cosines = F.cosine_similarity(plain.encode_text(TEXTS), clip.encode_text(TEXTS))
    assert float(cosines.min()) > 0.998


def test_other_layouts_say_that_they_hold_no_int8(clip: Clip, tmp_path: Path) -> None:
    (note,) = clip.save(tmp_path / "open_clip", "open_clip")
    assert "does not store int8 layers; their weights are written as float32" in note
    assert ecliptic.load(tmp_path / "open_clip").runtime.precision == "fp32"


def test_changed_weights_are_float32_and_of_another_space(stored: Path, tmp_path: Path) -> None:
    clip = ecliptic.load(stored)
    space = clip.card.space
    with torch.no_grad():
        clip.model.text_tower.blocks[0].mlp.up.weight.mul_(1.5)  # type: ignore[union-attr, index]
    assert clip.runtime.precision == clip.card.precision == "fp32"
    assert clip.card.quantisation is None
    assert clip.card.space != space
    clip.save(tmp_path / "changed")
    assert read(tmp_path / "changed").quantisation is None


def test_another_size_or_head_count_does_not_use_the_layers(stored: Path) -> None:
    resized = ecliptic.load(stored, image_size=48)
    assert resized.runtime.precision == "fp32"
    assert any("int8 layers are not used" in note for note in resized.card.notes)
    other = ecliptic.load(stored, heads=1)
    assert other.runtime.precision == "fp32"
    assert any("int8 layers in the file are not used" in note for note in other.card.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp32", "min_cosine": 0.99}, 'min_cosine is for precision="int8"'),
        ({"precision": "int8", "min_cosine": 1.0}, "above 0 and below 1, got 1.0"),
        ({"precision": "int8", "min_cosine": "high"}, "above 0 and below 1, got 'high'"),
        ({"precision": "int8", "device": "meta"}, 'int8" runs on the CPU, not on meta'),
        (
            {"precision": "int8", "min_cosine": 0.9999999},
            "smallest cosine of 0.99.*, below min_cos",
        ),
    ],
)
def test_what_would_do_nothing_or_not_hold_is_refused(
    stored: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ecliptic.load(stored, **options)


def test_images_and_texts_of_the_user_are_calibrated_on(floats: Path) -> None:
    plain = ecliptic.load(floats)
    images = [draw(n) for n in range(24)]
    found = find_quantisation(plain, 0.99, images, [f"a photo of {n} cats" for n in range(30)])
    assert [t.inputs for t in found.report.towers] == [12, 15]
    with pytest.raises(ConfigError, match="needs 20 inputs of the image tower or more, got 3"):
        find_quantisation(plain, 0.99, images[:3])
    with pytest.raises(ConfigError, match="of a model in fp32, but this one is bf16 on cpu"):
        find_quantisation(ecliptic.load(floats, precision="bf16"))
    text = ecliptic.load(save_kind(floats, "text"))
    with pytest.raises(ConfigError, match="images are calibrated on for those only"):
        find_quantisation(text, 0.99, images)


def save_kind(beside: Path, kind: str) -> Path:
    path = beside.with_name(kind)
    write(tiny.checkpoint(kind), path, overwrite=True)
    return path


def test_the_bundled_inputs_are_many_and_halves_share_no_drawing() -> None:
    images, texts = bundled_images(), bundled_texts()
    assert (len(images), len(texts), len(set(texts))) == (180, 300, 300)
    seen, held = ({image.tobytes() for image in images[n::2]} for n in (0, 1))
    assert not seen & held


DAMAGES = [
    ("inputs", {}, r"int8 tensors that its JSON does not name"),
    ("inputs", {"text.blocks.0.mlp.up": [1.0, 0]}, r"does not name|not whole"),
    ("inputs", [1], "not whole"),
    ("report", {"wanted": "high"}, "not whole"),
    ("report", None, "not whole"),
]


@pytest.mark.parametrize(("key", "value", "words"), DAMAGES)
def test_damaged_int8_layers_are_refused(stored: Path, key: str, value: Any, words: str) -> None:
    path = stored / "ecliptic.json"
    card = json.loads(path.read_text())
    card["int8"][key] = value
    path.write_text(json.dumps(card))
    with pytest.raises(CorruptFileError, match=words):
        read(stored)


def test_impossible_steps_are_refused(stored: Path) -> None:
    path = stored / "ecliptic.json"
    text = path.read_text()
    card = json.loads(text)
    name = next(iter(card["int8"]["inputs"]))
    for step in ([float("nan"), 0], [-1.0, 0], [1.0, 300], ["a", 0], [1.0], 3):
        card["int8"]["inputs"][name] = step
        path.write_text(json.dumps(card))
        with pytest.raises(CorruptFileError, match=r"int8 layers are not whole|not valid JSON"):
            read(stored)
