"""The embedded model is small, needs no network, and names drawings of an unseen style."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ecliptic
from benchmarks import naming
from benchmarks.emoji import read_emoji
from ecliptic.engine.loading import MINI
from ecliptic.settings import load_toml
from ecliptic.train import TrainSettings

RECIPE = Path(__file__).parents[2] / "recipes" / "mini.toml"
DRAWINGS = Path(ecliptic.__file__).parent / "report" / "drawings"


@pytest.fixture(scope="module")
def mini() -> ecliptic.Clip:
    return ecliptic.load()


def test_it_is_small_and_what_the_recipe_makes(mini: ecliptic.Clip) -> None:
    assert sum(file.stat().st_size for file in MINI.iterdir()) <= 16_000_000
    assert 5_000_000 <= mini.card.parameters <= 7_500_000
    recipe = load_toml(TrainSettings, RECIPE)
    assert mini.card.config == recipe.model
    assert mini.card.image_spec == recipe.image_spec
    assert mini.card.tokenizer_spec == recipe.tokenizer_spec
    assert 1 < float(mini.model.logit_scale.detach().exp()) <= 100


def test_any_text_and_any_image_can_be_encoded(mini: ecliptic.Clip) -> None:
    vectors = mini.encode_text(["a cat", "猫 😀 \x00 كلب", "&amp;lt;", ""])
    images = mini.encode_image([DRAWINGS / "cat.png", Image.new("L", (3, 900))])
    for rows in (vectors, images):
        torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))


def test_it_names_more_than_half_of_the_bundled_drawings(mini: ecliptic.Clip) -> None:
    files = sorted(DRAWINGS.glob("*.png"))
    labels = [file.stem.replace("-", " ") for file in files]
    right = mini.classify(files, labels).argmax(dim=-1) == torch.arange(len(files))
    assert float(right.float().mean()) > 0.5  # chance is 0.03


def test_it_says_none_of_these_to_nonsense(mini: ecliptic.Clip) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    nonsense = [Image.fromarray(noise), Image.new("RGB", (64, 64), "white"), DRAWINGS / "key.png"]
    labels = ["cat", "dog", "rocket", "car", "apple"]
    plain = mini.classify(nonsense, labels, calibrated=False)
    assert bool((plain.max(dim=1).values > 0.95).all())
    found = mini.classify(nonsense, labels)
    assert bool((found.max(dim=1).values < 0.55).all())
    assert bool((1 - found.sum(dim=1) > 0.3).all())
    names = [file.stem.replace("-", " ") for file in DRAWINGS.glob("*.png")]
    many = mini.classify(nonsense[:2], names)
    assert bool((1 - many.sum(dim=1) > many.max(dim=1).values).all()), "none of these is the best"
    rocket = mini.classify([DRAWINGS / "rocket.png"], labels)[0]
    assert float(rocket[2]) > 0.8


def test_recall_on_the_design_it_never_saw(mini: ecliptic.Clip, shared: Path) -> None:
    found = naming.measure_design(mini, read_emoji(shared / "data"))
    assert found["design.at_1"].count == 777
    assert found["design.at_1"].value >= 0.47  # 0.490 among 1,708 names
    assert found["design.at_5"].value >= 0.71  # 0.732
