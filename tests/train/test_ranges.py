"""Settings outside of what they can mean are refused before anything is opened."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError
from ecliptic.settings import apply_overrides, from_dict, to_dict
from ecliptic.train import TextPairsSettings, TrainSettings, WordNetConfig
from ecliptic.train.effects import find_notes, refuse_idle
from ecliptic.train.processes import World
from ecliptic.train.session import _check_setting
from ecliptic.train.settings import (
    DrawingsConfig,
    EvaluateSettings,
    FolderConfig,
    HeldOutSettings,
    TarsConfig,
)
from tests.train.trainees import SETTINGS


def change(*overrides: str) -> TrainSettings:
    """The tiny settings with a few of them changed."""
    plain = to_dict(SETTINGS)
    apply_overrides(plain, overrides)
    return from_dict(TrainSettings, plain)


@pytest.mark.parametrize(
    "override",
    [
        *("optim.rate=0", "optim.rate=-1e-3", "optim.rate=nan", "optim.rate=inf"),
        *("optim.last_rate=-1", "optim.last_rate=1.0", "optim.restart_rate=-1"),
        *("optim.decay=-0.1", "optim.clip=-1", "optim.clip=nan", "optim.eps=0"),
        *("optim.beta1=1.0", "optim.beta2=-0.1", "ema.decay=1.0", "ema.decay=-0.5"),
        *("checkpoints.every=-5", "checkpoints.keep=0", "checkpoints.minutes=-1"),
        *("evaluate.every=0", "evaluate.most=0", "data.held_out=1", "data.most_rejects=nan"),
        *("image.rate=0", "image.rate=-1", "text.rate_decay=0", "text.rate_decay=2"),
        *("processes.timeout=0", "processes.timeout=inf", "seed=-1", "seed=99999999999999999999"),
    ],
)
def test_a_number_out_of_its_range_is_refused(override: str) -> None:
    """Once these trained with a wrong sign, without end, or until a division by zero."""
    with pytest.raises(ConfigError, match="must be"):
        change(override)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_of_a_source_is_positive_and_finite(weight: float) -> None:
    """Weights that are no numbers let the shares of a batch be counted for ever."""
    sources = (FolderConfig(Path(), weight=weight), TarsConfig("a.tar"))
    with pytest.raises(ConfigError, match="weight must be"):
        replace(SETTINGS.data, sources=sources)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim.restarts=[10]"],
        ["optim.restarts=[1]", "optim.restart_rate=1e-4"],
        ["optim.schedule=constant", "optim.cooldown=19"],
        ["optim.schedule=inverse-sqrt", "optim.cooldown=100"],
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(overrides: list[str]) -> None:
    """A restart at rate 0 or within the warm-up, and a cooldown that begins before its end."""
    with pytest.raises(ConfigError, match="optim"):
        refuse_idle(change(*overrides))


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["trains=text"], 'trains = "text" freezes the image tower, whose weights are random'),
        (["trains=image"], 'trains = "image" freezes the text tower, whose weights are random'),
        (["text.freeze_layers=2"], "text.freeze_layers = 2 freezes layers whose weights are ran"),
        (["image.freeze_layers=1"], "image.freeze_layers = 1 freezes layers whose weights are "),
    ],
)
def test_frozen_random_weights_are_named(overrides: list[str], note: str) -> None:
    [found] = find_notes(change(*overrides))
    assert found.startswith(note)
    sizes = {"model": None, "image_spec": None, "tokenizer_spec": None}
    tuned = replace(change(*overrides), start="mini", **sizes)  # type: ignore[arg-type]
    assert find_notes(tuned) == find_notes(SETTINGS) == []


SYNSETS = WordNetConfig(Path("synsets.tsv"))
DRAWINGS = DrawingsConfig(Path("emoji"), wordnet=Path("synsets.tsv"))


def with_data(**fields: Any) -> TrainSettings:
    return replace(SETTINGS, data=replace(SETTINGS.data, **fields))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            with_data(texts=TextPairsSettings(batch=64)),
            r"^data\.texts\.batch has no effect without data\.texts\.sources",
        ),
        (
            with_data(texts=TextPairsSettings(weight=1.0)),
            r"^data\.texts\.weight has no effect without data\.texts\.sources",
        ),
        (
            replace(with_data(texts=TextPairsSettings((SYNSETS,))), trains="image"),
            r'^data\.texts\.sources have no effect with trains = "image"',
        ),
        (
            with_data(sources=(DRAWINGS, replace(DRAWINGS, captions="names"))),
            r'^data\.sources\[1\]\.wordnet has no effect with captions = "names"',
        ),
        (
            with_data(sources=(DrawingsConfig(Path(), templates=("{}",), captions="names"),)),
            r'^data\.sources\[0\]\.templates has no effect with captions = "names"',
        ),
        (
            replace(SETTINGS, evaluate=EvaluateSettings(sets=(HeldOutSettings("x", DRAWINGS),))),
            r"^wordnet has no effect in the held-out set 'x'",
        ),
    ],
)
def test_settings_of_texts_without_effect_are_refused(
    settings: TrainSettings, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_idle(settings)


def test_settings_of_texts_with_an_effect_are_taken() -> None:
    texts = TextPairsSettings((SYNSETS,), batch=64, weight=1.0)
    refuse_idle(with_data(texts=texts, sources=(DRAWINGS,)))
    refuse_idle(replace(with_data(texts=texts), trains="text"))
    refuse_idle(with_data(texts=TextPairsSettings()))


@pytest.mark.parametrize(
    "override", ["data.texts.batch=0", "data.texts.weight=0", "data.texts.weight=nan"]
)
def test_numbers_of_texts_have_their_ranges(override: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.texts\.\w+ must be"):
        change(override)
    with pytest.raises(ConfigError, match=r"data\.texts\.sources\[0\]\.weight must be"):
        TextPairsSettings((replace(SYNSETS, weight=0.0),))


@pytest.mark.parametrize(("batch", "texts"), [(4, 3), (3, 4)])
def test_each_process_needs_a_pair_and_a_text_pair(batch: int, texts: int) -> None:
    pairs = TextPairsSettings((SYNSETS,), batch=texts)
    world = World(torch.device("cpu"))
    world.size = 4
    name = "data.batch" if batch < 4 else "data.texts.batch"
    with pytest.raises(ConfigError, match=rf"^{name} = 3 leaves some of the 4 processes"):
        _check_setting(with_data(batch=batch, texts=pairs), world)
    _check_setting(with_data(batch=4, texts=TextPairsSettings(batch=2)), world)


def test_more_text_pairs_than_there_are_words_are_named() -> None:
    settings = with_data(texts=TextPairsSettings((SYNSETS,), batch=20))
    [found] = find_notes(settings, texts=19)
    assert found.startswith("data.texts.batch = 20 is more than the 19 text pairs")
    assert find_notes(settings, texts=20) == find_notes(settings) == []


def test_a_batch_of_more_than_all_examples_is_named() -> None:
    [found] = find_notes(SETTINGS, examples=19)
    assert found.startswith("data.batch = 20 is more than the 19 examples to train on")
    assert find_notes(SETTINGS, examples=20) == []
