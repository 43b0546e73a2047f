"""Whole runs on several processes: their results, their states, and how they end."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.train import ResumeWarning, resume, train
from ecliptic.train.run_folder import RunFolder
from ecliptic.train.settings import EmaSettings, ProcessSettings, TrainSettings
from tests.train.processes.pairs import run_settings, write_pairs
from tests.train.processes.together import COLLAPSE, run_together, start_together

pytestmark = pytest.mark.filterwarnings(f"ignore:{COLLAPSE}")


def train_part(rank: int, settings: TrainSettings, out: Path, last: int) -> None:
    """Steps up to `last`, where rank 1 alone is asked to stop."""
    steps = iter(range(1, 100))
    run = train(settings, out, stop=lambda: next(steps) == last and rank == 1)
    assert (run.steps, run.stopped) == (min(last, settings.steps), last < settings.steps)
    assert bool(run.history) == (rank == 0), "rank 0 alone reports"


def resume_all(rank: int, out: Path) -> None:
    if rank == 0:
        with pytest.warns(ResumeWarning, match="processes was 1, is 2"):
            resume(out)
    else:
        resume(out)


def last_state(out: Path) -> dict[str, torch.Tensor]:
    state = RunFolder(out, 1).last()
    assert state is not None
    return {n: tensor for n, tensor in state.tensors.items() if not n.startswith("random.")}


def compare_states(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_run_goes_on_with_another_number_of_processes(kind: str, tmp_path: Path) -> None:
    settings = run_settings(write_pairs(tmp_path / "data"), kind, ema=EmaSettings(0.5))
    train(settings, tmp_path / "one")
    run_together(train_part, 2, settings, tmp_path / "two", 3)
    with pytest.warns(ResumeWarning, match="processes was 2, is 1"):
        resume(tmp_path / "two")
    compare_states(last_state(tmp_path / "two"), last_state(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_run_of_one_process_goes_on_with_two(kind: str, tmp_path: Path) -> None:
    settings = run_settings(write_pairs(tmp_path / "data"), kind, ema=EmaSettings(0.5))
    train(settings, tmp_path / "one")
    steps = iter(range(1, 100))
    train(settings, tmp_path / "two", stop=lambda: next(steps) == 3)
    run_together(resume_all, 2, tmp_path / "two")
    compare_states(last_state(tmp_path / "two"), last_state(tmp_path / "one"))


def train_until(rank: int, settings: TrainSettings, out: Path, end: str) -> None:
    """Rank 1 ends after three steps in one of several ways."""
    steps = iter(range(1, 100))

    def stop() -> bool:
        if next(steps) == 3 and rank == 1:
            if end == "raises":
                raise ValueError("no such luck")
            if end == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1000)
        return False

    train(settings, out, stop=stop)


REASONS = {
    "raises": "rank 1 of 2 ended with ValueError",
    "is killed": "rank 1 of 2 has given no sign of life",
    "hangs": "rank 1 of 2 has not got on",
}


@pytest.mark.parametrize(
    "end", ["is killed", *(pytest.param(e, marks=pytest.mark.slow) for e in ("raises", "hangs"))]
)
def test_e7_a_rank_that_ends_or_hangs_is_named(end: str, tmp_path: Path) -> None:
    settings = run_settings(write_pairs(tmp_path / "data"))
    settings = replace(settings, processes=ProcessSettings("ddp", 4.0))
    jobs = start_together(tmp_path, train_until, 2, settings, tmp_path / "run", end)
    for job in jobs:
        job.join(timeout=90)
        assert job.exitcode not in (None, 0), f"rank {jobs.index(job)}: {job.exitcode}"
    told = (tmp_path / "rank-0.err").read_text()
    assert REASONS[end] in told.splitlines()[-1]
    assert "ProcessError" in told
    state = RunFolder(tmp_path / "run", 1).last()
    assert state is not None
    assert state.step == 2
