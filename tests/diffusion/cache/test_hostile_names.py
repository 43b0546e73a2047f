"""Names in a cache folder that no writer of ours gives: last numbers, links to nowhere."""

from pathlib import Path

import pytest

from ecliptic.diffusion.cache import shards
from ecliptic.diffusion.cache.keys import cache_identity
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.diffusion.cache.write import Caption, write_cache
from ecliptic.errors import ConfigError, StorageError
from tests.diffusion.cache.counted import PROMPTS, Counted, fill, same


def test_the_last_number_is_named_and_what_is_stored_can_be_read(tmp_path: Path) -> None:
    fill(tmp_path)
    last = shards.shard_path(tmp_path, shards.LAST)
    last.write_bytes(b"x")
    with pytest.raises(StorageError, match=r"takes no more shards.*999999999\.safetensors"):
        write_cache(Counted(), [Caption("new", "a new one")], tmp_path)
    assert not list(tmp_path.glob("*1000000000*"))
    assert ("number", last.name) in {(one.kind, one.shard) for one in verify_cache(tmp_path)}
    with ConditionCache(tmp_path) as cache:
        same(cache, "8.png", Counted().each(PROMPTS[8:])[0])
    verify_cache(tmp_path, repair=True)  # removes what is no shard
    assert verify_cache(tmp_path).ok
    assert write_cache(Counted(), [Caption("new", "a new one")], tmp_path).written == 1


def test_the_number_before_the_last_can_be_used(tmp_path: Path) -> None:
    shard = shards.Shard(cache_identity(Counted()))
    assert shards.publish(tmp_path, shard, shards.LAST) == shards.LAST
    with pytest.raises(StorageError, match="give that file a lower number"):
        shards.publish(tmp_path, shard, shards.LAST)


def test_a_number_after_the_last_is_named_and_left(tmp_path: Path) -> None:
    fill(tmp_path)
    beyond = tmp_path / "cond-1000000000.safetensors"
    beyond.write_bytes(b"x")
    assert [(one.kind, one.shard) for one in verify_cache(tmp_path, repair=True)] == [
        ("number", beyond.name)
    ]
    assert beyond.exists()
    assert fill(tmp_path).written == 0


@pytest.mark.parametrize("target", ["cond-00077.safetensors", "nowhere"])
def test_a_link_to_itself_or_nowhere_is_one_bad_shard(tmp_path: Path, target: str) -> None:
    fill(tmp_path)
    victim = shards.shard_path(tmp_path, 77)
    victim.symlink_to(target)
    with ConditionCache(tmp_path) as cache:
        assert len(list(cache.items())) == len(PROMPTS)
        cache.refresh()
    assert fill(tmp_path).written == 0
    found = [(one.kind, one.shard) for one in verify_cache(tmp_path, repair=True)]
    assert found == [("damaged", victim.name)]
    assert not victim.is_symlink()
    assert verify_cache(tmp_path).ok


def test_settings_that_readers_would_refuse_are_refused_before_the_work(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(shards.DEEPEST):
        deep = [deep]
    source = Counted({**Counted().told, "more": deep})
    with pytest.raises(ConfigError, match="nested more than 32 deep"):
        fill(tmp_path, source)
    assert not source.asked
