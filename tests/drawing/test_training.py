"""The training: it learns, repeats itself, and goes on where it stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.drawing import DrawingProgress, DrawingSettings, TrainingDrawings, train_drawing
from ecliptic.drawing.training import STATE, draw_vectors, rate_at, read_state
from ecliptic.errors import CheckpointError, NumericalError
from ecliptic.guidance import generator_of
from ecliptic.model import DrawingNet


def train(
    settings: DrawingSettings, drawings: TrainingDrawings, folder: Path, space: str = "s"
) -> tuple[DrawingNet, list[DrawingProgress]]:
    seen: list[DrawingProgress] = []
    return train_drawing(settings, drawings, space, folder, seen.append), seen


def same(a: DrawingNet, b: DrawingNet) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_it_goes_on_bit_for_bit(
    settings: DrawingSettings, drawings: TrainingDrawings, tmp_path: Path
) -> None:
    whole, _ = train(settings, drawings, tmp_path / "whole")
    train(replace(settings, steps=3, cooldown=1), drawings, tmp_path / "parts")
    parts, seen = train(settings, drawings, tmp_path / "parts")
    early = replace(settings, steps=3, cooldown=1)
    assert rate_at(2, early) == rate_at(2, settings)  # so the first steps are the same
    assert [one.step for one in seen] == [4, 6]
    assert same(whole, parts)
    assert same(whole, read_state(settings, "s", tmp_path / "whole"))


def test_it_learns_colours(
    settings: DrawingSettings, drawings: TrainingDrawings, tmp_path: Path
) -> None:
    longer = replace(settings, steps=80, batch=12, rate=5e-3, warmup=5, log_every=20)
    _, seen = train(longer, drawings, tmp_path)
    assert seen[-1].loss < 0.5 * seen[0].loss


def test_a_seed_changes_all(
    settings: DrawingSettings, drawings: TrainingDrawings, tmp_path: Path
) -> None:
    first, _ = train(settings, drawings, tmp_path / "0")
    second, _ = train(replace(settings, seed=1), drawings, tmp_path / "1")
    assert not same(first, second)


def test_the_state_of_another_training_is_refused(
    settings: DrawingSettings, drawings: TrainingDrawings, tmp_path: Path
) -> None:
    train(settings, drawings, tmp_path)
    with pytest.raises(CheckpointError, match="other settings, or of another CLIP"):
        train(replace(settings, batch=5), drawings, tmp_path)
    with pytest.raises(CheckpointError, match="other settings, or of another CLIP"):
        train(settings, drawings, tmp_path, space="other")
    with pytest.raises(CheckpointError, match="has no state"):
        read_state(settings, "s", tmp_path / "nowhere")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(
    settings: DrawingSettings, drawings: TrainingDrawings, tmp_path: Path
) -> None:
    train(settings, drawings, tmp_path)
    before = (tmp_path / STATE).read_bytes()
    broken = replace(drawings, images=drawings.images * torch.nan, texts=drawings.texts * torch.nan)
    with pytest.raises(NumericalError, match="the loss of step 7 must be finite"):
        train(replace(settings, steps=9), broken, tmp_path)
    assert (tmp_path / STATE).read_bytes() == before


def test_vectors_are_of_captions_and_drawings_with_noise(
    settings: DrawingSettings, drawings: TrainingDrawings
) -> None:
    rows = torch.arange(12).repeat(200)
    vectors, known = draw_vectors(drawings, rows, settings.condition, generator_of(0))
    cosines = (vectors * drawings.images[rows]).sum(dim=1)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2400))
    assert 0.85 < float(cosines.min()) < 0.95  # noise of length 0.5 at most, across
    assert abs(float(known.float().mean()) - 0.9) < 0.03
