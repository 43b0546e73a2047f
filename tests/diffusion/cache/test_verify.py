"""`verify_cache` finds torn, wrong and stale entries, and removes them if asked."""

import os
import sqlite3
from pathlib import Path

import pytest
import torch

from ecliptic.diffusion.cache import shards
from ecliptic.diffusion.cache.keys import cache_identity, condition_key
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.rows import sum_row
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.errors import ConfigError, CorruptFileError
from tests.diffusion.cache.counted import IDENTITY, PROMPTS, Counted, fill, first_shard, same


def test_a4_a_truncated_shard_is_found_and_its_prompts_computed_again(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    lost = len(shards.read_shard(victim).entries)
    data = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(data[: len(data) // 2])
    found = verify_cache(tmp_path)
    assert [(f.kind, f.shard) for f in found] == [("torn", victim.name)]
    report = fill(tmp_path)
    assert (report.written, report.reused, report.torn) == (lost, 9 - lost, (0,))
    assert not verify_cache(tmp_path, repair=True).ok
    assert not victim.exists()
    assert verify_cache(tmp_path).ok
    for number, made in enumerate(Counted().each(PROMPTS)):
        same(ConditionCache(tmp_path), PROMPTS[number], made)


def damage(path: Path, at: int) -> None:
    """Flip a bit in place, but keep the size and the time."""
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a5_a_changed_bit_is_never_handed_out_and_repaired(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    damage(victim, -3)  # in the last tensor
    cache = ConditionCache(tmp_path)
    found = verify_cache(tmp_path)
    assert [f.kind for f in found] == ["checksum"]
    with pytest.raises(CorruptFileError, match="captions repair"):
        cache.get(found.items[0].key)
    verify_cache(tmp_path, repair=True)
    assert verify_cache(tmp_path).ok
    assert fill(tmp_path).written == 1
    for number, made in enumerate(Counted().each(PROMPTS)):
        same(ConditionCache(tmp_path), f"{number}.png", made)


def test_a_changed_bit_in_the_metadata_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    damage(victim, victim.read_bytes().index(b"an image of"))
    assert [f.kind for f in verify_cache(tmp_path)] == ["damaged"]


def broken_shards() -> dict[str, shards.Shard]:
    """Shards by their expected finding; checksums match, so only the content is wrong."""
    identity = cache_identity(Counted())
    key = condition_key(identity, "p")
    good = {"tokens": torch.ones(1, 3, 4), "pooled": torch.ones(1, 4)}

    def shard(parts: dict[str, torch.Tensor], key: str = key) -> shards.Shard:
        entry = shards.make_entry(key, "p", parts)
        return shards.Shard(identity, {key: entry}, {}, dict(shards.name_tensors(key, parts)))

    nan = {**good, "tokens": torch.full((1, 3, 4), torch.nan)}
    return {
        "missing": shard({}),
        "not finite": shard(nan),
        "shape": shard({**good, "mask": torch.ones(1, 5, dtype=torch.bool)}),
        "key": shard(good, key="ab" * 32),
    }


@pytest.mark.parametrize("kind", ["missing", "not finite", "shape", "key"])
def test_entries_that_no_conditioner_gives_are_found(tmp_path: Path, kind: str) -> None:
    shards.publish(tmp_path, broken_shards()[kind], 0)
    assert [f.kind for f in verify_cache(tmp_path)] == [kind]
    verify_cache(tmp_path, repair=True)
    assert verify_cache(tmp_path).ok
    assert len(ConditionCache(tmp_path)) == 0


def test_stale_entries_are_those_of_another_identity(tmp_path: Path) -> None:
    fill(tmp_path)
    other = Counted({**IDENTITY, "clip_skip": 2})
    assert verify_cache(tmp_path, Counted()).ok
    found = verify_cache(tmp_path, other)
    assert [(f.kind, f.shard) for f in found] == [("stale", "")]
    assert "9 of other settings (clip_skip) are kept" in found.items[0].detail
    fill(tmp_path, other)
    found = verify_cache(tmp_path, other, repair=True)
    assert (found.ok, found.entries, found.others, found.removed) == (True, 9, 9, 0)
    assert len(ConditionCache(tmp_path)) == 18
    found = verify_cache(tmp_path, other, repair=True, remove_others=True)
    assert (found.ok, found.others, found.removed) == (True, 9, 9)
    assert len(ConditionCache(tmp_path)) == 9
    assert verify_cache(tmp_path, other).ok
    assert verify_cache(tmp_path).ok
    with pytest.raises(ConfigError, match="needs the settings to keep and a repair"):
        verify_cache(tmp_path, repair=True, remove_others=True)
    with pytest.raises(ConfigError, match="needs the settings to keep and a repair"):
        verify_cache(tmp_path, other, remove_others=True)


def test_rows_of_the_index_that_point_at_nothing_are_found(tmp_path: Path) -> None:
    fill(tmp_path)
    (path,) = tmp_path.glob("index-*.sqlite")
    with sqlite3.connect(path) as index:
        row = (b"\1" * 32, 0)
        index.execute("INSERT INTO entries VALUES (?, ?, ?)", (*row, sum_row("entries", row)))
    index.close()
    assert [f.kind for f in verify_cache(tmp_path)] == ["index"]
    verify_cache(tmp_path, repair=True)
    assert verify_cache(tmp_path).ok
