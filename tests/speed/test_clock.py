"""Times are taken when the device has done its work; contenders take turns.

No GPU is needed: a stand-in for `torch.cuda` notes what it is asked.
"""

import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ecliptic.speed import clock, machine
from ecliptic.speed.memory import MemoryUse
from tests.speed.conftest import Measure

CUDA = torch.device("cuda:1")


class StandIn:
    """Counts as `torch.cuda` does: peaks since the last reset, devices by their number."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.device: Any = None

    def synchronize(self, device: torch.device) -> None:
        self.device = device
        self.events.append("wait")

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.events.append("reset")

    def memory_allocated(self, device: torch.device) -> int:
        return 100 if "reset" not in self.events else 700

    def max_memory_allocated(self, device: torch.device) -> int:
        return 900

    def get_device_name(self, device: torch.device) -> str:
        return "NVIDIA H200"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    found = StandIn()
    monkeypatch.setattr(torch, "get_device_module", lambda device: found)
    return found


def test_every_time_starts_and_ends_when_the_device_is_done(cuda: StandIn) -> None:
    wait = clock.find_wait(CUDA)
    clock.time_calls(lambda number: cuda.events.append(f"call {number}"), 3, 2, wait)
    assert cuda.events == ["wait", "call 3", "call 4", "wait"]
    assert cuda.device == CUDA


def test_work_that_runs_on_after_its_call_is_counted() -> None:
    """As on CUDA: the call returns at once, and the wait takes as long as the work."""
    waiting: list[float] = []

    def wait() -> None:
        while waiting:
            time.sleep(waiting.pop())

    assert clock.time_calls(lambda number: waiting.append(0.05), 0, 1, wait) >= 0.05


def test_metal_takes_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(synchronize=lambda: "waited")
    monkeypatch.setattr(torch, "get_device_module", lambda device: stand_in)
    assert clock.find_wait(torch.device("mps"))() == "waited"  # type: ignore[func-returns-value]


def test_memory_of_a_device_is_its_own_peak(cuda: StandIn, measure: Measure) -> None:
    uses = {use.where: use for use in measure().memory}
    assert uses["device"] == MemoryUse("device", before=100, loaded=700, peak=900)
    assert cuda.events[0] == "reset"
    assert cuda.events.count("wait") > 2


def test_an_accelerator_is_named_with_its_platform(
    cuda: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert machine._name_accelerator(CUDA) == "NVIDIA H200, CUDA 13.0"


def test_contenders_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MOST_RUNS", 3)
    order: list[str] = []
    calls = {name: lambda number, name=name: order.append(name) for name in "ab"}
    runs = clock.measure_in_turns(calls, lambda: None, 10.0)
    assert {name: len(took) for name, took in runs.items()} == {"a": 3, "b": 3}
    rounds = [name for name, _ in itertools.groupby(order)]
    assert rounds == ["a", "b"] * 4  # the first one finds how often a short call is repeated


def test_a_long_call_is_measured_once_beyond_the_budget() -> None:
    numbers: list[int] = []

    def call(number: int) -> None:
        numbers.append(number)
        time.sleep(0.002)

    assert len(clock.measure_in_turns({"a": call}, lambda: None, 1e-6)["a"]) == 1
    assert numbers == [0]


def test_short_calls_are_repeated_with_other_inputs() -> None:
    numbers: list[int] = []
    clock.measure_in_turns({"a": numbers.append}, lambda: None, 10.0)
    assert len(numbers) > 3
    assert numbers[1:] == list(range(len(numbers) - 1))
