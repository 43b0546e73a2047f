"""Own heads: what is planted is found, measured on unseen groups, saved and told apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from ecliptic.engine import Card, Clip, Vectors
from ecliptic.errors import (
    ConfigError,
    CorruptFileError,
    InputError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
    StorageError,
)
from ecliptic.scoring import spearman
from ecliptic.tasks import AestheticHead, HeadFit, train_on_choices, train_on_ratings
from ecliptic.tasks.aesthetic.agreement import find_agreement
from ecliptic.tasks.aesthetic.head import FORMAT
from tests import tiny
from tests.engine.models import save


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return ecliptic.load(save(tiny.checkpoint("vit"), tmp_path_factory.mktemp("model") / "vit"))


@pytest.fixture(scope="module")
def card(clip: Clip) -> Card:
    return clip.card


def rated(card: Card, rows: int, noise: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors, ratings, and the planted weight."""
    g = torch.Generator().manual_seed(rows)
    x = F.normalize(1 + torch.randn(rows, card.embed, generator=g), dim=-1)
    weight = torch.randn(card.embed, generator=g)
    y = (x - x.mean(0)) @ weight
    return x, 5 + y / y.std() + noise * torch.randn(rows, generator=g), weight


def test_a_planted_weight_is_found_from_ratings(card: Card) -> None:
    x, y, weight = rated(card, 600, noise=0.2)
    fit = train_on_ratings(x, y, card)
    assert F.cosine_similarity(fit.head.weight, weight.double(), dim=0) > 0.99
    report = fit.report
    assert report.useful
    assert report.spearman.low < report.spearman.value < report.spearman.high
    assert report.spearman.value > 0.9
    assert report.pearson > 0.9
    assert report.error < report.guessing / 2
    sizes = [size for size, _ in report.curve]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 600
    assert report.curve[0][1] <= report.curve[-1][1] + 0.05
    assert report.curve[-1][1] == report.spearman.value
    assert fit.head.space == card.space
    assert fit.head.training["kind"] == "ratings"


def test_a_planted_taste_is_found_from_choices(card: Card) -> None:
    x, _, weight = rated(card, 2400)
    one, other = x.view(2, 1200, -1)
    better = ((one - other) @ weight > 0)[:, None]
    chosen, left = torch.where(better, one, other), torch.where(better, other, one)
    fit = train_on_choices(chosen, left, card)
    assert F.cosine_similarity(fit.head.weight, weight.double(), dim=0) > 0.99
    assert fit.report.accuracy.low > 0.9
    assert fit.report.loss < 0.3
    assert not fit.report.seen
    assert fit.report.curve[-1] == (1200, fit.report.accuracy.value)
    assert float(fit.head.score(x).mean()) == pytest.approx(0, abs=1e-6)
    assert bool((fit.head.score(chosen) > fit.head.score(left)).double().mean() > 0.9)


def test_ratings_by_chance_teach_nothing(card: Card) -> None:
    x, y, _ = rated(card, 80)
    g = torch.Generator().manual_seed(1)
    report = train_on_ratings(x, y[torch.randperm(80, generator=g)], card).report
    assert not report.useful
    assert report.spearman.low < 0
    flips = torch.rand(40, generator=g) < 0.5
    a, b = x.view(2, 40, -1)
    one, other = torch.where(flips[:, None], a, b), torch.where(flips[:, None], b, a)
    assert not train_on_choices(one, other, card).report.useful


def test_groups_are_tested_together_and_are_harder(card: Card) -> None:
    """Ten authors with a style of their own, and ratings that follow the author alone."""
    g = torch.Generator().manual_seed(0)
    author = torch.arange(100) // 10
    style = torch.randn(10, card.embed, generator=g)
    x = F.normalize(style[author] + 0.1 * torch.randn(100, card.embed, generator=g), dim=-1)
    y = torch.randn(10, generator=g)[author]
    apart = train_on_ratings(x, y, card).report
    together = train_on_ratings(x, y, card, [f"author {n}" for n in author.tolist()]).report
    assert apart.groups is None
    assert together.groups == 10
    assert apart.spearman.value > 0.8 > together.spearman.value
    width = together.spearman.high - together.spearman.low
    assert width > apart.spearman.high - apart.spearman.low


