"""Kernels are measured once on a machine, remembered, and described with their times."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.engine import load
from ecliptic.model import Block
from ecliptic.runtime import Runtime, processor
from ecliptic.runtime.kernels import choosing, machine, tower
from ecliptic.runtime.kernels.choosing import (
    ALL,
    KernelChoice,
    choose,
    range_of,
    recall,
    rows_measured,
)
from ecliptic.runtime.kernels.memory import Measurements
from ecliptic.runtime.kernels.operators import can_pack
from tests import tiny
from tests.engine.models import save
from tests.runtime.kernels.forced import force

PIXELS = torch.ones(2, 3, 32, 32)
needs_packing = pytest.mark.skipif(
    not can_pack(torch.float32), reason="this PyTorch has no packed linear layers"
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "is_busy", lambda: False)


def block() -> Any:
    return tiny.model(tiny.checkpoint("vit")).image_tower.blocks[0]  # type: ignore[union-attr, index]


@needs_packing
def test_the_candidates_are_measured_and_the_quickest_is_taken(tmp_path: Path) -> None:
    found = choose(block(), 128, Measurements(tmp_path / "kernels.json"))
    assert found.rows == 128
    assert set(found.seconds) == {"plain", "packed"}
    assert all(0 < seconds < 60 for seconds in found.seconds.values())
    gain = found.seconds["plain"] / found.seconds["packed"]
    assert found.chosen == ("packed" if gain > 1.05 else "plain")
    assert found.measured == 128


@needs_packing
def test_what_was_measured_is_remembered_by_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cache" / "kernels.json"
    first = choose(block(), 128, Measurements(path))
    (key,) = json.loads(path.read_text())
    assert key.startswith(processor())
    assert torch.__version__.partition("+")[0] in key

    def refuse(*given: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(choosing, "_measure", refuse)
    assert choose(block(), 128, Measurements(path)) == first
    assert recall(block(), 128, Measurements(path)) == first
    assert recall(block(), 0, Measurements(path)) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert recall(block(), 128, Measurements(path)) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"a": 3}', b'{"a": {"plain": -1.0}}', b'{"a": {"plain": NaN}}', b"\xff"],
)
def test_a_damaged_memory_is_measured_anew(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    path.write_bytes(content)
    memory = Measurements(path)
    assert memory.get("a") is None
    memory.put("b", {"plain": 0.5})
    assert json.loads(path.read_text()) == {"b": {"plain": 0.5}}


def test_measurements_of_others_are_kept_and_the_oldest_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    first, second = Measurements(path), Measurements(path)
    first.put("a", {"plain": 0.5})
    second.put("b", {"plain": 0.25})
    assert first.get("b") == {"plain": 0.25}
    path.write_text(json.dumps({str(n): {"plain": 1.0} for n in range(1000)}))
    first.put("c", {"plain": 2.0})
    rows = json.loads(path.read_text())
    assert len(rows) == 1000
    assert "0" not in rows
    assert "c" in rows


def test_what_a_busy_machine_measures_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "is_busy", machine.is_busy)
    path = tmp_path / "kernels.json"
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    first = choose(block(), 16, memory := Measurements(path))
    assert not path.exists()
    assert recall(block(), 16, memory) == first
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    choose(block(), 16, Measurements(path))
    assert path.exists() or not can_pack(torch.float32)


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_load_that_is_not_known_is_no_load(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Any:
        raise error

    monkeypatch.setattr("os.getloadavg", refuse)
    assert not machine.is_busy()


def test_without_a_place_to_write_the_process_remembers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    memory = Measurements(tmp_path / "file" / "kernels.json")
    memory.put("a", {"plain": 0.5})
    assert memory.get("a") == {"plain": 0.5}


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ecliptic.storage import cache_folder

    monkeypatch.setenv("ECLIPTIC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ECLIPTIC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "ecliptic"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "h"))
    assert cache_folder() == tmp_path / "h" / ".cache" / "ecliptic"


@needs_packing
def test_a_choice_is_made_for_each_range_of_rows_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = force(monkeypatch, "packed")
    runtime = Runtime(tiny.model(tiny.checkpoint("vit")), kernels="auto")
    assert runtime.describe()[-2].chosen == "measured when it is used"
    assert not asked
    runtime.image(PIXELS)  # 34 tokens
    runtime.image(PIXELS)
    assert asked == [("plain", "packed")]
    assert runtime.describe()[-2].chosen == (
        "packed up to 128 rows (of 128: plain 1000 ms, packed 1 ms); measured when it is used"
    )
    choices = runtime.choose()
    assert len(asked) == 6  # three ranges of two towers
    assert "packed above 128 rows" in choices[-1].chosen
    assert "weights in oneDNN's order" in choices[-1].why


@needs_packing
def test_nothing_is_measured_or_packed_for_a_few_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = force(monkeypatch, "packed")
    monkeypatch.setattr(tower, "_PATIENCE", 100)
    runtime = Runtime(tiny.model(tiny.checkpoint("vit")), kernels="auto")
    for _ in range(2):
        runtime.image(PIXELS)  # 34 tokens
    assert not asked
    assert not runtime._image._packed
    runtime.image(PIXELS)
    assert len(asked) == 1
    assert runtime._image._packed
    assert not runtime._text._packed


def test_half_precision_is_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = force(monkeypatch, "widened")
    monkeypatch.setattr(tower, "_PATIENCE", 100)
    model = tiny.model(tiny.checkpoint("vit")).bfloat16()
    Runtime(model, kernels="auto").image(PIXELS)
    assert asked
    assert {"plain", "widened"} <= set(asked[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_without_the_private_operators_everything_works(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.runtime.kernels.packed.can_pack", lambda dtype: False)
    asked = force(monkeypatch, "packed")
    model = tiny.model(tiny.checkpoint("vit")).to(dtype)
    runtime = Runtime(model, kernels="auto")
    with torch.no_grad():
        wanted = Runtime(model).image(PIXELS.to(dtype))
    torch.testing.assert_close(runtime.image(PIXELS.to(dtype)), wanted)
    assert asked == ([("plain", "widened")] if dtype == torch.bfloat16 else [])
    if dtype != torch.bfloat16:
        assert runtime.describe()[-1].chosen == "plain"
        assert "no other kernel fits" in runtime.describe()[-1].why


def test_operators_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    can_pack.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(torch.float32)
    can_pack.cache_clear()
    monkeypatch.undo()
    assert not can_pack(torch.float64)
    can_pack.cache_clear()


def test_a_gain_within_the_noise_is_no_reason_to_change(tmp_path: Path) -> None:
    memory = Measurements(tmp_path / "kernels.json")
    for plain, chosen in ((1.04, "plain"), (1.06, "packed")):
        found = choosing._decide(block(), 16, {"plain": plain, "packed": 1.0})
        assert found == KernelChoice(16, chosen, {"plain": plain, "packed": 1.0}, 16)
    assert memory.get("nothing") is None


@pytest.mark.parametrize(("rows", "limit"), [(1, 16), (16, 16), (17, 128), (129, 0), (10**9, 0)])
def test_rows_fall_in_ranges(rows: int, limit: int) -> None:
    assert range_of(rows, torch.float32) == limit
    assert range_of(rows, torch.bfloat16) == ALL


def test_wide_blocks_are_measured_with_fewer_rows() -> None:
    wide = Block(1664, 16, 8192, "gelu", 1e-5)
    assert [rows_measured(wide, limit) for limit in (16, 128, 0)] == [16, 39, 39]
    assert [rows_measured(block(), limit) for limit in (16, 128, 0, ALL)] == [16, 128, 512, 128]


def test_what_was_chosen_beforehand_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, "packed")
    monkeypatch.setattr(tower, "_PATIENCE", 10**6)
    runtime = Runtime(tiny.model(tiny.checkpoint("vit")), kernels="auto")
    runtime.choose()
    runtime.image(PIXELS[:1])
    assert runtime._image._packed


def test_the_card_tells_what_was_widened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = save(tiny.checkpoint("vit"), tmp_path / "vit")
    force(monkeypatch, "widened")
    wide = load(path, precision="bf16")
    plain = load(path, precision="bf16", kernels="plain")
    assert (wide.card.widened, plain.card.widened) == (("image", "text"), ())
    assert wide.card.space == plain.card.space
    assert wide.card.exact != plain.card.exact
    assert load(path).card.exact == load(path, kernels="plain").card.exact


def test_the_processor_has_a_name_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> Any:
        raise FileNotFoundError(path)

    named = processor()
    for cached in (machine.processor_facts, machine.processor):
        cached.cache_clear()
    monkeypatch.setattr(machine, "open_regular", missing)
    assert processor().endswith(torch.backends.cpu.get_cpu_capability())
    for cached in (machine.processor_facts, machine.processor):
        cached.cache_clear()
    monkeypatch.undo()
    assert processor() == named
