"""What a training says of ratings and choices by chance: 0 and a half, as often as it promises."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.engine import Card
from ecliptic.scoring import Interval, spearman
from ecliptic.tasks import train_on_choices, train_on_ratings
from ecliptic.tasks.aesthetic import training
from tests import tiny
from tests.engine.models import save


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    folder: Path = tmp_path_factory.mktemp("model")
    return ecliptic.load(save(tiny.checkpoint("vit"), folder / "vit")).card


@pytest.fixture(autouse=True)
def _no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SHARES", ())


def rate_by_chance(card: Card, trials: int, rows: int, groups: int) -> list[Interval]:
    """Spearman's intervals of noise; images of a group look alike and are rated alike."""
    found = []
    for seed in range(trials):
        g = torch.Generator().manual_seed(seed)
        marks = torch.arange(rows) // (rows // groups)
        looks, own = (
            torch.randn(groups, card.embed, generator=g)[marks],
            torch.randn(rows, card.embed, generator=g),
        )
        alike = 0.0 if groups == rows else 0.8
        x = F.normalize(1 + alike * looks + (1 - alike) * own, dim=-1)
        y = alike * torch.randn(groups, generator=g)[marks] + torch.randn(rows, generator=g)
        names = None if groups == rows else marks.tolist()
        found.append(train_on_ratings(x, y, card, names, seed=seed).report.spearman)
    return found


def choose_by_chance(card: Card, trials: int, pairs: int, groups: int) -> list[Interval]:
    """Intervals of the accuracy of choices by chance."""
    found = []
    for seed in range(trials):
        x = 1 + torch.randn(2, pairs, card.embed, generator=torch.Generator().manual_seed(seed))
        one, other = F.normalize(x, dim=-1)
        names = None if groups == pairs else [n % groups for n in range(pairs)]
        found.append(train_on_choices(one, other, card, names, seed=seed).report.accuracy)
    return found


def share_that_holds(found: list[Interval], truth: float) -> float:
    return sum(one.low <= truth <= one.high for one in found) / len(found)


def mean_of(found: list[Interval]) -> float:
    return sum(one.value for one in found) / len(found)


def test_chance_is_0_and_a_half(card: Card) -> None:
    rated = rate_by_chance(card, 40, 30, 30)
    assert abs(mean_of(rated)) < 0.11
    assert share_that_holds(rated, 0) >= 0.85
    chosen = choose_by_chance(card, 20, 40, 40)
    assert share_that_holds(chosen, 0.5) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "groups"), [(30, 30), (60, 60), (200, 200), (100, 20), (60, 6)])
def test_500_intervals_of_ratings_by_chance_hold_0(card: Card, rows: int, groups: int) -> None:
    found = rate_by_chance(card, 500, rows, groups)
    assert abs(mean_of(found)) < 0.04
    assert share_that_holds(found, 0) >= (0.93 if groups == rows else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "groups"), [(40, 40), (120, 120), (60, 20), (20, 5)])
def test_500_intervals_of_choices_by_chance_hold_a_half(
    card: Card, pairs: int, groups: int
) -> None:
    found = choose_by_chance(card, 500, pairs, groups)
    assert abs(mean_of(found) - 0.5) < 0.02
    assert share_that_holds(found, 0.5) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 200])
def test_500_intervals_of_a_planted_taste_hold_what_new_images_give(card: Card, rows: int) -> None:
    g, held = torch.Generator().manual_seed(0), 0
    for seed in range(500):
        x = F.normalize(1 + torch.randn(rows + 2000, card.embed, generator=g), dim=-1)
        y = (x - x.mean(0)) @ torch.randn(card.embed, generator=g)
        y = y / y.std() + torch.randn(len(y), generator=g)
        fit = train_on_ratings(x[:rows], y[:rows], card, seed=seed)
        truth = spearman(fit.head.score(x[rows:]), y[rows:])
        held += fit.report.spearman.low <= truth <= fit.report.spearman.high
    assert held / 500 >= 0.92
