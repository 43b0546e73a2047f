"""Vectors of concepts: the loss beside plain torch, whole runs, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ecliptic.errors import ConfigError
from ecliptic.train import InfoNCEConfig, TrainSettings, resume, train
from ecliptic.train.concepts import Proxies, make_proxies
from ecliptic.train.data import caption_ids
from ecliptic.train.settings import EvaluateSettings
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.trainee import open_start

from .drawings import write_data
from .runs import read_lines
from .test_drawings_run import SETTINGS as DRAWINGS
from .trainees import SETTINGS as TINY, make_batch

pytestmark = pytest.mark.filterwarnings(r"ignore:step \d+")  # of the health of so small a run
NAMES = ["a cat", "a dog", "A  Cat", "an owl"]


class Pictures:
    """Examples with concepts."""

    concepts = ("a cat", "a dog", "an owl")


def test_the_loss_is_the_cross_entropy_over_all_concepts() -> None:
    proxies = Proxies(NAMES, 16, seed=3).double()
    assert proxies.vectors.shape == (3, 16), "names that differ in case and spaces are one"
    random = torch.Generator().manual_seed(0)
    images, texts = F.normalize(
        torch.randn(2, 5, 16, generator=random, dtype=torch.float64), dim=-1
    )
    names = ["an owl", "a dog", "a cat", "a cat", "a DOG"]
    found = proxies.loss(images, texts, caption_ids(names))
    order = sorted({int(caption_ids([name])) for name in NAMES})
    targets = torch.tensor([order.index(int(caption_ids([name]))) for name in names])
    vectors = F.normalize(proxies.vectors, dim=-1)
    parts = [F.cross_entropy(side @ vectors.T / 0.05, targets) for side in (images, texts)]
    torch.testing.assert_close(found, (parts[0] + parts[1]) / 2)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    data = replace(DRAWINGS.data, root=write_data(tmp_path_factory.mktemp("data")))
    loss = InfoNCEConfig(concepts=0.5)
    return replace(
        DRAWINGS, data=data, loss=loss, steps=6, log_every=2, evaluate=EvaluateSettings()
    )


def test_a_run_trains_them_and_leaves_them_out_of_the_model(
    settings: TrainSettings, tmp_path: Path
) -> None:
    run = train(settings, tmp_path / "run")
    assert not any("proxies" in name for name in run.model.state_dict())
    lines = [line for line in run.history if "loss" in line]
    assert all(line["concept_loss"] > 0 for line in lines)
    for line in lines:
        assert line["loss"] == pytest.approx(line["pair_loss"] + 0.5 * line["concept_loss"])
    assert "concept_loss" in (tmp_path / "run" / "curves.svg").read_text()


def test_a_run_goes_on_bit_for_bit(settings: TrainSettings, tmp_path: Path) -> None:
    whole = train(settings, tmp_path / "whole").model.state_dict()
    steps = iter(range(1, 100))
    train(settings, tmp_path / "run", stop=lambda: next(steps) == 3)
    again = resume(tmp_path / "run").model.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())
    names = ("loss", "concept_loss")
    lines = [
        [{n: line[n] for n in names} for line in read_lines(tmp_path / run)]
        for run in ("whole", "run")
    ]
    assert lines[0] == lines[1]


def test_the_optimiser_trains_them() -> None:
    settings = replace(TINY, loss=InfoNCEConfig(concepts=0.5))
    trainee, _, _ = open_start(settings)
    names = [f"concept {i}" for i in range(40)]
    trainee.proxies = Proxies(names, 16)
    before = trainee.proxies.vectors.detach().clone()
    stepper = Stepper(trainee, settings, build_loss(settings.loss))
    batch = make_batch()
    batch = replace(batch, captions=caption_ids(names[: len(batch)]))
    losses = [stepper.step(batch, number).parts["concept_loss"] for number in range(6)]
    assert losses[-1] < losses[0]
    assert not torch.equal(trainee.proxies.vectors, before)


@pytest.mark.parametrize(
    ("sources", "processes", "message"),
    [
        ([Pictures(), object()], 1, "which source 1 of data.sources does not name"),
        ([Pictures()], 2, r"loss.concepts is for one process"),
    ],
)
def test_where_they_cannot_be_is_refused(
    settings: TrainSettings, sources: list[object], processes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_proxies(settings, 8, sources, processes)  # type: ignore[arg-type]
    plain = replace(settings, loss=InfoNCEConfig())
    assert make_proxies(plain, 8, sources, processes) is None  # type: ignore[arg-type]