def test_equal_images_are_one_with_the_mean_of_their_ratings(card: Card) -> None:
    x, y, _ = rated(card, 60)
    twice = train_on_ratings(torch.cat([x, x]), torch.cat([y - 1, y + 1]), card)
    once = train_on_ratings(x, y, card)
    assert (twice.report.images, twice.report.merged) == (60, 60)
    torch.testing.assert_close(twice.head.weight, once.head.weight, rtol=1e-5, atol=1e-6)
    groups = [*range(60), *(n + 1 for n in range(60))]
    with pytest.raises(ConfigError, match="at least 5 groups, got 1"):
        train_on_ratings(torch.cat([x, x]), torch.cat([y, y]), card, groups)


@pytest.mark.parametrize("raters", [2, 5])
def test_agreement_is_the_correlation_with_other_raters(raters: int) -> None:
    g = torch.Generator().manual_seed(raters)
    truth = torch.randn(6000, generator=g)
    mine, others = truth + 1.5 * torch.randn(2, raters, 6000, generator=g)
    found = find_agreement(mine.flatten(), torch.arange(6000).repeat(raters), 20)
    assert found == pytest.approx(spearman(mine.mean(0), others.mean(0)), abs=0.03)


def test_agreement_is_told_where_it_is_known(card: Card) -> None:
    x, y, _ = rated(card, 40)
    both = train_on_ratings(x.repeat(2, 1), torch.cat([y, y]), card).report
    assert both.agreement == pytest.approx(1, abs=1e-9)
    few = train_on_ratings(torch.cat([x, x[:9]]), torch.cat([y, y[:9]]), card).report
    assert (few.merged, few.agreement) == (9, None)


def test_pairs_that_share_images_are_tested_together_where_they_can(card: Card) -> None:
    x, _, _ = rated(card, 60)
    triples = x.view(20, 3, -1)  # pairs a-b and b-c of each
    one = torch.cat([triples[:, 0], triples[:, 1]])
    other = torch.cat([triples[:, 1], triples[:, 2]])
    assert not train_on_choices(one, other, card).report.seen
    chain = train_on_choices(x[:-1], x[1:], card).report
    assert chain.seen
    assert chain.images == 60
    grouped = train_on_choices(x[:-1], x[1:], card, [n // 12 for n in range(59)]).report
    assert grouped.groups == 5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:12], y[:12]), ConfigError, "got 12; add 8 or more"),
        (lambda x, y: (x, torch.full_like(y, 7)), ConfigError, "all 60 ratings are 7"),
        (lambda x, y: (x, y[:-1]), ShapeError, "60 vectors need as many answers, got 59"),
        (lambda x, y: (x * 9, y), NumericalError, "has length 9"),
        (lambda x, y: (x, y * torch.nan), NumericalError, "leave the images without a rating"),
    ],
)
def test_what_teaches_nothing_is_refused(
    card: Card, change: Any, error: type[Exception], message: str
) -> None:
    x, y, _ = rated(card, 60)
    with pytest.raises(error, match=message):
        train_on_ratings(*change(x, y), card)


def test_too_few_choices_or_groups_are_refused(card: Card) -> None:
    x, _, _ = rated(card, 60)
    with pytest.raises(
        ConfigError, match="20 different pairs of images are needed at least, got 5"
    ):
        train_on_choices(x[:5], x[5:10], card)
    with pytest.raises(ConfigError, match="need at least 5 groups, got 2; add rows of 3 or more"):
        train_on_choices(x[:30], x[30:], card, ["a", "b"] * 15)
    with pytest.raises(ShapeError, match="as many answers, got 30 and 2 groups"):
        train_on_choices(x[:30], x[30:], card, ["a", "b"])


def test_arrays_and_lists_train_the_same_head(card: Card) -> None:
    x, y, _ = rated(card, 40)
    groups = torch.arange(40) // 4
    wanted = train_on_ratings(x, y, card, groups.tolist())
    found = train_on_ratings(x.numpy(), y.numpy(), card, groups)
    assert found.report == wanted.report
    listed = train_on_ratings(x.double(), y.tolist(), card, groups.numpy())
    assert listed.report.groups == 10
    chosen = train_on_choices(x[:20].numpy(), x[20:].numpy(), card)
    assert chosen.report == train_on_choices(x[:20], x[20:], card).report


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x, y[:, None]), ShapeError, r"one row of numbers.*shape \(60, 1\)"),
        (lambda x, y: (x, ["good"] * 60), ShapeError, "ratings must be one row of numbers"),
        (lambda x, y: (x[:, 1:], y), ShapeError, "has vectors of"),
        (lambda x, y: (x[0], y), ShapeError, r"vectors must be \(N, "),
        (lambda x, y: (x.tolist(), y), ShapeError, r"floats of .*, got list; encode"),
        (lambda x, y: (x * torch.nan, y), NumericalError, "row 0 of the given vectors holds NaN"),
    ],
)
def test_other_values_are_refused(
    card: Card, change: Any, error: type[Exception], message: str
) -> None:
    x, y, _ = rated(card, 60)
    with pytest.raises(error, match=message):
        train_on_ratings(*change(x, y), card)


