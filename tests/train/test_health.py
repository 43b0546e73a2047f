"""Each sign of a training that does not learn is named once; a run that learns has none."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.train import EvaluateSettings, OptimSettings, TextPairsSettings, TrainSettings, train
from ecliptic.train.health import PATIENCE, HealthWatch, Spread, measure_spread
from ecliptic.train.settings import DataSettings, DistillationConfig, InfoNCEConfig, SigLIPConfig
from ecliptic.train.stepping import StepResult

from .runs import tiny_run, write_folder

WARMUP, BATCH = 10, 64
LATE = WARMUP + PATIENCE + 1
SETTINGS = replace(
    tiny_run(Path()), data=DataSettings(batch=BATCH), optim=OptimSettings(warmup=WARMUP)
)
FINE = StepResult(loss=1.5, rate=1e-3, norm=1.0, scale=14.3, skipped=False)
WIDE = Spread(1.0, -3.5, -3.4, 20.0)
DISTINCT = torch.arange(BATCH)


def look(
    result: StepResult = FINE,
    spread: Spread | None = WIDE,
    captions: Tensor = DISTINCT,
    *,
    step: int = LATE,
    settings: TrainSettings = SETTINGS,
) -> list[str]:
    return HealthWatch(settings).look(step, result, spread, captions)


def directions(count: int, noise: float, size: int = 32) -> Tensor:
    """Unit vectors around one direction."""
    generator = torch.Generator().manual_seed(2)
    centre = torch.randn(size, generator=generator)
    return F.normalize(centre + noise * torch.randn(count, size, generator=generator), dim=-1)


def test_the_loss_of_text_pairs_is_no_sign() -> None:
    """Images that have learned look as if they had not, when both losses are added."""
    settings = replace(
        SETTINGS, data=replace(SETTINGS.data, texts=TextPairsSettings((), weight=0.5))
    )
    both = replace(FINE, loss=1.5 + 0.5 * 5.3, parts={"pair_loss": 1.5})
    assert look(replace(both, parts={})) != []
    assert look(both, settings=settings) == []
    [text] = look(replace(both, parts={"pair_loss": 4.2}), settings=settings)
    assert text.startswith("the loss 4.20 is still that of vectors that say nothing")


# --- each sign ---------------------------------------------------------------------------------


def test_a_healthy_step_has_no_sign() -> None:
    assert look() == []


@pytest.mark.parametrize(("scale", "said"), [(100.0, "a scale of 100"), (1.0, "a scale of 1)")])
def test_a_temperature_at_its_bound(scale: float, said: str) -> None:
    [text] = look(replace(FINE, scale=scale))
    assert said in text
    assert "reached its bound" in text


def test_a_model_that_starts_at_the_bound_is_no_sign_until_it_comes_back() -> None:
    """As the released CLIPs do."""
    start = replace(SETTINGS, start="mini", model=None, image_spec=None, tokenizer_spec=None)
    watch = HealthWatch(start)
    steps = enumerate((100.0, 99.99, 98.0, 100.0, 100.0))
    found = [watch.look(n, replace(FINE, scale=s), WIDE, DISTINCT) for n, s in steps]
    assert [len(texts) for texts in found] == [0, 0, 0, 1, 0]


def test_a_step_that_is_skipped() -> None:
    vectors = torch.full((BATCH, 8), float("nan"))
    result = replace(FINE, loss=math.nan, norm=math.inf, skipped=True)
    [text] = look(result, measure_spread(vectors, vectors))
    assert "not finite" in text
    assert "optim.rate" in text


@pytest.mark.parametrize("mask", [True, False])
def test_a_loss_at_that_of_vectors_that_say_nothing(mask: bool) -> None:
    """Which is less than ln N if equal captions are no negatives."""
    settings = replace(SETTINGS, loss=InfoNCEConfig(mask_duplicates=mask))
    captions = torch.cat([DISTINCT[:40], torch.zeros(24, dtype=torch.int64)])
    z = torch.full((BATCH, BATCH), 7.0)
    if mask:
        z[_equal(captions)] = -math.inf
    loss = float(F.cross_entropy(z, DISTINCT))
    assert (loss < 0.98 * math.log(BATCH)) is mask
    [text] = look(replace(FINE, loss=loss), captions=captions, settings=settings)
    assert f"{loss:.2f} is still that of vectors that say nothing ({loss:.2f} for a batch" in text
    assert not look(replace(FINE, loss=0.9 * loss), captions=captions, settings=settings)


@pytest.mark.parametrize("captions", [DISTINCT, DISTINCT % 40])
def test_a_sigmoid_loss_at_that_of_vectors_that_say_nothing(captions: Tensor) -> None:
    """With the best bias for them, searched for."""
    signs = 2 * torch.eye(BATCH) - 1
    signs[_equal(captions)] = 0
    biases = torch.linspace(-6, 0, 601)
    values = [(F.softplus(-signs * bias) * (signs != 0)).sum() / BATCH for bias in biases]
    loss = float(torch.stack(values).min())
    settings = replace(SETTINGS, loss=SigLIPConfig())
    [text] = look(replace(FINE, loss=loss), captions=captions, settings=settings)
    assert "say nothing" in text
    assert not look(replace(FINE, loss=0.97 * loss), captions=captions, settings=settings)


def _equal(captions: Tensor) -> Tensor:
    """(B, B), where a caption is that of another pair."""
    return (captions == captions[:, None]) & ~torch.eye(len(captions), dtype=torch.bool)


def test_vectors_that_collapse() -> None:
    close, far = directions(BATCH, 0.1), directions(BATCH, 100)
    bad = replace(FINE, loss=0.9 * math.log(BATCH))
    [text] = look(bad, measure_spread(close, close))
    assert "collapse" in text
    assert "for images and" in text
    [text] = look(bad, measure_spread(far, close))
    assert "for texts (0:" in text
    assert not look(bad, measure_spread(far, far))


def test_a_frozen_tower_and_equal_captions_are_no_collapse() -> None:
    close, far = directions(BATCH, 0.1), directions(BATCH, 100)
    bad = replace(FINE, loss=0.9 * math.log(BATCH))
    assert not look(bad, measure_spread(close, far), settings=replace(SETTINGS, trains="text"))
    [text] = look(replace(FINE, loss=3.0), measure_spread(far, close), DISTINCT % 8)
    assert "captions" in text


def test_vectors_that_are_close_and_yet_told_apart_are_no_collapse() -> None:
    close = directions(BATCH, 0.1)
    assert not look(replace(FINE, loss=0.3), measure_spread(close, close))


def test_a_distillation_has_no_loss_of_chance_but_can_collapse() -> None:
    settings = replace(SETTINGS, loss=DistillationConfig(teacher="mini"))
    assert not look(replace(FINE, loss=9.0), settings=settings)
    close = directions(BATCH, 0.1)
    [text] = look(replace(FINE, loss=9.0), measure_spread(close, close), settings=settings)
    assert "collapse" in text


def test_few_different_captions() -> None:
    [text] = look(captions=DISTINCT % 16)
    assert "only 25% of the captions" in text
    assert not look(captions=DISTINCT % 32)


def test_a_run_that_begins_may_be_at_chance_and_in_one_place() -> None:
    close = directions(BATCH, 0.1)
    bad = replace(FINE, loss=math.log(BATCH))
    assert not look(bad, measure_spread(close, close), step=WARMUP + PATIENCE)


def test_a_sign_is_given_once_until_it_is_gone() -> None:
    watch = HealthWatch(SETTINGS)
    scales = enumerate((100.0, 100.0, 50.0, 100.0))
    found = [watch.look(n, replace(FINE, scale=s), WIDE, DISTINCT) for n, s in scales]
    assert [len(texts) for texts in found] == [1, 0, 0, 1]


def test_two_signs_are_two_texts() -> None:
    assert len(look(replace(FINE, scale=1.0, skipped=True))) == 2


@pytest.mark.slow
def test_a_small_run_that_learns_has_no_sign(tmp_path: Path) -> None:
    """Past the step from which a loss at chance and a collapse are reported."""
    small = tiny_run(write_folder(tmp_path / "data"), steps=2 + PATIENCE + 60)
    settings = replace(small, log_every=1, evaluate=EvaluateSettings(every=1000))
    lines = train(settings, tmp_path / "run").history  # a warning would be an error
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == settings.steps
    assert not any("warnings" in line for line in lines)
    assert sum(losses[-20:]) < sum(losses[:20])


# --- the spread --------------------------------------------------------------------------------


def test_the_spread_follows_its_formulas() -> None:
    x, y = directions(9, 1.0).double(), directions(9, 3.0).double().flip(0)
    found = measure_spread(x, y)
    pairs = [(i, j) for i in range(9) for j in range(i)]
    apart = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i, j in pairs]
    assert found.uniformity_image == pytest.approx(math.log(sum(apart) / len(apart)), rel=1e-5)
    assert found.alignment == pytest.approx(float((x - y).square().sum(1).mean()), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_effective_rank_counts_directions(rank: int) -> None:
    vectors = torch.eye(8)[torch.arange(24) % rank]
    assert measure_spread(vectors, vectors).rank == pytest.approx(rank, rel=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_the_spread_of_one_vector_or_none_is_no_collapse(count: int) -> None:
    found = measure_spread(torch.ones(count, 4), torch.ones(count, 4))
    assert found.uniformity_image == found.uniformity_text == -math.inf
