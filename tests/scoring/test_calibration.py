"""A temperature and a level of "none of these": fitted, kept in the card, used by `classify`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ecliptic
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import (
    NONE,
    Calibration,
    add_none,
    calibration_error,
    fit_calibration,
)

PLANTED = Calibration(0.05, 0.3, data="planted")


def ask(count: int, labels: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Cosines, and answers that are drawn with the probabilities of `PLANTED`."""
    random = torch.Generator().manual_seed(seed)
    cosines = 0.25 + 0.15 * torch.randn(count, labels, generator=random, dtype=torch.float64)
    chances = add_none(PLANTED.probabilities(cosines))
    drawn = torch.multinomial(chances, 1, generator=random)[:, 0]
    return cosines, torch.where(drawn == labels, NONE, drawn)


def test_a_planted_calibration_is_found_again() -> None:
    fit = fit_calibration(*ask(20_000), scale=100.0, data="planted")
    assert fit.calibration.temperature == pytest.approx(PLANTED.temperature, rel=0.03)
    assert fit.calibration.none == pytest.approx(PLANTED.none, abs=0.01)
    assert (fit.calibration.data, fit.questions) == ("planted", 20_000)
    assert fit.error < 0.02 < 0.2 < fit.plain_error
    assert 0.5 < fit.separation < 1


def test_the_growth_with_the_number_of_labels_is_found_again() -> None:
    """So that "none of these" stays as likely for nonsense, however many labels there are."""
    planted, random = Calibration(0.05, 0.3, 0.8), torch.Generator().manual_seed(1)
    cosines = 0.25 + 0.1 * torch.randn(30_000, 40, generator=random, dtype=torch.float64)
    counts = torch.tensor([2, 5, 10, 40])[torch.arange(30_000) % 4]
    cosines = cosines.masked_fill(torch.arange(40) >= counts[:, None], -torch.inf)
    drawn = torch.multinomial(add_none(planted.probabilities(cosines)), 1, generator=random)[:, 0]
    fit = fit_calibration(cosines, torch.where(drawn == 40, NONE, drawn), 100.0)
    found = fit.calibration
    assert found.temperature == pytest.approx(0.05, rel=0.03)
    assert found.none == pytest.approx(0.3, abs=0.01)
    assert found.growth == pytest.approx(0.8, abs=0.05)


def test_questions_may_have_fewer_labels() -> None:
    cosines, answers = ask(20_000)
    padded = torch.nn.functional.pad(cosines, (0, 3), value=-torch.inf)
    one, other = (fit_calibration(c, answers, 20.0).calibration for c in (cosines, padded))
    assert (one.temperature, one.none) == pytest.approx((other.temperature, other.none), rel=1e-6)
    assert one.growth == other.growth == 0, "all questions have equally many"


def test_probabilities_leave_the_rest_to_none_of_these() -> None:
    cosines = torch.tensor([[0.5, 0.3], [0.1, 0.0]])
    found = PLANTED.probabilities(cosines)
    logits = torch.cat([cosines, torch.full((2, 1), 0.3)], dim=1) / 0.05
    torch.testing.assert_close(add_none(found), logits.softmax(dim=1))
    assert add_none(found).argmax(dim=1).tolist() == [0, 2]


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    g = np.random.default_rng(42)  # the example of Guo et al. as torchmetrics computes it
    logits = g.normal(size=(200, 5))
    y = g.integers(0, 5, 200)
    logits[np.arange(200), y] += 1
    shares = torch.from_numpy(2 * logits).softmax(dim=1)
    assert calibration_error(shares, torch.from_numpy(y)) == pytest.approx(0.154936, abs=1e-6)


