"""Writers of one folder share the work; a kill loses little of it, and others take it over."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ecliptic.diffusion.cache.index import CacheIndex
from ecliptic.diffusion.cache.keys import cache_identity, condition_key
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.shards import read_shard
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.diffusion.cache.write import CacheReport, Caption, Watch, write_cache
from ecliptic.errors import ConfigError
from tests.diffusion.cache.counted import PROMPTS, Counted, captions, fill, same

SECONDS = 0.4  # of work that a kill may lose here
DELAY = 0.005  # of the slow encoder for each prompt
COUNT = 400
SLOW = f"""
import sys
from pathlib import Path
from tests.diffusion.cache.counted import Counted
from ecliptic.diffusion.cache.write import Caption, write_cache
folder, log = sys.argv[1:]
some = (Caption(f"{{n}}.png", f"thing number {{n}}") for n in range({COUNT}))
write_cache(Counted(delay={DELAY}, log=Path(log)), some, folder, seconds={SECONDS})
"""
SOME = [Caption(f"{n}.png", f"thing number {n}") for n in range(COUNT)]


def start(folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    log.write_bytes(b"")
    command = [sys.executable, "-c", SLOW, str(folder), str(log)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3])


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


def computed(log: Path) -> int:
    return log.stat().st_size


def stored_rows(folder: Path) -> int:
    """The prompts of all shards; those that two writers computed count twice."""
    return sum(len(read_shard(path).entries) for path in folder.glob("cond-*"))


def test_a1_a_kill_loses_the_work_of_a_few_seconds(tmp_path: Path) -> None:
    folder, log = tmp_path / "cache", tmp_path / "log"
    child = start(folder, log)
    wait_for(lambda: computed(log) > COUNT / 2)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    kept = len(ConditionCache(folder))
    assert computed(log) - kept <= 1.5 * SECONDS / DELAY
    assert verify_cache(folder, Counted()).ok
    source = Counted()
    report = write_cache(source, SOME, folder)
    assert (report.reused, report.written) == (kept, COUNT - kept)
    assert len(source.asked) == COUNT - kept
    assert not list(folder.glob("writer-*"))


def test_a1_what_a_killed_writer_had_claimed_the_other_one_computes(tmp_path: Path) -> None:
    folder, logs = tmp_path / "cache", [tmp_path / "log", tmp_path / "log2"]
    first, second = (start(folder, log) for log in logs)
    wait_for(lambda: all(computed(log) > 30 for log in logs))
    wait_for(lambda: len(list(folder.glob("cond-*"))) > 2)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert second.wait(60) == 0
    assert len(ConditionCache(folder)) == COUNT
    # of a shard that the first one had written, and not yet entered into the index
    assert stored_rows(folder) - COUNT <= 1.5 * SECONDS / DELAY
    both = sum(map(computed, logs))
    assert computed(logs[1]) < COUNT
    assert both - COUNT <= 1.5 * SECONDS / DELAY  # the first one's unsaved work
    assert verify_cache(folder, Counted()).ok
    assert write_cache(Counted(), SOME, folder).reused == COUNT


def test_two_writers_compute_each_prompt_once(tmp_path: Path) -> None:
    reports: list[CacheReport] = []

    def run() -> None:
        watch = Watch(reject=lambda *_: None)
        some = captions([f"thing {n}" for n in range(120)] + ["bad one"])
        source = Counted(delay=0.002)
        reports.append(write_cache(source, some, tmp_path, seconds=0.2, watch=watch))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.written for report in reports) == stored_rows(tmp_path) == 120
    assert all(report.written + report.reused == 120 for report in reports)
    assert all(report.written > 0 for report in reports)
    assert [report.rejected for report in reports] == [1, 1]


@pytest.fixture
def held(tmp_path: Path) -> CacheIndex:
    """An index whose writer has claimed three prompts and does nothing."""
    tmp_path.mkdir(exist_ok=True)
    index = CacheIndex(tmp_path)
    identity = cache_identity(Counted())
    claimed = index.claim([condition_key(identity, prompt) for prompt in PROMPTS[:3]], 8)
    assert len(claimed.mine) == 3
    return index


def test_a_writer_waits_for_what_another_one_has_claimed(tmp_path: Path, held: CacheIndex) -> None:
    source = Counted()
    thread = threading.Thread(target=fill, args=(tmp_path, source))
    thread.start()
    wait_for(lambda: len(held) == 6)  # the rest is stored before it waits
    assert len(source.asked) == 6
    held.leave()
    thread.join()
    assert sorted(source.asked) == sorted(PROMPTS)
    assert fill(tmp_path).reused == 9


def test_a_writer_that_does_nothing_for_long_loses_its_claims(
    tmp_path: Path, held: CacheIndex
) -> None:
    assert fill(tmp_path, seconds=0.05).written == 9
    held.leave()
    assert verify_cache(tmp_path).ok


@pytest.mark.parametrize("harm", ["gone", "garbage"])
def test_claims_that_are_lost_with_the_index_cost_nothing(
    tmp_path: Path, held: CacheIndex, harm: str
) -> None:
    [path] = tmp_path.glob("index-*.sqlite")
    path.unlink() if harm == "gone" else path.write_bytes(b"x" * 5000)
    assert fill(tmp_path).written == 9
    held.leave()
    with ConditionCache(tmp_path) as cache:
        same(cache, "0.png", Counted().each(PROMPTS[:1])[0])


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_makes_no_sense_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ConfigError, match="seconds must be a number above 0"):
        fill(tmp_path, seconds=seconds)
