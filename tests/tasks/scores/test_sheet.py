"""Rows of images and texts are scored as the formulas say, whatever the batches."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecliptic import scoring
from ecliptic.engine import Clip, Vectors
from ecliptic.errors import ConfigError, InputError, ShapeError, SpaceMismatchError
from ecliptic.tasks import (
    METRICS,
    RowScorer,
    ScoreRow,
    find_metric,
    score_pairs,
    score_rows,
    score_vectors,
)
from tests.tasks.scores.conftest import CAPTIONS

REFERENCES = [["a cat", "cats"], ["dogs"], ["a car", "red", "car"], ["waves"]]


def values_of(sheet: Any) -> Any:
    return sheet.values()[:, 0]


def test_pairs_are_scored_by_their_formulas(clip: Clip, paths: list[str]) -> None:
    images, texts = clip.encode_image(paths), clip.encode_text(CAPTIONS)
    cosines = scoring.pair_cosines(images, texts)
    torch.testing.assert_close(values_of(score_pairs(clip, paths, CAPTIONS, "clip-t")), cosines)
    found = score_pairs(clip, paths, CAPTIONS, "torchmetrics")
    torch.testing.assert_close(values_of(found), 100 * cosines)
    assert found.summary().score == pytest.approx(max(100 * float(cosines.mean()), 0))
    longer = clip.encode_text([f"A photo depicts {text}" for text in CAPTIONS])
    prefixed = scoring.clip_score(images, longer)
    found = score_pairs(clip, paths, CAPTIONS)
    torch.testing.assert_close(values_of(found), prefixed)
    assert found.prefix == "A photo depicts "
    bare = score_pairs(clip, paths, CAPTIONS, prefix="")
    torch.testing.assert_close(values_of(bare), scoring.clip_score(images, texts))


@pytest.mark.parametrize("name", ["refclipscore", "refclipscore-published"])
def test_references_have_the_prefix_too(clip: Clip, paths: list[str], name: str) -> None:
    images = clip.encode_image(paths)
    before = "A photo depicts "
    texts = clip.encode_text([before + text for text in CAPTIONS])
    near = [clip.encode_text([before + text for text in own]) for own in REFERENCES]
    convention: Any = "published" if "published" in name else "guarded"
    peer = scoring.ref_clip_score(images, texts, near, convention=convention)
    found = score_pairs(clip, paths, CAPTIONS, name, references=REFERENCES)
    torch.testing.assert_close(values_of(found), peer)
    assert next(iter(found.rows()))["references"] == REFERENCES[0]


def test_other_rows_are_scored_by_their_formulas(clip: Clip, paths: list[str]) -> None:
    v, t = clip.encode_image(paths), clip.encode_text(CAPTIONS)
    rows = [
        ScoreRow("one", (paths[0], paths[1]), (CAPTIONS[0], CAPTIONS[1]), labels=("a", "b")),
        ScoreRow("two", (paths[2], paths[3]), (CAPTIONS[2], CAPTIONS[3]), labels=("c", "d")),
    ]
    found = score_rows(RowScorer(clip, METRICS["directional"]), rows)
    peer = scoring.directional_similarity(v[::2], v[1::2], t[::2], t[1::2])
    torch.testing.assert_close(values_of(found), peer)
    assert [row["edited"] for row in found.rows()] == ["b", "d"]
    assert [row["edited_caption"] for row in found.rows()] == CAPTIONS[1::2]
    scorer = RowScorer(clip, METRICS["iqa"], words=("calm", "wild"))
    found = score_rows(scorer, (ScoreRow(path, (path,), labels=(path,)) for path in paths))
    words = clip.encode_text(["calm", "wild"])
    peer = scoring.clip_iqa(v, words[:1], words[1:])[:, 0]
    torch.testing.assert_close(values_of(found), peer)


def test_preferences_are_shares_among_the_images_of_a_caption(clip: Clip, paths: list[str]) -> None:
    captions = ["a cat", "a dog", "a cat", "a cat"]
    found = score_pairs(clip, paths, captions, "preference")
    scale = float(clip.model.logit_scale.detach().exp())
    peer = scoring.preference(clip.encode_image(paths), clip.encode_text(captions), scale, captions)
    torch.testing.assert_close(values_of(found), peer)
    summary = found.summary()
    assert summary.n == 2
    assert summary.score == pytest.approx((1 + float(peer[[0, 2, 3]].max())) / 2)
    alone = score_pairs(clip, paths, CAPTIONS, "preference").summary()
    assert any("every caption has one image" in note for note in alone.notes)


def test_batches_change_nothing(
    clip: Clip, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score_pairs(clip, paths, CAPTIONS, "refclipscore", references=REFERENCES)
    monkeypatch.setattr("ecliptic.tasks.scores.scorer.ROWS", 3)
    parts = score_pairs(clip, paths, CAPTIONS, "refclipscore", references=REFERENCES)
    torch.testing.assert_close(parts.values(), whole.values(), atol=1e-6, rtol=0)
    assert list(parts.spool) == list(whole.spool)


def test_rows_that_cannot_be_used_are_listed_and_the_rest_counts(
    clip: Clip, paths: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    problem = InputError("nothing usable")
    rows = [
        ScoreRow("row 1", (paths[0],), ("a cat",), labels=("0.png",)),
        ScoreRow("row 2", (str(broken),), ("a cat",), labels=("broken.png",)),
        ScoreRow("row 3", (paths[1],), ("\ud800",), labels=("1.png",)),
        ScoreRow("row 4", labels=("row 4",), error=problem),
        ScoreRow("row 5", (paths[1],), ("two dogs",), labels=("1.png",)),
    ]
    done: list[int] = []
    found = score_rows(RowScorer(clip, METRICS["clip-t"]), rows, done.append)
    assert sum(done) == 5
    assert [row["row"] for row in found.rows()] == ["row 1", "row 5"]
    assert [(bad.index, bad.source) for bad in found.rejects] == [
        (1, "row 2 (broken.png)"),
        (2, "row 3 (1.png)"),
        (3, "row 4"),
    ]
    torch.testing.assert_close(
        found.values(), score_pairs(clip, paths[:2], CAPTIONS[:2], "clip-t").values()
    )
    assert found.summary().run.rejected == 3
    assert found.summary().facts()["n"] == "2 rows; 3 rows were rejected"
    none = score_rows(RowScorer(clip, METRICS["clip-t"]), rows[1:4])
    with pytest.raises(InputError, match="none of the items"):
        none.summary()


def test_long_captions_keep_their_end_of_text_and_are_counted(clip: Clip, paths: list[str]) -> None:
    """torchmetrics cuts the end of text off, and every long caption gets the same score."""
    longs = [" ".join([word] * 99) for word in ("cat", "dog", "car")]
    found = score_pairs(clip, paths[:1] * 3, longs, "clip-t")
    assert found.cut == 3
    assert len(set(values_of(found).tolist())) == 3
    [note] = [note for note in found.summary().notes if "too long" in note]
    assert note.startswith("3 rows have a text that is too long: words at the end are dropped (row")
    assert "(row 0 loses 'cat cat" in note
    assert note.endswith("); the end-of-text mark stays.")
    more = score_pairs(clip, paths[:1] * 4, [*longs, longs[0]], "clip-t").summary().notes
    assert any("4 rows" in note and "; ...); the end" in note for note in more)


def test_a_summary_has_an_interval_and_the_worst_and_best_rows(
    clip: Clip, paths: list[str]
) -> None:
    captions = [*CAPTIONS, *reversed(CAPTIONS)]
    sheet = score_pairs(clip, paths * 2, captions, "clip-t")
    found, values = sheet.summary(2), values_of(sheet)
    assert found.interval is not None
    assert astuple(found.interval) == pytest.approx(astuple(scoring.bootstrap(values)))
    assert found.median == pytest.approx(np.median(values.numpy()))
    order = values.argsort().tolist()
    assert [one.row["caption"] for one in found.worst] == [captions[i] for i in order[:2]]
    assert [one.row["caption"] for one in found.best] == [captions[i] for i in order[:5:-1]]
    data = found.to_json()
    assert data["n"] == 8
    assert data["interval"][0] <= data["mean"] <= data["interval"][1]
    assert data["space"] == clip.card.space
    assert "8 rows are few: the interval is only rough; score 10 rows or more." in found.notes
    assert any("published with ViT-B-32/openai" in note for note in found.notes)
    four = score_pairs(clip, paths, CAPTIONS, "clip-t").summary()
    assert four.interval is None
    assert four.to_json()["interval"] is None
    assert "4 rows are too few for an interval; score 10 rows or more." in four.notes


def test_groups_count_as_one_observation(clip: Clip, paths: list[str]) -> None:
    captions = [*CAPTIONS, *reversed(CAPTIONS)]
    rows = [
        ScoreRow(f"row {i}", (paths[i % 4],), (captions[i % 8],), labels=("x",), group=str(i % 8))
        for i in range(32)
    ]
    found = score_rows(RowScorer(clip, METRICS["clip-t"]), rows).summary()
    assert found.to_json()["units"] == 8
    assert found.facts()["n"] == "32 rows in 8 groups"
    assert "8 groups are few: the interval is only rough; score 10 groups or more." in found.notes
    alone = score_pairs(clip, paths * 2, captions, "clip-t").summary()
    assert found.interval is not None
    assert alone.interval is not None
    assert found.interval.high - found.interval.low == pytest.approx(
        alone.interval.high - alone.interval.low, rel=0.3
    )


def test_two_systems_are_scored_on_the_same_rows(clip: Clip, paths: list[str]) -> None:
    rows = [
        ScoreRow(f"row {i}", (paths[i], paths[3 - i]), (CAPTIONS[i],), labels=("x", "y"))
        for i in range(4)
    ]
    found = score_rows(RowScorer(clip, METRICS["clip-t"], 2), rows)
    first = score_pairs(clip, paths, CAPTIONS, "clip-t").values()
    second = score_pairs(clip, paths[::-1], CAPTIONS, "clip-t").values()
    both = torch.cat([first, second], dim=1)
    torch.testing.assert_close(found.values(), both, atol=1e-6, rtol=0)
    compared = found.comparison()
    gap = float((first - second).mean())
    assert compared.difference.value == pytest.approx(gap, abs=1e-6)
    assert set(next(iter(found.rows()))) == set(found.columns())
    with pytest.raises(ConfigError, match="use `comparison`"):
        found.summary()
    with pytest.raises(ConfigError, match="use `summary`"):
        score_pairs(clip, paths, CAPTIONS).comparison()


def test_stored_vectors_need_no_model(clip: Clip, paths: list[str]) -> None:
    space, exact = clip.card.space, clip.card.exact
    images = Vectors(clip.encode_image(paths).numpy(), tuple(paths), space, exact, "tiny")
    texts = Vectors(clip.encode_text(CAPTIONS).numpy(), tuple(CAPTIONS), space, exact, "tiny")
    found = score_vectors(images, texts)
    torch.testing.assert_close(
        found.values(), score_pairs(clip, paths, CAPTIONS, "clip-t").values()
    )
    assert [row["caption"] for row in found.rows()] == CAPTIONS
    assert found.summary().run.model == "tiny"
    other = Vectors(texts.vectors, None, "other", exact, "other")
    with pytest.raises(SpaceMismatchError, match="two embedding spaces"):
        score_vectors(images, other)
    with pytest.raises(ConfigError, match="needs more than a vector"):
        score_vectors(images, texts, "preference")
    assert next(score_vectors(images.vectors, texts.vectors).rows())["row"] == "row 0"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"metric": "clipscor"}, ConfigError, "did you mean 'clipscore'"),
        ({"metric": "directional"}, ConfigError, "needs image, edited, caption, edited_caption"),
        ({"metric": "refclipscore"}, ConfigError, "needs references; pass references"),
        ({"references": REFERENCES}, ConfigError, "has none; leave out references"),
        ({"captions": CAPTIONS[:3]}, ShapeError, "4 images need as many captions"),
    ],
)
def test_inputs_that_do_not_fit_the_score_are_refused(
    clip: Clip, paths: list[str], given: dict[str, Any], error: Any, match: str
) -> None:
    with pytest.raises(error, match=match):
        score_pairs(clip, paths, given.pop("captions", CAPTIONS), **given)


def test_a_prefix_or_words_without_effect_are_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="reads no captions, so it has no prefix"):
        RowScorer(clip, find_metric("iqa"), prefix="x")
    with pytest.raises(ConfigError, match="takes no words"):
        RowScorer(clip, find_metric("clip-t"), words=("a", "b"))
