"""The dataset cache in several processes: writers, killed runs, workers of a data loader."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.shards import read_shard
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.diffusion.cache.write import Caption, write_cache
from ecliptic.errors import StorageError
from tests.diffusion.cache.counted import PROMPTS, SMALL, Counted, fill, same


def _pooled(cache: ConditionCache, batch: list[str]) -> Any:
    return cache.load(batch[0]).pooled


def test_a_cache_goes_to_the_workers_of_a_data_loader(tmp_path: Path) -> None:
    fill(tmp_path)
    names: Any = [f"{n}.png" for n in range(9)]
    loader: Any = torch.utils.data.DataLoader(
        names,
        num_workers=1,
        collate_fn=partial(_pooled, ConditionCache(tmp_path)),
        multiprocessing_context="spawn",
    )
    wanted = [made.pooled for made in Counted().each(PROMPTS)]
    for found, expected in zip(loader, wanted, strict=True):
        assert expected is not None
        assert torch.equal(found, expected)


def _write_some(folder: str, first: int) -> None:
    some = [Caption(f"{n}", f"thing {n}") for n in range(first, first + 60)]
    write_cache(Counted(), some, folder, batch_size=4, shard_size=SMALL)


def test_processes_that_write_one_folder_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_some, args=(str(tmp_path), n)) for n in (0, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    cache = ConditionCache(tmp_path)
    assert len(cache) == 90
    assert sum(len(read_shard(path).entries) for path in tmp_path.glob("cond-*")) == 90
    assert verify_cache(tmp_path, Counted()).ok
    for number in (0, 45, 89):
        same(cache, str(number), Counted().each([f"thing {number}"])[0])


KILLED = """
import sys
from tests.diffusion.cache.counted import Counted
from ecliptic.diffusion.cache.write import Caption, write_cache
some = (Caption(f"{n}.png", f"thing number {n}") for n in range(4000))
write_cache(Counted(), some, sys.argv[1], batch_size=8, shard_size=20_000)
"""


def test_a1_kill_9_leaves_whole_shards_and_the_next_run_goes_on(tmp_path: Path) -> None:
    folder, kept, kept_shards = tmp_path / "cache", 0, 0
    root = str(Path(__file__).parents[3])
    for wait in (0.0, 0.04, 0.09):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], cwd=root)
        while len(list(folder.glob("cond-*"))) <= kept_shards:
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert verify_cache(folder, Counted()).ok
        assert len(ConditionCache(folder)) > kept
        kept, kept_shards = len(ConditionCache(folder)), len(list(folder.glob("cond-*")))
    some = [Caption(f"{n}.png", f"thing number {n}") for n in range(4000)]
    source = Counted()
    report = write_cache(source, some, folder)
    assert (report.reused, report.written) == (kept, 4000 - kept)
    assert 0 < kept < 4000
    assert len(source.asked) == 4000 - kept
    assert not list(folder.glob(".cond-*"))


def test_what_a_killed_run_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".cond-00007.safetensors.{'0' * 16}.draft"
    left.write_bytes(b"half")
    mine = tmp_path / ".cond-notes"
    mine.write_bytes(b"not ours")
    fill(tmp_path)
    assert not left.exists()
    assert mine.exists()


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    fill(tmp_path)
    assert verify_cache(tmp_path, Counted()).ok
    assert len(ConditionCache(tmp_path)) == len(PROMPTS)
    assert not list(tmp_path.glob(".cond-*"))


def test_a6_a_full_disk_leaves_no_half_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.fsync, [1]  # shards that fit

    def fsync(handle: int) -> None:
        left[0] -= not os.path.isdir(handle)  # noqa: PTH112 - a handle
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left"):
        fill(tmp_path)
    monkeypatch.undo()
    assert verify_cache(tmp_path, Counted()).ok
    assert 0 < len(ConditionCache(tmp_path)) < len(PROMPTS)
    assert not list(tmp_path.glob(".cond-*"))
    there = len(ConditionCache(tmp_path))
    assert fill(tmp_path).written == len(PROMPTS) - there