@pytest.mark.parametrize(
    ("cosines", "answers", "kind", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(3), ShapeError, "one for each row"),
        (torch.zeros(4), torch.zeros(4), ShapeError, "must be"),
        (torch.zeros(4, 2), torch.zeros(4), ConfigError, "4 and 0"),
        (torch.zeros(4, 2), torch.full((4,), NONE), ConfigError, "0 and 4"),
        (torch.zeros(4, 2), torch.tensor([0, 1, 2, NONE]), ConfigError, "places from 0 to 1"),
        (torch.zeros(4, 2), torch.tensor([0, 1, -2, NONE]), ConfigError, "places from 0 to 1"),
        (
            torch.full((4, 2), torch.nan),
            torch.tensor([0, 1, 0, NONE]),
            ConfigError,
            "must be finite",
        ),
    ],
)
def test_questions_that_cannot_be_used_are_refused(
    cosines: Tensor, answers: Tensor, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        fit_calibration(cosines, answers, 10.0)


def test_cosines_that_tell_nothing_are_refused() -> None:
    cosines, answers = ask(2000)
    with pytest.raises(ConfigError, match="hardly higher than those of wrong ones"):
        fit_calibration(-cosines, answers, 10.0)


@pytest.mark.parametrize(
    ("temperature", "none"),
    [(0.0, 0.1), (-1.0, 0.1), (float("nan"), 0.1), (1e-300, 0.1), (0.1, 1.5)],
)
def test_impossible_calibrations_are_refused(temperature: float, none: float) -> None:
    with pytest.raises(
        ConfigError, match=r"calibration must be 0.0001 or more|cosine from -1 to 1"
    ):
        Calibration(temperature, none)


@pytest.fixture(scope="module")
def mini() -> ecliptic.Clip:
    return ecliptic.load()


@pytest.fixture
def calibrated(mini: ecliptic.Clip) -> ecliptic.Clip:
    """`mini` with a calibration of these tests."""
    checkpoint = replace(mini._checkpoint, calibration=PLANTED)
    card = replace(mini.card, calibration=PLANTED)
    return ecliptic.Clip(mini.runtime, card, checkpoint, mini._preprocess)


@pytest.fixture
def plain(mini: ecliptic.Clip) -> ecliptic.Clip:
    """`mini` without a calibration."""
    card = replace(mini.card, calibration=None)
    return ecliptic.Clip(mini.runtime, card, mini._checkpoint, mini._preprocess)


LABELS = ["a cat", "a dog"]


def vectors() -> Tensor:
    return torch.randn(5, 256, generator=torch.Generator().manual_seed(3))


def test_classify_uses_the_calibration_of_the_card(
    calibrated: ecliptic.Clip, plain: ecliptic.Clip
) -> None:
    cosines = calibrated.similarity(LABELS, vectors()).T
    wanted = PLANTED.probabilities(cosines)
    torch.testing.assert_close(calibrated.classify(vectors(), LABELS), wanted)
    torch.testing.assert_close(calibrated.classify(vectors(), LABELS, calibrated=True), wanted)
    without = calibrated.classify(vectors(), LABELS, calibrated=False)
    torch.testing.assert_close(without.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(plain.classify(vectors(), LABELS), without)
    with pytest.raises(
        ConfigError, match="has no calibration in its card; leave calibrated=True out"
    ):
        plain.classify(vectors(), LABELS, calibrated=True)


def test_it_is_kept_by_our_layout_and_named_by_the_others(
    calibrated: ecliptic.Clip, tmp_path: Path
) -> None:
    assert calibrated.save(tmp_path / "folder") == ()
    calibrated.save(tmp_path / "one.safetensors")
    for path in (tmp_path / "folder", tmp_path / "one.safetensors"):
        again = ecliptic.load(path)
        assert again.card.calibration == PLANTED
        assert again.card.to_dict()["calibration"]["none"] == 0.3
        assert again.card.space == calibrated.card.space, "it changes no vector"


def test_it_is_left_out_when_it_would_be_that_of_another_model(
    calibrated: ecliptic.Clip, tmp_path: Path
) -> None:
    calibrated.save(tmp_path / "folder")
    assert ecliptic.load(tmp_path / "folder", image_size=128).card.calibration is None
    other = ecliptic.load(tmp_path / "folder", activation="quick_gelu")
    assert other.card.calibration is None
    assert "the calibration in the file is not used" in " ".join(other.card.notes)
    trained = ecliptic.load(tmp_path / "folder")
    with torch.no_grad():
        trained.model.logit_scale.add_(0.1)
    assert trained.card.calibration is None


def test_a_damaged_calibration_is_an_error(calibrated: ecliptic.Clip, tmp_path: Path) -> None:
    calibrated.save(tmp_path / "folder")
    path = tmp_path / "folder" / "ecliptic.json"
    card = json.loads(path.read_text())
    card["calibration"]["temperature"] = 0
    path.write_text(json.dumps(card))
    with pytest.raises(ecliptic.errors.CorruptFileError, match=r"must be 0\.0001 or more"):
        ecliptic.load(tmp_path / "folder")
