"""fp8 models: layers stay in bf16 until the bound holds; plain kernels compute them anywhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.diffusion import conditioner
from ecliptic.engine import Clip, find_float8_layers
from ecliptic.engine.quantising import bundled_images
from ecliptic.errors import ConfigError
from tests import tiny
from tests.engine.models import draw, save

TEXTS = ["a", "two dogs", "a photo of a cat"]
FP8: Any = {"precision": "fp8", "kernels": "plain"}


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny.checkpoint(), tmp_path_factory.mktemp("floats") / "model")


@pytest.fixture(scope="module")
def bf16(floats: Path) -> Clip:
    return ecliptic.load(floats, precision="bf16", kernels="plain")


@pytest.fixture(scope="module")
def clip(floats: Path) -> Clip:
    return ecliptic.load(floats, **FP8)


def test_the_bound_holds_for_the_compared_half(clip: Clip, bf16: Clip) -> None:
    report = clip.card.quantisation.report  # type: ignore[union-attr]
    assert [(t.tower, t.inputs) for t in report.towers] == [("image", 90), ("text", 150)]
    assert report.worst >= report.wanted == 0.999
    images = bundled_images()[1::2]
    cosines = F.cosine_similarity(clip.encode_image(images), bf16.encode_image(images))
    assert float(cosines.min()) == pytest.approx(report.towers[0].worst, abs=1e-5)
    assert float(cosines.min()) < 1 - 1e-6
    assert 0 < len(report.kept) < len(report.layers) == 20


def test_its_card_names_it_and_its_vectors_are_comparable(clip: Clip, bf16: Clip) -> None:
    assert clip.card.precision == clip.runtime.precision == "fp8"
    assert clip.card.space == bf16.card.space
    assert clip.card.exact != bf16.card.exact
    assert "fp8 on cpu" in repr(clip)
    said = clip.card.to_dict()["fp8"]
    assert said["in_bf16"] == len(clip.card.quantisation.report.kept)  # type: ignore[union-attr]
    assert clip.similarity(bf16.encode_text(TEXTS), clip.encode_image([draw(0)])).shape == (3, 1)


def test_a_bound_that_is_tighter_keeps_more_layers(floats: Path, clip: Clip, bf16: Clip) -> None:
    tight = ecliptic.load(floats, min_cosine=0.99999, **FP8).card.quantisation
    loose = find_float8_layers(bf16, 0.5)
    usual = clip.card.quantisation
    assert tight
    assert usual
    assert set(loose.report.kept) <= set(usual.report.kept) < set(tight.report.kept)
    assert tight.report.worst >= 0.99999


def test_a_loose_bound_makes_another_space(bf16: Clip) -> None:
    far = bf16.quantised(find_float8_layers(bf16, 0.5))
    report = far.card.quantisation.report  # type: ignore[union-attr]
    assert (far.card.space == bf16.card.space) == (report.worst >= 0.999)


def test_layers_of_other_weights_are_refused(clip: Clip, tmp_path: Path) -> None:
    trained = ecliptic.load(save(tiny.checkpoint(), tmp_path / "other"), precision="bf16")
    with torch.no_grad():
        trained.model.text_tower.projection.mul_(2)  # type: ignore[union-attr, operator]
    layers = clip.card.quantisation
    assert layers
    with pytest.raises(ConfigError, match="were found for other weights than those of"):
        trained.quantised(layers)


def test_compiled_towers_have_other_exact_vectors(
    bf16: Clip, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.runtime.reducing.has_float8", lambda _: True)
    layers = clip.card.quantisation
    assert layers
    card = bf16.card.reduce(layers, "compiled")
    assert card.space == clip.card.space
    assert card.exact != clip.card.exact
    assert bf16.card.reduce(layers, "plain").exact == clip.card.exact


def test_a_search_is_told_and_a_stored_one_is_not_repeated(floats: Path, tmp_path: Path) -> None:
    told: list[str] = []
    ecliptic.load(floats, notify=told.append, **FP8)
    int8 = ecliptic.load(floats, precision="int8", min_cosine=0.9, notify=told.append)
    int8.save(tmp_path / "int8")
    ecliptic.load(tmp_path / "int8", precision="int8", notify=told.append)
    assert [words.split(",")[0] for words in told] == [
        "finding the layers that can be fp8",
        "finding the layers that can be int8",
    ]


def test_a_saved_model_keeps_its_weights_and_says_what_is_not_stored(
    clip: Clip, floats: Path, tmp_path: Path
) -> None:
    notes = clip.save(tmp_path / "saved")
    assert any('load it with precision="fp8" again' in note for note in notes)
    again, first = ecliptic.load(tmp_path / "saved"), ecliptic.load(floats)
    assert again.runtime.precision == "fp32"
    assert again.card.space == first.card.space


def test_a_trained_weight_ends_it(floats: Path) -> None:
    clip = ecliptic.load(floats, **FP8)
    with torch.no_grad():
        clip.model.text_tower.blocks[0].mlp.up.weight.mul_(1.5)  # type: ignore[union-attr, operator]
    assert clip.card.precision == "bf16"
    assert clip.card.quantisation is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp8"}, r'NVIDIA GPUs .* not on cpu; use "bf16" here'),
        ({"precision": "fp8", "kernels": "compiled"}, r'kernels="plain", which computes it'),
        ({**FP8, "min_cosine": 1.0}, "above 0 and below 1, got 1.0"),
        ({"precision": "fp8", "kernels": "fast"}, "kernels must be one of auto, plain, compiled"),
        ({"precision": "bf16", "min_cosine": 0.99}, 'is for precision="int8" or "fp8"'),
    ],
)
def test_what_cannot_be_done_is_refused(options: Any, words: str, floats: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        ecliptic.load(floats, **options)


def test_it_is_made_of_bfloat16_and_not_for_hidden_states(floats: Path, clip: Clip) -> None:
    with pytest.raises(ConfigError, match="fp8 is made of a model in bf16, but this one is fp32"):
        find_float8_layers(ecliptic.load(floats, kernels="plain"))
    with pytest.raises(ConfigError, match="fp8 was compared with other precisions by vectors"):
        conditioner("sd1", clip)
