"""An evaluation equals the whole matrix of similarities, and leaves the run as it was."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic import scoring
from ecliptic.engine import open_checkpoint
from ecliptic.errors import ConfigError, ImageError, StorageError
from ecliptic.inputs import Tokenizer
from ecliptic.model import ModifiedResNet, TwoTowers, random_model
from ecliptic.train import RunFolder, TrainSettings
from ecliptic.train.data import Mixture, Plain, tokenize
from ecliptic.train.data.examples import Example
from ecliptic.train.evaluation import Evaluation
from ecliptic.train.evaluation.measures import BATCH
from ecliptic.train.evaluation.questions import ask
from ecliptic.train.session import Session
from ecliptic.train.settings import (
    CheckpointSettings,
    EmaSettings,
    EvaluateSettings,
    FolderConfig,
    HeldOutSettings,
    TableConfig,
)
from ecliptic.train.trainee import open_start

from .runs import MODEL, SPEC, tiny_run, write_folder

TOKENIZER = Tokenizer(SPEC)
SETTINGS = tiny_run(Path(), evaluate=EvaluateSettings(every=10))
KEYS = ("at_1", "at_5", "at_10", "median_rank")


class Pictures:
    """Coloured squares in memory; `bad` ones cannot be read."""

    def __init__(self, captions: Sequence[tuple[str, ...]], bad: Sequence[int] = ()) -> None:
        self.texts, self.bad = captions, bad

    def __len__(self) -> int:
        return len(self.texts)

    def picture(self, index: int) -> NDArray[np.uint8]:
        if index in self.bad:
            raise ImageError(f"{index} is broken.")
        picture = np.zeros((32, 32, 3), np.uint8)
        picture[index % 32 :] = np.random.default_rng(index).integers(0, 256, 3)
        return picture

    def captions(self, index: int) -> tuple[str, ...]:
        if not self.texts[index]:
            raise StorageError(f"{index} has no caption.")
        return self.texts[index]

    def draw(self, index: int, random: Random) -> Example:
        return Example(str(index), self.picture(index), random.choice(self.captions(index)))

    def fingerprint(self) -> str:
        return ""


class NamedPictures(Pictures):
    names = ("one", "two", "three", "four", "a fifth that no picture shows")


def evaluation(
    source: Pictures, settings: TrainSettings = SETTINGS, share: float = 1.0
) -> Evaluation:
    """Of the settings, with this share of the source held out."""
    mixture = Mixture([len(source) + 1], [1.0], 4, 0, 0.0)
    mixture.held = (round(share * len(source)),)
    mixture.held_out = lambda source: np.arange(mixture.held[source])  # type: ignore[method-assign]
    spec = settings.pixels
    return Evaluation(settings, [source], mixture, spec, TOKENIZER)


def encode(model: TwoTowers, source: Pictures, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Unit vectors of the pictures and of the texts, one by one, by the towers themselves."""
    plain = Plain(SETTINGS.pixels)
    with torch.no_grad():
        readable = [i for i in range(len(source)) if i not in source.bad and source.texts[i]]
        pixels = [plain.prepare.normalize(plain.decode(source.picture(i), 0)) for i in readable]
        images = [model.encode_image(torch.from_numpy(p).view(1, 3, 32, 32)) for p in pixels]
        tokens = [tokenize(TOKENIZER, [text])[0] for text in texts]
        found = [model.encode_text(one) for one in tokens]
    return F.normalize(torch.cat(images), dim=-1), F.normalize(torch.cat(found), dim=-1)


def recalls(ranks: Sequence[int]) -> dict[str, float]:
    found = {f"at_{k}": float(np.mean([rank <= k for rank in ranks])) for k in (1, 5, 10)}
    return found | {"median_rank": float(torch.tensor(ranks).double().median())}


@pytest.fixture
def model() -> TwoTowers:
    return random_model(MODEL, 3).eval()


