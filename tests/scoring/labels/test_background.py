"""Background correction undoes labels that are near to everything."""

import pytest
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import FEWEST_REFERENCES, above_background, fit_background


def hubs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cosines in which the first labels are high and spread on any picture; truths."""
    made = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 10, (count,), generator=made)
    cosines = 0.01 * torch.randn(count, 10, generator=made, dtype=torch.float64)
    cosines[torch.arange(count), truth] += 0.05
    rise = torch.linspace(0.2, 0, 10, dtype=torch.float64)
    return 0.2 + cosines * (1 + 10 * rise) + rise, truth


def test_hubs_lose_their_lead() -> None:
    cosines, truth = hubs(500, 0)
    references, _ = hubs(FEWEST_REFERENCES, 1)
    background = fit_background(references)
    plain = float((cosines.argmax(1) == truth).double().mean())
    for corrected in (background.z_scores(cosines), background.correct(cosines)):
        assert float((corrected.argmax(1) == truth).double().mean()) > 0.9 > 0.5 > plain


def test_corrected_values_keep_the_units_of_cosines() -> None:
    references, _ = hubs(400, 2)
    background = fit_background(references)
    torch.testing.assert_close(background.z_scores(references).std(dim=0), torch.ones(10).double())
    spread = background.correct(references).std(dim=0)
    assert float(spread.mean()) == pytest.approx(float(references.std(dim=0).mean()))
    assert float(spread.max() - spread.min()) < 1e-12


def test_background_texts_change_no_softmax() -> None:
    cosines, _ = hubs(5, 3)
    raised = above_background(cosines + torch.arange(5)[:, None], torch.arange(5)[:, None] + 0.1)
    torch.testing.assert_close(raised, cosines - 0.1)


def test_what_gives_no_background_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 200 reference images, got 150: 50 are"):
        fit_background(torch.ones(150, 2))
    with pytest.raises(ConfigError, match="label 0 is equally near"):
        fit_background(torch.ones(200, 2))
    with pytest.raises(ShapeError, match=r"must be \(R, L\)"):
        fit_background(torch.ones(200))
    with pytest.raises(ShapeError, match="background is of 10 labels"):
        fit_background(hubs(200, 0)[0]).z_scores(torch.ones(1, 3))
    with pytest.raises(ShapeError, match="a row for each"):
        above_background(torch.ones(2, 2), torch.ones(3, 2))
