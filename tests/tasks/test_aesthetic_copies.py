"""Copies of an image, and repeated choices, are never learnt from and tested."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from ecliptic.engine import Card
from ecliptic.errors import ConfigError
from ecliptic.tasks import train_on_choices, train_on_ratings
from ecliptic.tasks.aesthetic import training
from ecliptic.tasks.aesthetic.copies import find_copies, number_pairs
from tests import tiny
from tests.engine.models import save


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    folder: Path = tmp_path_factory.mktemp("model")
    return ecliptic.load(save(tiny.checkpoint("vit"), folder / "vit")).card


def unit(rows: int, width: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return F.normalize(1 + torch.randn(rows, width, generator=g), dim=-1)


def test_copies_are_found_as_every_pair_would_tell() -> None:
    x = unit(300, 24)
    near = F.normalize(x[:200] + 1e-4 * torch.randn(200, 24), dim=-1)
    far = F.normalize(x[:50] + 1e-3 * torch.randn(50, 24), dim=-1)
    rows = torch.cat([x, near, far])[
        torch.randperm(550, generator=torch.Generator().manual_seed(1))
    ]
    firsts, members = find_copies(rows)
    same = rows.double() @ rows.double().T > 1 - 1e-6
    for _ in range(10):  # the ends of chains
        same = (same.double() @ same.double()) > 0
    wanted = same.double().argmax(dim=1)
    assert torch.equal(torch.tensor(firsts)[members], wanted)
    assert 300 <= len(firsts) < 550
    assert members.tolist()[0] == 0


def test_a_chain_of_copies_is_one_image() -> None:
    angles = torch.arange(12).double() * 1.2e-3  # neighbours are same, the ends are not
    chain = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert float(chain[0] @ chain[-1]) < 1 - 1e-6
    assert find_copies(chain)[0] == [0]
    apart = torch.stack([(2 * angles).cos(), (2 * angles).sin()], dim=1)
    assert find_copies(apart)[0] == list(range(12))


def test_last_bits_make_no_other_image(card: Card) -> None:
    x = unit(60, card.embed)
    g = torch.Generator().manual_seed(2)
    ratings = torch.randn(60, generator=g)
    other = x * (1 + 1e-7 * torch.randn(x.shape, generator=g))
    assert not torch.equal(other, x)
    report = train_on_ratings(torch.cat([x, other]), torch.cat([ratings, ratings]), card).report
    assert (report.images, report.merged) == (60, 60)


def test_the_same_two_images_are_one_pair() -> None:
    ends = torch.tensor([[0, 1, 2, 0, 5], [1, 0, 3, 2, 6]])
    numbers = number_pairs(ends).tolist()
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 4


def test_a_choice_that_others_made_too_is_not_learnt_and_tested(
    card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three people agree about 100 pairs of 38 images, and nothing can be known of other pairs."""
    monkeypatch.setattr(training, "SHARES", ())  # no curve, which takes long
    x = unit(38, card.embed)
    wrong = right = 0.0
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        pairs = torch.stack([torch.randperm(38, generator=g)[:2] for _ in range(100)])
        thrice = pairs.repeat(3, 1)
        report = train_on_choices(x[thrice[:, 0]], x[thrice[:, 1]], card, seed=seed).report
        once = train_on_choices(x[pairs[:, 0]], x[pairs[:, 1]], card, seed=seed).report
        assert report.seen
        assert report.groups is None
        assert report.units == len({tuple(sorted(pair)) for pair in pairs.tolist()})
        width = [one.accuracy.high - one.accuracy.low for one in (report, once)]
        assert width[0] > 0.8 * width[1]
        right += once.accuracy.value / 2
        wrong += report.accuracy.value / 2
    assert wrong < right + 0.1


def test_one_pair_is_one_however_often_it_is_chosen(card: Card) -> None:
    x = unit(2, card.embed)
    one, other = x[:1].repeat(25, 1), x[1:].repeat(25, 1)
    with pytest.raises(
        ConfigError, match="20 different pairs of images are needed at least, got 1"
    ):
        train_on_choices(one, other, card)
    turned = torch.cat([one[:12], other[12:]]), torch.cat([other[:12], one[12:]])
    with pytest.raises(ConfigError, match="got 1; add 19 or more"):
        train_on_choices(*turned, card)


def test_five_sets_of_pairs_that_agree_are_not_surely_better_than_chance(card: Card) -> None:
    g = torch.Generator().manual_seed(0)
    side = F.normalize(torch.randn(1, card.embed, generator=g), dim=-1)
    good, bad = (
        F.normalize(sign * side + 0.02 * torch.randn(20, card.embed, generator=g), dim=-1)
        for sign in (1, -1)
    )
    report = train_on_choices(good[:5].repeat_interleave(4, 0), bad, card).report
    assert (report.pairs, report.units, report.groups) == (20, 5, None)
    assert report.accuracy.value == 1
    assert report.accuracy.low < 0.5
    assert not report.useful


def test_a_choice_between_copies_is_refused(card: Card) -> None:
    x = unit(60, card.embed)
    other = x[30:].clone()
    other[7] = x[7]
    with pytest.raises(ConfigError, match="choice 7 is between two copies of one image"):
        train_on_choices(x[:30], other, card)