def test_retrieval_is_that_of_the_whole_matrix(model: TwoTowers) -> None:
    """With several captions of an image, unevenly many; of these the best one counts."""
    captions = [tuple(f"thing {i} in {c}" for c in range(1 + i % 3)) for i in range(25)]
    source = Pictures(captions)
    texts = [text for own in captions for text in own]
    owners = [i for i, own in enumerate(captions) for _ in own]
    images, vectors = encode(model, source, texts)
    z = images.double() @ vectors.double().T  # (25, C)
    to_text = [
        1 + min(int((z[i] > z[i, t]).sum()) for t in range(len(texts)) if owners[t] == i)
        for i in range(25)
    ]
    to_image = [1 + int((z[:, t] > z[owners[t], t]).sum()) for t in range(len(texts))]
    found = evaluation(source).measure(model)
    assert found["held_out.images"] == 25
    assert found["held_out.captions"] == len(texts) == 49
    for name, ranks in (("image_to_text", to_text), ("text_to_image", to_image)):
        for key, value in recalls(ranks).items():
            assert found[f"held_out.{name}.{key}"] == pytest.approx(value), (name, key)


def test_images_that_share_a_caption_are_all_right(model: TwoTowers) -> None:
    """Else a set of ten class names could never be retrieved."""
    source = Pictures([("a square",), ("A  square",), ("a Square ", "a square")])
    found = evaluation(source).measure(model)
    assert found["held_out.captions"] == 1
    assert found["held_out.image_to_text.at_1"] == found["held_out.text_to_image.at_1"] == 1


def test_a_broken_model_is_not_perfect(model: TwoTowers) -> None:
    source = Pictures([(f"thing {i}",) for i in range(20)])
    with torch.no_grad():
        model.text_tower.positions.fill_(float("nan"))
    found = evaluation(source).measure(model)
    assert found["held_out.image_to_text.at_10"] == found["held_out.text_to_image.at_10"] == 0
    with torch.no_grad():
        model.text_tower.positions.fill_(0)
        model.text_tower.ln_final.weight.fill_(0)  # all texts in one place
    found = evaluation(source).measure(model)
    assert found["held_out.image_to_text.at_10"] == 0


