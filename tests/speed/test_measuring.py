"""A report has a row for each kind of work and batch, and a note for what was not measured."""

import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.checkpoints import catalog, write
from ecliptic.engine import load
from ecliptic.errors import ConfigError, UnknownModelError
from ecliptic.model import ClipConfig
from ecliptic.runtime import Runtime
from ecliptic.speed import SpeedSettings, measuring, random_checkpoint, warming
from ecliptic.speed.inputs import JPEGS, list_captions, list_work, write_jpeg
from ecliptic.speed.report import RunSpread, SpeedRow
from tests import tiny
from tests.speed.conftest import Measure

IMAGES = ["images, from pixels", "images, from JPEG files", "JPEG files to pixels alone"]
TEXTS = ["captions", "captions, from token ids", "captions to token ids alone"]


def test_every_kind_of_work_has_its_rows_in_order(measure: Measure) -> None:
    report = measure(batches=(2, 1))
    assert [(row.what, row.batch) for row in report.rows] == [
        (IMAGES[0], 1),
        (IMAGES[0], 2),
        (IMAGES[1], 2),
        (IMAGES[2], 2),
        (TEXTS[0], 1),
        (TEXTS[0], 2),
        (TEXTS[1], 2),
        (TEXTS[2], 256),
    ]
    assert report.notes == ()
    assert report.peer == ""
    for row in report.rows:
        assert row.peer is None
        assert 0 < row.rate.low <= row.rate.median <= row.rate.high
        assert 1 <= row.rate.runs <= 2
    assert report.load.runs == 3
    assert report.seconds > 0


def test_runs_that_differ_much_are_named() -> None:
    def row(what: str, *rates: float) -> SpeedRow:
        return SpeedRow(what, 8, RunSpread.of(rates))

    even, few = row("captions", 9, 10, 11, 12, 17), row("images", 1, 9)
    assert not list(measuring._say_uneven([even, few]))
    uneven = row("captions, from token ids", 4, 10, 11, 12, 9)
    (note,) = measuring._say_uneven([even, few, uneven])
    assert (
        "more than 2 times as fast as the slowest one: captions, from token ids, batch 8." in note
    )


