"""Training learns, is repeatable, and never sees its validation data."""

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.errors import ConfigError, NumericalError, StorageError
from ecliptic.inputs import ImageSpec, Tokenizer, TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig
from ecliptic.settings import load_toml
from ecliptic.train import DataSettings, OptimiserSettings, TrainSettings, train
from ecliptic.train.batches import Stream
from ecliptic.train.captions import caption
from ecliptic.train.drawings import Concept, read_emoji, read_game_icons, read_openclipart
from ecliptic.train.loop import read_sources

from .drawings import DESIGNS, write_data

SPEC = TokenizerSpec(merges=300, context=24)
SETTINGS = TrainSettings(
    steps=80,
    batch=12,
    precision="fp32",
    log_every=20,
    evaluate_every=80,
    model=ClipConfig(
        embed=32,
        image=ResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4),
        text=TextConfig(
            vocabulary=SPEC.vocabulary,
            context=24,
            width=32,
            depth=1,
            heads=2,
            mlp=64,
            end_of_text=SPEC.end_of_text,
        ),
    ),
    image_spec=ImageSpec(size=32),
    tokenizer_spec=SPEC,
    optimiser=OptimiserSettings(rate=3e-3, warmup=5),
    data=DataSettings(
        designs=DESIGNS[:2], validation=DESIGNS[2], emoji=0.75, openclipart=0.25, game_icons=0.0
    ),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def test_training_learns_and_validates_on_unseen_drawings(data: Path) -> None:
    seen: list[dict[str, object]] = []
    run = train(SETTINGS, data, seen.append)
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert losses[-1] < 0.85 * losses[0]
    found = run.history[-1]
    assert found["design"]["drawings"] == 16
    assert found["design"]["names"] == 16
    assert found["concepts"]["drawings"] == 3  # one concept in three designs
    assert found["design"]["at_5"] > 0.45  # chance is 0.31
    assert seen == list(run.history)
    assert not run.model.training


def test_own_pictures_need_only_the_folder_that_the_docs_describe(
    data: Path, tmp_path: Path
) -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    block = re.search(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block
    (tmp_path / "recipe.toml").write_text(block[1], encoding="utf-8")
    own = load_toml(TrainSettings, tmp_path / "recipe.toml").data
    emoji = tmp_path / "data" / "emoji"
    emoji.mkdir(parents=True)
    shutil.copy(data / "emoji" / "emoji.csv", emoji)
    shutil.copy(data / "emoji" / "flat.tar", emoji / f"{own.designs[0]}.tar")
    shutil.copy(data / "emoji" / "unseen.tar", emoji / f"{own.validation}.tar")
    run = train(replace(SETTINGS, steps=2, evaluate_every=2, data=own), tmp_path / "data")
    assert run.history[-1]["design"]["drawings"] == 16


def test_the_same_seed_gives_the_same_weights(data: Path) -> None:
    settings = replace(SETTINGS, steps=4, evaluate_every=100)
    first, again = (train(settings, data).model for _ in range(2))
    other = train(replace(settings, seed=1), data).model
    weights = first.state_dict()
    for name, tensor in again.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert not torch.equal(weights["text.projection"], other.state_dict()["text.projection"])


def test_the_validation_design_and_concepts_are_never_trained_on(data: Path) -> None:
    emoji = next(iter(read_sources(SETTINGS, data)))
    assert len(emoji) == 15 * 2  # fifteen training concepts in two designs
    unseen = read_emoji(data / "emoji", (DESIGNS[2],), None)
    for drawing in unseen.rgba:
        assert not bool((emoji.rgba == drawing).flatten(1).all(dim=1).any())
    assert 3 not in emoji.concept.tolist()
    with pytest.raises(
        ConfigError, match="validation design, which training must not see; take it out"
    ):
        DataSettings(validation="noto")


def test_no_concept_comes_twice_in_a_batch(data: Path) -> None:
    emoji = read_emoji(data / "emoji", DESIGNS[:2], "train")
    stream = Stream({emoji: 15}, SETTINGS.image_spec, Tokenizer(SPEC), seed=0)
    rounds = stream.sources[0][0]
    for _ in range(5):
        rows = rounds.take(15)
        assert sorted(emoji.concept[rows].tolist()) == [*range(3), *range(4, 16)]


def test_captions_are_made_of_the_name_and_the_keywords() -> None:
    draw = random.Random(0)
    concept = Concept("flag: Qatar", ("QA", "flag"))
    texts = {caption(concept, draw) for _ in range(300)}
    assert {"flag: Qatar", "flag of Qatar", "an emoji of flag of Qatar", "QA"} <= texts
    assert all("Qatar" in text or "QA" in text or text == "flag" for text in texts)
    assert caption(Concept("x"), random.Random(3)) != ""


def test_vague_titles_give_way_and_abstract_icons_are_left_out(data: Path) -> None:
    names = [concept.name for concept in read_openclipart(data / "openclipart").concepts]
    assert names == ["stem 0", "stem 1", "stem 2", "A teal circle"]
    icons = read_game_icons(data / "game_icons")
    assert [concept.name for concept in icons.concepts] == ["sword"]
    assert int(icons.rgba[0, :3].max()) == 0  # black ink
    assert int(icons.rgba[0, 3].max()) == 255  # where the icon was white


def test_missing_data_and_divergence_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"there is no file .*; pass the folder that holds emoji/"
    ):
        train(SETTINGS, tmp_path)
    wild = replace(SETTINGS, optimiser=OptimiserSettings(rate=1e12, warmup=1, clip=1e9))
    with pytest.raises(
        NumericalError,
        match=r"the loss of step \d+ must be finite, got (nan|inf); lower optimiser\.rate",
    ):
        train(wild, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_spec": ImageSpec(size=64)}, "image_size 32 and image_spec.size 64 differ"),
        ({"tokenizer_spec": TokenizerSpec(merges=5)}, "the tokenizer has 519 ids"),
        ({"model": ClipConfig(text=None)}, "needs an image tower and a text tower"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **change)