@pytest.mark.parametrize("templates", [(), ("{}",), ("a photo of {}", "an icon of {}.")])
def test_names_are_told_apart_among_all_names(
    model: TwoTowers, templates: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that no picture shows are wrong answers too; templates are averaged."""
    source = NamedPictures([("three", "ignored"), ("one",), ("one",), ("three",), ("six",)])
    names = [*NamedPictures.names, "six"]
    held = HeldOutSettings("zero", FolderConfig(Path()), "names", templates)
    monkeypatch.setattr("ecliptic.train.evaluation.measures.open_sources", lambda *_: [source])
    settings = replace(SETTINGS, evaluate=EvaluateSettings(sets=(held,)))
    found = evaluation(source, settings, share=0).measure(model)
    filled = [t.replace("{}", name) for name in names for t in templates or ("{}",)]
    images, texts = encode(model, source, filled)
    classes = scoring.ensemble(texts.view(len(names), -1, texts.shape[1]))
    z = images @ classes.T
    own = [names.index(source.texts[i][0]) for i in range(5)]
    expected = recalls([int((z[i] >= z[i, o] - 1e-9).sum()) for i, o in enumerate(own)])
    assert {key: found[f"zero.{key}"] for key in KEYS} == pytest.approx(expected)
    assert (found["zero.images"], found["zero.names"]) == (5, 6)


def test_pictures_and_captions_that_cannot_be_read_are_left_out_and_counted(
    model: TwoTowers,
) -> None:
    whole = [(f"thing {i}",) for i in range(BATCH + 5)]
    gaps: list[tuple[str, ...]] = list(whole)
    gaps[7] = ()
    found = evaluation(Pictures(gaps, bad=(0, BATCH, BATCH + 4))).measure(model)
    assert (found["held_out.images"], found["held_out.unreadable"]) == (BATCH + 1, 4)
    kept = [own for i, own in enumerate(whole) if i not in (0, 7, BATCH, BATCH + 4)]
    assert found["held_out.captions"] == len(kept)


def test_a_set_of_which_nothing_can_be_read_is_an_error(model: TwoTowers) -> None:
    with pytest.raises(StorageError, match="no image of the held-out set 'held_out'"):
        evaluation(Pictures([("a",), ("b",)], bad=(0, 1))).measure(model)


@pytest.mark.parametrize("trains", ["all", "text"])
def test_an_evaluation_changes_nothing(tmp_path: Path, trains: str) -> None:
    """Weights, statistics of batch norms, modes of frozen parts and random numbers."""
    settings = tiny_run(write_folder(tmp_path / "data", 8), trains=trains)
    trainee, *_ = open_start(settings)
    weights = {name: value.clone() for name, value in trainee.state_dict().items()}
    modes = [module.training for module in trainee.modules()]
    assert isinstance(trainee.model.image, ModifiedResNet)
    assert trainee.model.image.training is (trains == "all")
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    evaluation(Pictures([("a",), ("b",), ("c",)])).measure(trainee.model)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in trainee.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in trainee.state_dict().items())
    assert not any(value.is_inference() for value in trainee.state_dict().values())


def test_each_batch_is_told_to_those_who_wait(model: TwoTowers) -> None:
    calls: list[int] = []
    source = Pictures([(f"thing {i}",) for i in range(BATCH + 1)])
    evaluation(source).measure(model, lambda: calls.append(1))
    assert len(calls) == 4  # two of images, two of texts


def test_modes_come_back_after_an_error(model: TwoTowers) -> None:
    model.train()
    with pytest.raises(StorageError):
        evaluation(Pictures([("a",)], bad=(0,))).measure(model)
    assert all(module.training for module in model.modules())


def test_the_moving_average_is_what_a_run_evaluates_and_writes(tmp_path: Path) -> None:
    settings = tiny_run(write_folder(tmp_path / "data", 16), ema=EmaSettings(decay=0.5), steps=2)
    folder = RunFolder(tmp_path / "run", 1)
    session = Session(settings, folder, lambda _: None, lambda: False)
    run = session.run()
    average, live = (m.state_dict() for m in (run.model, session.stepper.trainee.model))
    assert any(not torch.equal(average[name], live[name]) for name in average)
    [last] = [line["evaluation"] for line in run.history if "evaluation" in line]
    assert session.evaluation.measure(run.model) == last
    written = open_checkpoint(tmp_path / "run").weights
    assert all(torch.equal(written[name], average[name]) for name in average)


def test_a_large_set_is_sampled_from_all_over_it(tmp_path: Path) -> None:
    """Tables are often sorted by class."""
    data = write_folder(tmp_path / "data", 40)
    held = HeldOutSettings("val", FolderConfig(Path()))
    settings = tiny_run(data, evaluate=EvaluateSettings(most=10, sets=(held,)))
    one = evaluation(Pictures([("a",)]), settings, share=0).sets[0]
    assert len(set(one.indices)) == 10
    assert max(one.indices) > 20
    again = evaluation(Pictures([("a",)]), replace(settings, seed=7), share=0).sets[0]
    assert list(again.indices) == list(one.indices)


def test_class_names_in_a_table_are_a_zero_shot_task(tmp_path: Path, model: TwoTowers) -> None:
    data = write_folder(tmp_path / "data", 6)
    rows = "".join(f"{i}.png,{('red', 'green', 'blue')[i % 3]}\n" for i in range(6))
    (data / "classes.csv").write_text("image,class\n" + rows)
    source = TableConfig(Path("classes.csv"), captions=("class",))
    held = HeldOutSettings("classes", source, "names", ("a {} picture", "{}"))
    settings = tiny_run(data, evaluate=EvaluateSettings(sets=(held,)))
    found = evaluation(Pictures([("a",)]), settings, share=0).measure(model)
    assert (found["classes.images"], found["classes.names"]) == (6, 3)
    assert found["classes.at_5"] == 1


def test_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 4)
    held = HeldOutSettings("held_out", FolderConfig(Path()))
    settings = tiny_run(data, evaluate=EvaluateSettings(sets=(held,)))
    with pytest.raises(ConfigError, match="different names, got held_out, held_out"):
        evaluation(Pictures([("a",)]), settings)


def test_templates_of_a_task_that_uses_none_are_refused(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 4)
    held = HeldOutSettings("val", FolderConfig(Path()), "retrieval", ("a photo of {}",))
    with pytest.raises(ConfigError, match="'val' has templates"):
        evaluation(Pictures([("a",)]), tiny_run(data, evaluate=EvaluateSettings(sets=(held,))))


@pytest.mark.parametrize(
    ("best", "match"),
    [
        ("held_out.image_to_text.at_2", "did you mean 'held_out.image_to_text.at_"),
        ("held_out.image_to_text.median_rank", "no recall"),
        ("held_out.images", "no recall"),
    ],
)
def test_the_best_is_that_of_a_number_that_rises(best: str, match: str) -> None:
    """A wrong name ends the run before its first step, and a rank would keep the worst."""
    settings = replace(SETTINGS, checkpoints=CheckpointSettings(best=best))
    with pytest.raises(ConfigError, match=match):
        evaluation(Pictures([("a",)]), settings)


def test_a_calibration_needs_names_to_ask_for(
    model: TwoTowers, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Pictures([("one",), ("two",)])
    held = HeldOutSettings("zero", FolderConfig(Path()), "names")
    monkeypatch.setattr("ecliptic.train.evaluation.measures.open_sources", lambda *_: [source])
    settings = replace(SETTINGS, evaluate=EvaluateSettings(sets=(held,), calibrate=("zero",)))
    with pytest.raises(ConfigError, match="at least 3 names to ask for, but its set has 2"):
        evaluation(source, settings, share=0).calibrate(model)


@pytest.mark.parametrize(
    ("sets", "message"),
    [((), "choose from none"), (("zero",), "did you mean 'zero'")],
)
def test_a_calibration_on_no_set_of_names_is_refused(
    sets: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Pictures([("one",), ("two",), ("three",)])
    held = tuple(HeldOutSettings(name, FolderConfig(Path()), "names") for name in sets)
    monkeypatch.setattr("ecliptic.train.evaluation.measures.open_sources", lambda *_: [source])
    settings = replace(SETTINGS, evaluate=EvaluateSettings(sets=held, calibrate=("zerro",)))
    with pytest.raises(ConfigError, match=message):
        evaluation(source, settings, share=0)


def test_one_set_in_place_of_a_list_is_refused() -> None:
    one: Any = "design"
    settings = replace(SETTINGS, evaluate=EvaluateSettings(calibrate=one))
    with pytest.raises(ConfigError, match=r"is a list of sets; write \['design'\]"):
        evaluation(Pictures([("one",), ("two",)]), settings)


def test_questions_hold_the_own_name_in_every_second_round() -> None:
    names = torch.eye(60)
    own = torch.arange(20)
    cosines, answers = ask(names[own], names, own)
    assert cosines.shape == (20 * 4 * 6, 50)
    known = answers == 0
    assert int(known.sum()) == len(answers) // 2
    assert bool((cosines[known][:, 0] == 1).all()), "the own name is the first"
    assert bool((cosines[~known] < 1).all()), "it is not among the others"
    assert sorted(set(cosines.isfinite().sum(dim=1).tolist())) == [2, 3, 5, 10, 20, 50]
