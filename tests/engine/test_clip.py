"""`Clip`: similarities and classes against their formulas, and what it says about itself."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ecliptic.engine import Clip, EmbeddingCache, Vectors
from ecliptic.errors import (
    ConfigError,
    InputError,
    MissingTowerError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
)
from ecliptic.inputs import fill, templates
from tests import tiny
from tests.engine.models import Calls, draw, reload

IMAGES = [draw(seed) for seed in range(4)]
LABELS = ["cat", "dog", "red house"]
SCALE = math.exp(tiny.checkpoint("vit").weights["logit_scale"])
PROMPTS = ["a {}", "two {}s", "{}"]


def encode_texts(clip: Clip, texts: list[str]) -> NDArray[Any]:
    """Unit vectors directly from the model, in float64."""
    with torch.no_grad():
        rows = clip.model.encode_text(clip.tokenize(texts, overflow="truncate"))
    return normalise(rows.double().numpy())


def encode_images(clip: Clip) -> NDArray[Any]:
    with torch.no_grad():
        rows = clip.model.encode_image(torch.stack([clip.preprocess(i) for i in IMAGES]))
    return normalise(rows.double().numpy())


def normalise(rows: NDArray[Any]) -> NDArray[Any]:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(rows: NDArray[Any]) -> NDArray[Any]:
    shares = np.exp(rows - rows.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def test_similarity_is_the_cosine_of_every_pair(clip: Clip) -> None:
    found = clip.similarity(LABELS, IMAGES)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found, encode_texts(clip, LABELS) @ encode_images(clip).T, atol=1e-5)
    assert clip.similarity("cat", IMAGES[0]).shape == (1, 1)


def test_classes_are_a_softmax_at_the_models_temperature(clip: Clip) -> None:
    wanted = softmax(SCALE * encode_images(clip) @ encode_texts(clip, LABELS).T)
    found = clip.classify(IMAGES, LABELS)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not found.requires_grad


@pytest.mark.parametrize("labels", [LABELS, tuple(LABELS), iter(LABELS)])
def test_prompts_are_averaged_as_unit_vectors(clip: Clip, labels: Any) -> None:
    rows = [encode_texts(clip, fill(PROMPTS, label)).mean(axis=0) for label in LABELS]
    found = clip.text_classifier(labels, PROMPTS)
    np.testing.assert_allclose(found, normalise(np.stack(rows)), atol=1e-5)


def test_classes_use_the_prompts(clip: Clip) -> None:
    classifier = clip.text_classifier(LABELS, PROMPTS).double().numpy()
    wanted = softmax(SCALE * encode_images(clip) @ classifier.T)
    np.testing.assert_allclose(clip.classify(IMAGES, LABELS, PROMPTS), wanted, atol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 100.0])
def test_classes_need_a_temperature(tmp_path: Path, value: float) -> None:
    clip = reload(tiny.checkpoint("vit"), tmp_path / "vit")
    clip.model.logit_scale.data.fill_(value)  # as after a training run that diverged
    with pytest.raises(NumericalError, match="logit_scale is damaged"):
        clip.classify(IMAGES, LABELS)


def test_templates_may_be_given_by_name(clip: Clip) -> None:
    prompts = templates("drawing")
    named = clip.text_classifier(LABELS, "drawing")
    torch.testing.assert_close(named, clip.text_classifier(LABELS, prompts))
    with pytest.raises(ConfigError, match="did you mean 'drawing'"):
        clip.text_classifier(LABELS, "drawings")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], r"at least one class name, got \[\]"),
        (None, "at least one class name"),
        ("cat", "got 'cat'"),
        ({"cat": 1}, "labels come back as rows .* a dict is not a sequence"),
        ({"cat"}, "a set is not a sequence"),
        ([1], r"got \[1\]"),
        (3, "got 3"),
    ],
)
@pytest.mark.parametrize("prompts", [None, PROMPTS])
def test_what_are_no_labels_is_refused(clip: Clip, labels: Any, words: str, prompts: Any) -> None:
    with pytest.raises(InputError, match=words):
        clip.text_classifier(labels, prompts)


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], ["a  cat ", "dog", "A cat"]])
def test_equal_labels_are_named_as_they_would_share_a_probability(
    clip: Clip, labels: list[str]
) -> None:
    words = f"the labels {labels[0]!r} and {labels[2]!r} are the same"
    with pytest.raises(ConfigError, match=re.escape(words)):
        clip.classify(IMAGES, labels)
    with pytest.raises(ConfigError, match=re.escape(words)):
        clip.text_classifier(labels, "photo")


def test_templates_may_be_functions_of_the_label_as_in_open_clip(clip: Clip) -> None:
    functions = [lambda name: f"a {name}", "two {}s", str]
    named = clip.text_classifier(LABELS, PROMPTS)
    torch.testing.assert_close(clip.text_classifier(LABELS, functions), named)
    torch.testing.assert_close(clip.text_classifier(LABELS, iter(PROMPTS)), named)


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([len], "must return a text, but gave int for 'cat'"),
        ([3], "a text with {} or a function of the label, got int"),
        (str.upper, "templates must be a list, got .*; put a single one into a list"),
        (3, "templates must be a list, got int"),
    ],
)
def test_what_are_no_templates_is_named(clip: Clip, prompts: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        clip.text_classifier(LABELS, prompts)


@pytest.mark.parametrize("prompts", [[], ["a photo"], ["{}", "a photo"]])
def test_prompts_without_a_place_for_the_label_are_refused(clip: Clip, prompts: Any) -> None:
    with pytest.raises(ConfigError, match=r"\{\}"):
        clip.text_classifier(LABELS, prompts)


def stored(clip: Clip, vectors: torch.Tensor, **other: str) -> Vectors:
    named = {"space": clip.card.space, "exact": clip.card.exact, "model": clip.card.name} | other
    return Vectors(vectors.numpy(), None, **named)


@pytest.mark.parametrize("kind", ["tensor", "array", "float64", "half", "stored"])
def test_vectors_stand_for_texts_and_images(clip: Clip, kind: str) -> None:
    convert: dict[str, Any] = {
        "tensor": lambda x: 3 * x,  # of any length
        "array": lambda x: x.numpy(),
        "float64": lambda x: x.double().numpy(),
        "half": lambda x: x.half(),
        "stored": lambda x: stored(clip, x),
    }
    near = {"rtol": 0, "atol": 2e-3 if kind == "half" else 1e-6}
    texts, images = clip.encode_text(LABELS), clip.encode_image(IMAGES)
    wanted = clip.similarity(LABELS, IMAGES)
    for t, i in ((convert[kind](texts), IMAGES), (LABELS, convert[kind](images))):
        torch.testing.assert_close(clip.similarity(t, i), wanted, **near)
    both = clip.similarity(convert[kind](texts), convert[kind](images))
    torch.testing.assert_close(both, wanted, **near)
    chances, near = clip.classify(IMAGES, LABELS), near | {"atol": 100 * near["atol"]}
    torch.testing.assert_close(clip.classify(convert[kind](images), LABELS), chances, **near)
    torch.testing.assert_close(clip.classify(IMAGES, convert[kind](texts)), chances, **near)


def test_vectors_of_another_model_are_refused(clip: Clip) -> None:
    vectors = clip.encode_text(LABELS)
    foreign = stored(clip, vectors, space="0" * 64, model="other")
    for call in (
        lambda: clip.similarity(foreign, IMAGES),
        lambda: clip.similarity(LABELS, foreign),
        lambda: clip.classify(foreign, LABELS),
        lambda: clip.classify(IMAGES, foreign),
    ):
        with pytest.raises(SpaceMismatchError, match=r"these are vectors of other .* the model is"):
            call()
    with pytest.raises(ShapeError, match=r"vectors of 32 values, got \(3, 31\)"):
        clip.similarity(vectors[:, 1:], IMAGES)
    with pytest.raises(NumericalError, match="row 1 of the given vectors holds NaN"):
        clip.similarity(torch.tensor([[0.0], [float("nan")]]).expand(2, 32), IMAGES)
    with pytest.raises(ConfigError, match="templates need class names"):
        clip.classify(IMAGES, vectors, "photo")


def test_an_array_of_two_axes_is_still_an_image(clip: Clip) -> None:
    grey = np.full((40, 40), 7, np.uint8)
    assert torch.equal(clip.similarity("a", grey), clip.similarity("a", [grey]))


def test_tokens_and_pixels_are_what_the_towers_take(clip: Clip) -> None:
    tokens, pixels = clip.tokenize(LABELS), clip.preprocess(IMAGES[0])
    assert (tokens.shape, tokens.dtype) == ((3, 16), torch.int64)
    assert (pixels.shape, pixels.dtype) == ((3, 32, 32), torch.float32)
    assert clip.model(pixels[None], tokens).shape == (1, 3)
    assert clip.tokenizer is clip.tokenizer
    assert repr(clip) == "Clip('tiny-vit', embed=32, fp32 on cpu)"
    assert clip.device == torch.device("cpu")


def test_half_a_model_does_what_its_half_can(tmp_path: Path) -> None:
    text = reload(tiny.checkpoint("text"), tmp_path / "text")
    image = reload(tiny.checkpoint("resnet_image"), tmp_path / "image")
    assert text.encode_text(LABELS).shape == (3, 32)
    assert image.encode_image(IMAGES).shape == (4, 32)
    for call in (text.similarity, image.similarity):
        with pytest.raises(MissingTowerError):
            call(LABELS, IMAGES)
    with pytest.raises(MissingTowerError, match="no image side"):
        text.classify(IMAGES, LABELS)
    with pytest.raises(MissingTowerError):
        _ = image.tokenizer
    with pytest.raises(MissingTowerError):
        _ = text.preprocessor


def test_a_cache_is_asked_before_the_towers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=tmp_path / "cache")
    text, image = clip.encode_text(LABELS[:2]), clip.encode_image(IMAGES[:2])
    texts, images = Calls.of("text", monkeypatch), Calls.of("image", monkeypatch)
    mixed = [IMAGES[2], b"junk", IMAGES[0], IMAGES[3], IMAGES[1]]
    found = clip.encode_image(mixed, on_error="reject", batch_size=2)
    assert images.sizes == [2]
    assert (found.kept, [r.index for r in found.rejected]) == ((0, 2, 3, 4), [1])
    assert torch.equal(found.vectors[[1, 3]], image)
    assert torch.equal(clip.encode_text([LABELS[2], *LABELS])[1:3], text)
    assert texts.sizes == [1]
    again = clip.encode_image(mixed, on_error="reject", batch_size=1)
    assert torch.equal(again.vectors, found.vectors)
    assert images.sizes == [2]


def test_one_cache_serves_every_way_of_passing_it(tmp_path: Path) -> None:
    with_path = reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=str(tmp_path / "cache"))
    found = with_path.encode_text(LABELS)
    cache = EmbeddingCache(tmp_path / "cache")
    assert len(cache) == 3
    shared = reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=cache)
    assert torch.equal(shared.encode_text(LABELS), found)
    assert len(cache) == 3


def test_the_cache_rests_once_the_weights_change(tmp_path: Path) -> None:
    """Its keys name the model as loaded, so a trained one would get old vectors."""
    clip = reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=tmp_path / "cache")
    before = clip.encode_text(LABELS), clip.encode_image(IMAGES)
    with torch.no_grad():
        clip.model.text_tower.ln_final.weight.mul_(-1)
        clip.model.image_tower.projection.mul_(-1)
    assert not torch.allclose(clip.encode_text(LABELS), before[0], atol=1e-3)
    torch.testing.assert_close(clip.encode_image(IMAGES), -before[1])
    again = reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=tmp_path / "cache")
    assert torch.equal(again.encode_image(IMAGES), before[1])