def test_vectors_of_another_space_are_refused(card: Card) -> None:
    x, y, _ = rated(card, 60)
    stored = Vectors(x.numpy(), None, "0" * 64, "", "another model")
    with pytest.raises(SpaceMismatchError):
        train_on_ratings(stored, y, card)
    with pytest.raises(ShapeError, match="has vectors of"):
        train_on_choices(x[:30], x[30:, 1:], card)


def test_points_of_the_curve_have_different_sizes(card: Card) -> None:
    x, y, _ = rated(card, 60)
    groups = [n // 12 for n in range(60)]
    sizes = [size for size, _ in train_on_ratings(x, y, card, groups).report.curve]
    assert sizes == sorted(set(sizes))
    chosen = train_on_choices(x[:30], x[30:], card, groups[::2]).report
    assert [size for size, _ in chosen.curve] == sorted({size for size, _ in chosen.curve})
    assert chosen.units == 5


def test_a_penalty_at_the_end_of_what_is_tried_is_told(card: Card) -> None:
    x, y, _ = rated(card, 60, noise=200)
    report = train_on_ratings(x, y, card).report
    assert report.limit == {1e4: "strongest", 1e-4: "weakest"}.get(report.alpha, "")
    assert replace(report, alpha=1e4).limit == "strongest"
    assert replace(report, alpha=1e-4).limit == "weakest"
    assert replace(report, alpha=1.0).limit == ""


# --- files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fit(card: Card) -> HeadFit:
    x, y, _ = rated(card, 60)
    return train_on_ratings(x, y, card, name="my taste")


def test_a_saved_head_is_the_same_head(fit: HeadFit, card: Card, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    fit.head.save(path)
    again = AestheticHead.load(path)
    assert torch.equal(again.weight, fit.head.weight)
    assert (again.bias, again.space, again.model) == (fit.head.bias, card.space, card.name)
    assert again.name == "my taste"
    assert again.training["images"] == 60
    assert again.training["spearman"]["value"] == fit.report.spearman.value
    with pytest.raises(StorageError, match=r"exists; .* pass overwrite=True"):
        fit.head.save(path)
    fit.head.save(path, overwrite=True)
    with pytest.raises(StorageError, match="cannot be read"):
        AestheticHead.load(tmp_path / "none.safetensors")


def test_images_are_scored_by_their_own_model_only(
    fit: HeadFit, clip: Clip, tmp_path: Path
) -> None:
    pixels = tiny.pixels(tiny.checkpoint("vit"), 3)
    scores = fit.head.score(pixels, clip)
    torch.testing.assert_close(scores, fit.head.score(clip.encode_image(pixels)))
    with pytest.raises(InputError, match="images need the model that encodes them"):
        fit.head.score(pixels)
    other = ecliptic.load(save(tiny.checkpoint("vit", seed=5), tmp_path / "other"))
    with pytest.raises(
        SpaceMismatchError, match=r"'my taste' scores vectors of .* load that model"
    ):
        fit.head.score(pixels, other)
    stored = Vectors(clip.encode_image(pixels).numpy(), None, clip.card.space, "", "x")
    torch.testing.assert_close(fit.head.score(stored), scores)
    with pytest.raises(SpaceMismatchError, match="not of x"):
        fit.head.score(replace(stored, space="0" * 64))


@pytest.mark.parametrize(
    ("facts", "tensors"),
    [
        ({"space": 3}, {}),
        ({"training": None}, {}),
        ({}, {"weight": torch.full((32,), torch.nan, dtype=torch.float64)}),
        ({}, {"bias": torch.ones(2)}),
    ],
)
def test_a_damaged_file_is_refused(
    fit: HeadFit, tmp_path: Path, facts: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    fit.head.save(tmp_path / "head.safetensors")
    about, held = FORMAT.read(tmp_path / "head.safetensors")
    FORMAT.write(tmp_path / "bad.safetensors", about | facts, held | tensors)
    with pytest.raises(CorruptFileError, match="is damaged"):
        AestheticHead.load(tmp_path / "bad.safetensors")
