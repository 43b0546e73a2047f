"""`verify_cache` holds the index against the files; a repair touches the named settings only."""

import os
from pathlib import Path

import pytest

from ecliptic.diffusion.cache import shards
from ecliptic.diffusion.cache.keys import cache_identity
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.diffusion.cache.write import Caption, write_cache
from ecliptic.errors import StorageError
from tests.diffusion.cache.counted import IDENTITY, PROMPTS, Counted, fill, first_shard


def test_a_removed_shard_is_missed_until_its_prompts_are_written_again(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    lost = len(shards.read_shard(victim).entries)
    victim.unlink()
    with ConditionCache(tmp_path) as cache:  # a reader makes nothing forgotten
        with pytest.raises(StorageError, match="cannot be read: it is gone"):
            cache.load("0.png")
        assert len(list(cache.items())) == 9 - lost
    for _ in range(2):
        found = verify_cache(tmp_path)
        assert [(f.kind, f.shard, f.prompts) for f in found] == [("missing", victim.name, lost)]
        assert f"held {lost} prompts and {lost} ids" in found.items[0].detail
    assert fill(tmp_path).written == lost
    assert verify_cache(tmp_path).ok


def test_a_repair_forgets_a_removed_shard(tmp_path: Path) -> None:
    fill(tmp_path)
    first_shard(tmp_path).unlink()
    assert not verify_cache(tmp_path, repair=True).ok
    assert verify_cache(tmp_path).ok


def test_a_shard_that_comes_back_is_no_longer_missed(tmp_path: Path) -> None:
    fill(tmp_path)
    victim, aside = first_shard(tmp_path), tmp_path / "aside"
    victim.rename(aside)
    assert not verify_cache(tmp_path).ok
    write_cache(Counted(), [Caption("new", "a new one")], tmp_path)
    assert not victim.exists()  # its number is not given to another
    aside.rename(victim)
    assert verify_cache(tmp_path).ok
    assert len(ConditionCache(tmp_path)) == 10


def test_a_lost_id_is_missed_too(tmp_path: Path) -> None:
    write_cache(Counted(), [Caption("1.png", "a cat")], tmp_path)
    write_cache(Counted(), [Caption("2.png", "a cat")], tmp_path)
    max(tmp_path.glob("cond-*")).unlink()
    assert "held 0 prompts and 1 ids" in verify_cache(tmp_path).items[0].detail


def test_a_torn_shard_is_named_as_such_with_its_prompts(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    lost, data = len(shards.read_shard(victim).entries), victim.read_bytes()
    for kept, kind in (
        (0, "torn"),
        (4, "damaged"),
        (len(data) // 2, "torn"),
        (len(data) - 1, "torn"),
    ):
        victim.write_bytes(data[:kept])
        found = verify_cache(tmp_path)
        assert [(f.kind, f.shard, f.prompts) for f in found] == [(kind, victim.name, lost)]
    assert "is truncated" in found.items[0].detail
    victim.write_bytes(data)
    assert verify_cache(tmp_path).ok


def test_a_swapped_shard_of_another_size_lacks_what_it_held(tmp_path: Path) -> None:
    fill(tmp_path)
    first, *_, last = sorted(tmp_path.glob("cond-*"))
    kept, lost = shards.read_shard(last), shards.read_shard(first)
    first.write_bytes(last.read_bytes())
    found = verify_cache(tmp_path)
    assert len(kept.entries) != len(lost.entries)
    assert [f.kind for f in found] == ["size", "missing"]
    assert found.items[1].prompts == len(lost.entries)
    verify_cache(tmp_path, repair=True)
    assert verify_cache(tmp_path).ok


def test_copied_files_and_those_of_a_new_index_are_no_finding(tmp_path: Path) -> None:
    fill(tmp_path)
    assert verify_cache(tmp_path).added == ()
    for path in tmp_path.glob("cond-*"):
        os.utime(path, (1, 1))
    found = verify_cache(tmp_path)
    assert (found.ok, found.added) == (True, ())
    shards.publish(tmp_path, shards.Shard(cache_identity(Counted())), 77)
    found = verify_cache(tmp_path)
    assert (found.ok, found.added) == (True, ("cond-00077.safetensors",))
    for path in tmp_path.glob("index-*"):
        path.unlink()
    found = verify_cache(tmp_path)
    assert (found.ok, len(found.added)) == (True, found.shards)


@pytest.mark.parametrize("harm", ["removed", "torn", "one tensor"])
def test_a_repair_leaves_what_other_settings_made(tmp_path: Path, harm: str) -> None:
    other = Counted({**IDENTITY, "clip_skip": 2})
    fill(tmp_path, other)
    victim = first_shard(tmp_path)
    fill(tmp_path)
    data = victim.read_bytes()
    kept = {"removed": b"", "torn": data[:99], "one tensor": data[:-1] + bytes([data[-1] ^ 1])}
    victim.write_bytes(kept[harm])
    if harm == "removed":
        victim.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("cond-*")}
    for _ in range(2):
        found = verify_cache(tmp_path, Counted(), repair=True)
        assert (found.ok, found.entries, found.others) == (True, 9, 9)
        assert {path.name: path.read_bytes() for path in tmp_path.glob("cond-*")} == before
        assert not verify_cache(tmp_path).ok
    verify_cache(tmp_path, other, repair=True)
    assert verify_cache(tmp_path).ok
    for number, prompt in enumerate(PROMPTS):
        found_one = ConditionCache(tmp_path).load(f"{number}.png", cache_identity(Counted()))
        assert found_one.pooled is not None
        assert found_one.pooled.equal(Counted().each([prompt])[0].pooled)  # type: ignore[arg-type]
