"""open_clip gets the same weights and inputs, or there is no ratio and a sentence says why."""

import importlib.util
from typing import Any

import pytest
import torch

from ecliptic.speed import peer as peers_of_speed
from tests import peers
from tests.speed.conftest import Measure

COMPARED = {
    "images, from pixels",
    "images, from JPEG files",
    "captions",
    "captions, from token ids",
}


def test_rows_with_vectors_stand_beside_open_clip(measure: Measure) -> None:
    library = peers.open_clip()
    report = measure("vit", peer="open_clip")
    assert report.peer == f"open_clip {library.__version__}"
    assert report.notes == ()
    assert {row.what for row in report.rows if row.peer} == COMPARED
    for row in report.rows:
        if row.peer:
            assert row.peer.cosine == pytest.approx(1, abs=1e-5)
            assert row.peer.ratio == pytest.approx(row.rate.median / row.peer.rate.median)
            assert row.peer.rate.runs == row.rate.runs


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_half_precision_is_compared_in_the_same(
    measure: Measure, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    asked: list[Any] = []
    library = peers.open_clip()
    make = library.create_model_and_transforms

    def note(*given: Any, **more: Any) -> Any:
        asked.append(more["precision"])
        return make(*given, **more)

    monkeypatch.setattr(library, "create_model_and_transforms", note)
    report = measure("vit", precision=precision, peer="open_clip")
    assert asked == [precision]
    assert {row.what for row in report.rows if row.peer} == COMPARED


def test_other_tokens_are_not_compared(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    library = peers.open_clip()

    def other(name: str) -> Any:
        return lambda texts: torch.full((len(texts), 16), 49407)

    monkeypatch.setattr(library, "get_tokenizer", other)
    report = measure("vit", peer="open_clip")
    assert {row.what for row in report.rows if row.peer} == COMPARED - {"captions"}
    assert [note for note in report.notes if "other token ids" in note] == list(report.notes)


def test_other_vectors_are_not_compared(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    library = peers.open_clip()
    make = library.create_model_and_transforms

    def damage(*given: Any, **more: Any) -> Any:
        model, *others = make(*given, **more)
        torch.nn.init.normal_(model.visual.proj)
        return model, *others

    monkeypatch.setattr(library, "create_model_and_transforms", damage)
    report = measure("vit", peer="open_clip")
    assert {row.what for row in report.rows if row.peer} == {
        "captions",
        "captions, from token ids",
    }
    assert "images, from pixels, in batches of 1, were not compared" in report.notes[0]
    assert "are other ones, with cosines down to" in report.notes[0]


def test_a_peer_that_fails_costs_only_its_column(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = peers.open_clip()
    make = library.create_model_and_transforms

    def damage(*given: Any, **more: Any) -> Any:
        model, *others = make(*given, **more)
        model.visual.conv1 = torch.nn.Identity()
        return model, *others

    monkeypatch.setattr(library, "create_model_and_transforms", damage)
    report = measure("vit", peer="open_clip")
    assert any(f"{report.peer} failed: " in note for note in report.notes)
    assert len(report.rows) == 8


def test_a_model_that_open_clip_does_not_have_says_why(measure: Measure) -> None:
    peers.open_clip()
    report = measure("basic", peer="open_clip")
    (note,) = report.notes
    assert note.startswith("open_clip was not measured: ")
    assert report.peer == ""
    assert not any(row.peer for row in report.rows)


def test_without_open_clip_a_sentence_says_so(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers_of_speed, "find_spec", lambda name: None)
    (note,) = measure(peer="open_clip").notes
    assert note == (
        "open_clip was not measured: open_clip is not installed; `pip install open_clip_torch` to "
        "measure it too."
    )


def test_an_open_clip_that_does_not_import_says_why(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(peers_of_speed, "find_spec", lambda name: importlib.util.find_spec("os"))
    monkeypatch.setattr(peers_of_speed, "import_module", fail)
    (note,) = measure(peer="open_clip").notes
    assert "cannot be imported: operator torchvision::nms does not exist" in note


def test_too_little_memory_for_a_second_copy_says_so(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.open_clip()
    monkeypatch.setattr(peers_of_speed, "available", lambda: 1000)
    (note,) = measure(peer="open_clip").notes
    assert "a second copy of the model needs" in note
