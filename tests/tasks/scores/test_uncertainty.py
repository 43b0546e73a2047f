"""What scores say about themselves: their bounds, equal rows, and what Ctrl-C leaves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic import scoring
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.tasks import (
    METRICS,
    RowColumns,
    RowScorer,
    ScoreRow,
    ScoreSheet,
    find_metric,
    score_pairs,
    score_rows,
    score_vectors,
    start_sheet,
)
from tests.tasks.scores.conftest import CAPTIONS


def sheet_of(metric: str, values: Any, groups: Any = None) -> ScoreSheet:
    """A sheet of scores that are given, (N,) or (N, S)."""
    rows = torch.as_tensor(values, dtype=torch.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    sheet = ScoreSheet(METRICS[metric], model="some", stored=True)
    sheet.parts, sheet.complete, sheet.groups = [rows], len(rows), groups or []
    sheet.spool.add({"row": f"row {i}"} for i in range(len(rows)))
    return sheet


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("clip-t", [0.1, 0.1, 0.1001, 0.9, 0.1]),
        ("clipscore", [0.0] * 9 + [0.1, 2.5, 2.5]),
        ("iqa", [0.999, 1.0, 0.2, 1.0, 1.0, 0.999]),
        ("refclipscore", [0.0, 0.0, 0.0, 1.4, 1.4]),
        ("torchmetrics", [-90.0, -90.0, -90.0, -90.0, 90.0]),
    ],
)
def test_intervals_stay_within_what_a_score_can_be(metric: str, values: list[float]) -> None:
    row = METRICS[metric]
    found = sheet_of(metric, values).summary(0)
    assert found.interval is not None
    wide = scoring.bootstrap(values)
    least = row.least if row.floor is None else row.floor
    assert wide.low < least or wide.high > row.most
    assert least <= found.interval.low <= found.interval.value <= found.interval.high <= row.most
    assert {type(end) for end in (found.interval.low, found.interval.high)} == {float}


def test_scores_lie_within_the_bounds_of_their_metric() -> None:
    rng = np.random.default_rng(0)
    images, texts, more = (torch.from_numpy(rng.normal(size=(300, 2))) for _ in range(3))
    images[0] = texts[0] = more[0]
    references = list(more[:, None])
    for name, found in (
        ("clipscore", scoring.clip_score(images, texts)),
        ("refclipscore", scoring.ref_clip_score(images, texts, references)),
        ("clip-t", scoring.pair_cosines(images, texts)),
    ):
        metric = METRICS[name]
        assert float(found.max()) == pytest.approx(metric.most, abs=1e-3)
        assert float(found.min()) == pytest.approx(metric.least, abs=1e-3)


def test_the_difference_of_two_systems_stays_within_its_bounds() -> None:
    values = np.stack([[1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, -0.999, -1.0]], axis=1)
    found = sheet_of("clip-t", values).comparison()
    assert -2 <= found.difference.low <= found.difference.high == 2


def test_a_clamped_mean_is_clamped_for_both_systems() -> None:
    values = np.stack([np.linspace(1, 3, 12), np.linspace(-4, -1, 12)], axis=1)
    sheet = sheet_of("torchmetrics", values)
    found = sheet.comparison()
    assert (found.first, found.second) == (pytest.approx(2.0), 0.0)
    assert found.difference.value == pytest.approx(4.5)
    assert any("clamps a mean at 0; the difference" in note for note in sheet.comparison_notes())
    above = sheet_of("torchmetrics", values + 10)
    assert not any("clamps" in note for note in above.comparison_notes())


def test_a_comparison_says_what_the_score_was_published_with() -> None:
    notes = sheet_of("clip-t", np.random.default_rng(0).random((12, 2))).comparison_notes()
    assert notes == ("published with ViT-B-32/openai; scores of some are on another scale.",)


def test_values_that_are_tied_are_counted() -> None:
    notes = sheet_of("clip-t", [0.0] * 9 + [0.1, 0.2, 0.3]).summary(0).notes
    assert any("9 of 12 rows have one score, 0.0000, and only 3 another" in one for one in notes)
    some = sheet_of("clip-t", [0.0] * 9 + list(np.arange(1, 11) / 100)).summary(0).notes
    assert not any("have one score" in note for note in some)
    same = sheet_of("clip-t", [0.5] * 12).summary(0)
    assert any("all 12 rows have one score, so the interval has no width" in n for n in same.notes)


@pytest.mark.parametrize(
    ("values", "best", "worst"),
    [
        ([0.5], [0], []),
        ([0.1, 0.3, 0.2], [1, 2], [0]),
        ([0.1, 0.3, 0.2, 0.5, 0.4], [3, 4, 1], [0, 2]),
        ([0.2] * 4, [0, 1], [2, 3]),
        (list(range(8)), [7, 6, 5], [0, 1, 2]),
    ],
)
def test_no_row_is_among_the_best_and_the_worst(
    values: list[float], best: list[int], worst: list[int]
) -> None:
    found = sheet_of("clip-t", values).extremes(3)
    rows = [[int(one.row["row"].split()[1]) for one in side] for side in found]
    assert rows == [best, worst]


def test_rows_that_are_there_again_are_counted(clip: Clip, paths: list[str]) -> None:
    found = score_pairs(clip, paths * 3, CAPTIONS * 3, "clip-t").summary()
    assert found.run.different == 4
    assert any("only 4 of 12 rows are different" in note for note in found.notes)
    opened = [Image.open(path) for path in paths]  # nobody knows whether those are equal
    found = score_pairs(clip, opened * 2, CAPTIONS * 2, "clip-t").summary()
    assert found.run.different == 8


def test_stored_captions_without_the_prefix_are_named() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 8)))
    notes = score_vectors(rows, rows, "clipscore").summary().notes
    assert any("begins each caption with 'A photo depicts '" in note for note in notes)
    bare = score_vectors(rows, rows, "clip-t").summary()
    assert not any("begins" in note for note in bare.notes)
    assert bare.interval is not None
    assert type(bare.interval.low) is float


def test_what_is_scored_before_ctrl_c_is_kept(
    clip: Clip, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.tasks.scores.scorer.ROWS", 2)

    def rows() -> Iterator[ScoreRow]:
        for i in range(3):
            yield ScoreRow(f"row {i}", (paths[i],), (CAPTIONS[i],), labels=("x",))
        raise KeyboardInterrupt

    scorer = RowScorer(clip, METRICS["clip-t"])
    sheet = start_sheet(scorer)
    with pytest.raises(KeyboardInterrupt):
        score_rows(scorer, rows(), sheet=sheet)
    assert [row["row"] for row in sheet.rows()] == ["row 0", "row 1"]
    sheet.parts.append(sheet.parts[0])  # as if Ctrl-C came in the middle of adding a batch
    assert len(list(sheet.rows())) == len(sheet.values()) == sheet.run().rows == 2


def test_what_would_have_no_effect_is_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="so groups would have no effect"):
        RowColumns(find_metric("preference"), {"group": "g"})
    with pytest.raises(ConfigError, match="the two words of iqa are equal, 'a'"):
        RowScorer(clip, find_metric("iqa"), words=("a", "a"))