def test_weights_of_reduced_layers_count_one_byte_each(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model")
    clip = load(tmp_path / "model", precision="int8", min_cosine=0.9)
    reduced = clip.card.quantisation
    assert reduced
    single = sum(clip.model.get_submodule(name).weight.numel() for name in reduced.linears)  # type: ignore[union-attr, operator]
    assert single
    whole = measuring._count_bytes(load(tmp_path / "model"))
    assert measuring._count_bytes(clip) == whole - 3 * single


def test_the_report_describes_model_machine_and_choices(measure: Measure) -> None:
    report = measure()
    assert report.model.name == "tiny-vit"
    assert report.model.weight_bytes == 4 * report.model.parameters
    assert (report.model.precision, report.model.device) == ("fp32", "cpu")
    assert (report.model.image_size, report.model.context) == (32, 16)
    assert report.model.preprocess == "reference"
    assert report.machine.threads == torch.get_num_threads()
    assert "precision" in [choice.what for choice in report.choices]
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["batch"] == 1


def test_the_choices_are_those_after_the_first_calls(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that chooses its kernels at the first call says so only after it."""
    events: list[str] = []
    image, describe = Runtime.image, Runtime.describe
    monkeypatch.setattr(Runtime, "image", lambda *a: (events.append("image"), image(*a))[1])
    monkeypatch.setattr(Runtime, "describe", lambda *a: (events.append("told"), describe(*a))[1])
    measure()
    assert events.index("told") > events.index("image")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_known_before_after_and_at_the_peak(measure: Measure) -> None:
    (use,) = measure().memory
    assert use.where == "process"
    assert 0 < use.before <= use.peak
    assert 0 < use.loaded <= use.peak


@pytest.mark.parametrize(
    ("kind", "whats", "note"),
    [("text", TEXTS, "images were not measured"), ("image", IMAGES, "captions were not measured")],
)
def test_a_side_that_is_missing_is_a_note(
    measure: Measure, kind: str, whats: list[str], note: str
) -> None:
    report = measure(kind)
    assert list(dict.fromkeys(row.what for row in report.rows)) == whats
    assert [note in one for one in report.notes] == [True]


def test_a_batch_that_takes_too_long_is_left_out_by_name(measure: Measure) -> None:
    report = measure(batches=(1, 16), seconds=1e-9)
    assert {row.batch for row in report.rows} <= {1, 16, 256}
    assert ("images, from pixels", 16) not in {(row.what, row.batch) for row in report.rows}
    assert {row.batch for row in report.rows if row.what == IMAGES[1]} == {1}  # one that was done
    (note,) = [one for one in report.notes if one.startswith(IMAGES[0])]
    assert "in batches of 16, were not measured: one call takes about" in note
    assert "pass seconds=1 to measure them" in note


@pytest.mark.parametrize("compiled", [True, False])
def test_a_compilation_is_no_call(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow first call is the time of a row only if nothing was compiled in it."""
    monkeypatch.setattr(warming, "_SLOW", 0.05)
    calls: list[int] = []

    def call(_: object) -> None:
        time.sleep(0 if calls else 0.2)
        calls.append(1)

    notes: list[str] = []
    clip = load("mini", device="cpu")
    work = [one for one in list_work(clip, (1, 2))[0] if one.kind == "captions"]
    settings = SpeedSettings((1, 2), seconds=0.1, peer="none")
    waited = partial(warming.warm_up, work, {"captions": call}, lambda: None, settings, notes)
    warm = waited(compiled=compiled)
    assert (warm[0].seconds < 0.1) == compiled
    assert [one.work.batch for one in warm] == ([1, 2] if compiled else [1])
    assert len(calls) == (4 if compiled else 1)
    assert bool(notes) != compiled


def test_rows_for_which_no_time_is_left_are_left_out(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest batch of each kind is measured in any case."""

    def slow(*given: Any, **how: Any) -> list[warming.Warm]:
        return [replace(one, seconds=100.0) for one in warming.warm_up(*given, **how)]

    monkeypatch.setattr(measuring, "warm_up", slow)
    report = measure(seconds=5.0)
    assert {
        (row.what, row.batch) for row in report.rows if row.what in ("captions", IMAGES[0])
    } == {
        (IMAGES[0], 1),
        ("captions", 1),
    }
    assert len(report.notes) == 2
    assert all("in batches of 2, were not measured: one call takes" in n for n in report.notes)


def test_a_batch_for_which_memory_runs_out_is_left_out_by_name(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Runtime.image

    def run(self: Runtime, pixels: Any) -> Any:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return image(self, pixels)

    monkeypatch.setattr(Runtime, "image", run)
    report = measure()
    assert "images, from pixels, in batches of 2, were not measured: memory ran out." in (
        report.notes
    )
    assert {row.batch for row in report.rows if row.what.startswith("images")} == {1}


def test_pixels_that_do_not_fit_into_memory_are_an_error_with_a_fix(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*sizes: int, **_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ecliptic.speed.inputs.torch.randn", fail)
    with pytest.raises(ConfigError, match="2 images of 32 pixels do not fit into memory; use sm"):
        measure()


def test_other_errors_of_a_tower_are_not_hidden(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Runtime, pixels: Any) -> Any:
        raise RuntimeError("a kernel is broken")

    monkeypatch.setattr(Runtime, "image", fail)
    with pytest.raises(RuntimeError, match="a kernel is broken"):
        measure()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batches": ()}, "at least one batch"),
        ({"batches": (0,)}, "a batch must be at least 1, got 0"),
        ({"batches": (1.5,)}, "whole number"),
        ({"batches": (5000,)}, "at most 4,096, got 5,000"),
        ({"batches": (8, 1, 8)}, "8 stands twice"),
        ({"seconds": 0.0}, "seconds must be a number above 0"),
        ({"seconds": float("nan")}, "seconds must be a number above 0"),
        ({"seconds": float("inf")}, "seconds must be a number above 0"),
        ({"peer": "openclip"}, "peer must be one of open_clip, none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SpeedSettings(**settings)


def test_inputs_of_one_call_are_all_different() -> None:
    lists = list_captions(32)
    assert {len(texts) for texts in lists} == {32}
    assert len({text for texts in lists for text in texts}) == 32 * len(lists)
    words = [len(text.split()) for texts in lists for text in texts]
    assert (min(words), max(words)) == (8, 15)
    assert len({write_jpeg(number) for number in range(3)}) == 3
    assert write_jpeg(1) == write_jpeg(1)


def test_files_are_at_most_so_many() -> None:
    with_batches = list_work(load("mini", device="cpu"), (JPEGS + 1, 1))[0]
    assert {work.batch for work in with_batches if work.kind in ("jpegs", "prepare")} == {JPEGS}
    assert [work.batch for work in with_batches if work.kind == "pixels"] == [1, JPEGS + 1]


def test_random_weights_are_a_model_of_that_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(tiny.CONFIGS["vit"])
    known: dict[str, ClipConfig] = {"ViT-B-32": config}
    monkeypatch.setattr(catalog, "architecture", lambda name: known[name])
    with random_checkpoint("ViT-B-32") as path:
        card = load(path, device="cpu").card
        assert card.name == "ViT-B-32 with random weights"
        assert card.config == config
    assert not path.exists()


def test_random_weights_of_an_unknown_architecture_are_refused() -> None:
    with pytest.raises(UnknownModelError, match="ViT-B-32"), random_checkpoint("ViT-B-33"):
        pass
