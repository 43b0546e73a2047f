"""A damaged folder never gives another caption's tensors, and is never closed as a whole."""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion.cache import rows, shards
from ecliptic.diffusion.cache.keys import cache_identity, condition_key
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.verify import verify_cache
from ecliptic.diffusion.cache.write import LONGEST, Caption, Watch, write_cache
from ecliptic.errors import CorruptFileError, EclipticError, StorageError
from ecliptic.storage import read_safetensors, write_safetensors
from tests.diffusion.cache.counted import PROMPTS, SMALL, Counted, fill, first_shard, same
from tests.storage.faults import damage_bytes, flip_bytes, kill_writer
from tests.storage.trees import repeat_page
from tests.waiting import at_most

CAPTIONS = [
    Caption("1.png", "a cat"),
    Caption("2.png", "a dog"),
    Caption("a cat", "a masked bird"),  # its id is the prompt of another
    Caption("3.png", "a cat"),
]
EDITED = [Caption("2.png", "a wolf"), Caption("4.png", "a dog")]
NAMES = {
    "1.png": "a cat",
    "2.png": "a wolf",
    "3.png": "a cat",
    "4.png": "a dog",
    "a cat": "a masked bird",
    "a dog": "a dog",
    "a masked bird": "a masked bird",
}
WANTED = {name: Counted().each([prompt])[0] for name, prompt in NAMES.items()}


def filled(folder: Path) -> Path:
    for some in (CAPTIONS, EDITED):
        write_cache(Counted(), some, folder, shard_size=1 << 20)
    check(folder, whole=True)
    return folder


def check(folder: Path, what: str = "", *, whole: bool = False) -> None:
    """Each name gives its own tensors, or an error of ours."""
    try:
        with ConditionCache(folder) as cache:
            for name in NAMES:
                try:
                    found = cache.load(name)
                except EclipticError:
                    assert not whole, (what, name)
                    continue
                assert torch.equal(found.tokens, WANTED[name].tokens), (what, name)  # type: ignore[arg-type]
                assert torch.equal(found.pooled, WANTED[name].pooled), (what, name)  # type: ignore[arg-type]
                assert (found.mask is None) == (WANTED[name].mask is None), (what, name)
    except EclipticError:
        assert not whole, what


def used(data: bytes, seed: int, flips: int, others: int) -> Iterator[tuple[str, bytes]]:
    """Damage where there is data; most of a page of SQLite is empty."""
    places = [place for place in range(0, len(data), 16) if any(data[place : place + 16])]
    packed = b"".join(data[place : place + 16] for place in places)
    for what, changed in flip_bytes(packed, seed, flips):
        whole = bytearray(data)
        for number, place in enumerate(places):
            whole[place : place + 16] = changed[16 * number : 16 * number + 16]
        yield what, bytes(whole[: len(data)])
    yield from damage_bytes(data, seed, others)


@pytest.mark.parametrize("pattern", ["index-*.sqlite", "cond-00000.*", "cond-00001.*"])
def test_a4_a5_a_changed_byte_gives_the_same_tensors_or_an_error(
    tmp_path: Path, pattern: str
) -> None:
    whole = filled(tmp_path / "whole")
    (victim,) = whole.glob(pattern)
    state, data = victim.stat(), victim.read_bytes()
    for number, (what, changed) in enumerate(used(data, 3, 60, 20)):
        folder = tmp_path / f"{number}"
        shutil.copytree(whole, folder)
        (folder / victim.name).write_bytes(changed)
        if number % 2:  # the index then believes that it knows the shard
            os.utime(folder / victim.name, ns=(state.st_atime_ns, state.st_mtime_ns))
        check(folder, what)
        if number % 10 == 0:
            verify_cache(folder, Counted(), repair=True)
            filled(folder)
            assert verify_cache(folder, Counted()).ok, what
        shutil.rmtree(folder)


def test_a_lost_shard_does_not_bring_back_what_an_id_stood_for(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "cond-00001.safetensors").write_bytes(b"lost")
    for _ in range(2):
        with ConditionCache(tmp_path) as cache:
            same(cache, "1.png", WANTED["1.png"])
            with pytest.raises(StorageError, match=r"holds nothing for '2\.png'"):
                cache.load("2.png")
        verify_cache(tmp_path, repair=True)


def test_every_byte_of_the_rows_of_the_index_counts(tmp_path: Path) -> None:
    """An id of one caption must not become that of another, and `verify` must see it."""
    whole = filled(tmp_path / "whole")
    (index,) = whole.glob("index-*.sqlite")
    data = index.read_bytes()
    key_of = condition_key(cache_identity(Counted()), "1.png")
    place = data.index(bytes.fromhex(key_of))
    for offset in range(0, 80, 8):  # name, key and checksum; the shard 0 takes no byte
        changed = bytearray(data)
        changed[place + offset] ^= 1
        folder = tmp_path / f"{offset}"
        shutil.copytree(whole, folder)
        (folder / index.name).write_bytes(changed)
        assert {found.kind for found in verify_cache(folder)} == {"index"}
        check(folder, f"{offset}")
        verify_cache(folder, repair=True)
        check(folder, f"{offset}", whole=True)
        assert verify_cache(folder).ok


def rewrite(path: Path, records: list[Any], **metadata: str) -> None:
    """Write a shard with other records and a valid checksum."""
    found = read_safetensors(path)
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in records]
    data = b"\n".join(lines)
    version = metadata.get("version", "2")
    total = hashlib.sha256(version.encode() + b"\0" + data).hexdigest()
    tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
    tensors["records"] = torch.frombuffer(bytearray(data or b" "), dtype=torch.uint8)
    path.unlink()
    write_safetensors(path, tensors, {"version": version, "sha256": total} | metadata)


IDENTITY = cache_identity(Counted())
RECORDS: dict[str, list[Any]] = {
    "nothing": [b""],
    "no JSON": [b"{"],
    "no UTF-8": [b"\xff"],
    "null": [None],
    "a list for an identity": [[1]],
    "no conditioner": [{}],
    "a conditioner that is no object": [{"conditioner": 5}],
    "deep": [b"[" * 100_000],
    "a long number": [b"9" * 10_000],
    "not a number": [b'{"conditioner":{"a":NaN}}'],
    "infinity": [b'{"conditioner":{"a":[-1e999]}}'],
    "nested 33 deep": [b'{"conditioner":{"a":' + b"[" * 31 + b"]" * 31 + b"}}"],
    "nested 986 deep": [b'{"conditioner":{"a":' + b"[" * 986 + b"]" * 986 + b"}}"],
    "a prompt that is nested": [IDENTITY, b'["' + b"a" * 64 + b'",' + b"[" * 986 + b"]" * 987],
    "a record of numbers": [IDENTITY, [1, 2, 3]],
    "a record that is null": [IDENTITY, None],
    "a short record": [IDENTITY, ["a"]],
    "a key that is no key": [IDENTITY, ["../x", "prompt", "sum"]],
    "an id of no key": [IDENTITY, ["id", "key"]],
    "a line too long": [IDENTITY, b'["' + b"a" * shards.LONGEST_RECORD + b'"]'],
    "lists of lists": [IDENTITY, b"[" + b"[]," * 500_000 + b"[]]"],
}


@pytest.mark.parametrize("how", RECORDS)
def test_crafted_records_are_named_and_the_rest_can_be_read(tmp_path: Path, how: str) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    lost = set(shards.read_shard(victim).entries)
    rewrite(victim, RECORDS[how])
    with ConditionCache(tmp_path) as cache:
        kept = {key for key, _, _ in cache.items()}
        assert not kept & lost
        assert len(kept) == len(PROMPTS) - len(lost)
        same(cache, "8.png", Counted().each(PROMPTS[8:])[0])
    found = verify_cache(tmp_path, Counted())
    assert {f.shard for f in found} == {victim.name}
    assert {f.kind for f in found} <= {"damaged", "missing"}
    assert not found.ok
    verify_cache(tmp_path, Counted(), repair=True)
    assert fill(tmp_path).written == len(lost)
    assert verify_cache(tmp_path, Counted()).ok


def tensors_with_sum(change: Callable[[dict[str, torch.Tensor]], None]) -> shards.Shard:
    key = condition_key(IDENTITY, "p")
    parts = {"tokens": torch.ones(1, 3, 4), "pooled": torch.ones(1, 4)}
    change(parts)
    entries = {key: shards.make_entry(key, "p", parts)}
    return shards.Shard(IDENTITY, entries, {}, dict(shards.name_tensors(key, parts)))


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": torch.ones(3, 4)},
        {"tokens": torch.ones(2, 3, 4)},
        {"tokens": torch.ones(1, 0, 4)},
        {"tokens": torch.ones(())},
        {"tokens": torch.ones(1, 3, 4, dtype=torch.int64)},
        {"tokens": torch.ones(1, 3, 4).to(torch.float8_e4m3fn)},
        {"mask": torch.ones(1, 3)},
        {"mask": torch.ones(1, 4, dtype=torch.bool)},
    ],
)
def test_tensors_of_another_shape_or_type_are_refused(
    tmp_path: Path, changed: dict[str, torch.Tensor]
) -> None:
    shards.publish(tmp_path, tensors_with_sum(lambda parts: parts.update(changed)), 0)
    with pytest.raises(CorruptFileError, match="is damaged at"):
        ConditionCache(tmp_path).load("p")
    assert [found.kind for found in verify_cache(tmp_path)] == ["shape"]


def test_tensors_of_another_prompt_are_refused(tmp_path: Path) -> None:
    made = tensors_with_sum(lambda parts: None)
    (key,) = made.entries
    entry = shards.ShardEntry("q", made.entries[key].sha256)
    shards.publish(tmp_path, shards.Shard(IDENTITY, {key: entry}, {}, made.tensors), 0)
    with pytest.raises(CorruptFileError, match="belongs to another prompt"):
        ConditionCache(tmp_path).load("p")


def test_a_shard_of_a_later_version_is_kept_and_the_rest_can_be_read(tmp_path: Path) -> None:
    fill(tmp_path)
    victim = first_shard(tmp_path)
    rewrite(victim, [{"new": 1}], version="3")
    with ConditionCache(tmp_path) as cache:
        same(cache, "8.png", Counted().each(PROMPTS[8:])[0])
        with pytest.raises(StorageError, match=r"1 shards cannot be read: .*update ecliptic"):
            cache.load("0.png")
    assert [found.kind for found in verify_cache(tmp_path, repair=True)] == ["newer"]
    assert victim.exists()
    assert fill(tmp_path).torn == (0,)


def test_a16_a_shard_of_version_1_says_to_write_it_again(tmp_path: Path) -> None:
    about = {"about": json.dumps({"version": 1, "identity": {}}, separators=(",", ":"))}
    write_safetensors(shards.shard_path(tmp_path, 0), {"a": torch.ones(2)}, about)
    with pytest.raises(StorageError, match=r"older version .* write the captions again"):
        ConditionCache(tmp_path).load("p")
    verify_cache(tmp_path, repair=True)
    assert verify_cache(tmp_path).ok


@pytest.mark.parametrize("kind", ["pipe", "folder", "forbidden name"])
def test_what_is_no_file_is_named_at_once(tmp_path: Path, kind: str) -> None:
    fill(tmp_path)
    victim = shards.shard_path(tmp_path, 77)
    if kind == "pipe":
        os.mkfifo(victim)
    elif kind == "folder":
        victim.mkdir()
    else:
        victim = tmp_path / "cond-000077.safetensors"  # it has one zero too many
        victim.write_bytes(b"x")
    with ConditionCache(tmp_path) as cache:
        assert len(list(cache.items())) == len(PROMPTS)
    found = [(one.kind, one.shard) for one in verify_cache(tmp_path, repair=True)]
    assert found == ([] if kind == "forbidden name" else [("damaged", victim.name)])
    assert victim.exists() == (kind != "pipe")
    assert fill(tmp_path).written == 0


def test_a_deep_identity_and_a_long_id_are_refused_before_the_work(tmp_path: Path) -> None:
    source = Counted({**Counted().told, "more": "x" * shards.LONGEST_RECORD})
    with pytest.raises(EclipticError, match="use shorter ones"):
        fill(tmp_path, source)
    assert not source.asked
    refused: list[str] = []
    watch = Watch(reject=lambda caption, error: refused.append(str(error)))
    write_cache(Counted(), [Caption("i" * (LONGEST + 1), "a cat")], tmp_path, watch=watch)
    assert len(refused) == 1
    assert "shorten them" in refused[0]


def test_an_id_that_becomes_its_own_prompt_gives_that_prompt(tmp_path: Path) -> None:
    write_cache(Counted(), [Caption("a cat", "a dog")], tmp_path)
    write_cache(Counted(), [Caption("a cat", "a cat")], tmp_path)
    same(ConditionCache(tmp_path), "a cat", Counted().each(["a cat"])[0])


WRITER = """
import sys
from tests.diffusion.cache.counted import Counted
from ecliptic.diffusion.cache.write import Caption, Watch, write_cache
folder, first = sys.argv[1], sys.argv[2]
for batch in range(1000):
    some = [Caption(f"{first}-{batch}-{n}", f"thing {first}-{batch}-{n}") for n in range(4)]
    write_cache(Counted(), some, folder)
    print(f"{first}-{batch}", flush=True)
"""


def test_a1_what_a_killed_writer_acknowledged_is_there(tmp_path: Path) -> None:
    check_killed_writers(tmp_path, rounds=2, seed=0)


def check_killed_writers(folder: Path, *, rounds: int, seed: int) -> None:
    """Every acknowledged caption is there after each kill."""
    for done in kill_writer(WRITER, str(folder), rounds=rounds, seed=seed):
        with ConditionCache(folder) as cache:
            for name in (f"{batch}-{n}" for batch in done for n in range(4)):
                same(cache, name, Counted().each([f"thing {name}"])[0])
        assert verify_cache(folder, Counted()).ok


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")
def test_a7_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = Counted()
    with pytest.raises(StorageError, match="cannot be a folder"):
        fill(tmp_path / "file", source, shard_size=SMALL)
    assert not source.asked


@pytest.mark.parametrize("table", ["shards", "sqlite_schema"])
def test_a5_an_index_of_endless_rows_is_rebuilt(tmp_path: Path, table: str) -> None:
    filled(tmp_path)
    [index] = tmp_path.glob("index-*.sqlite")
    repeat_page(index, table, depth=4)
    with at_most(seconds=5, mebibytes=100):
        check(tmp_path, whole=True)
        assert [finding.kind for finding in verify_cache(tmp_path)] == []


def test_a_folder_in_place_of_the_index_is_stepped_over(tmp_path: Path) -> None:
    filled(tmp_path)
    for path in tmp_path.glob("index-*.sqlite"):
        path.unlink()
        path.mkdir()
    assert [finding.kind for finding in verify_cache(tmp_path, repair=True)] == ["index"]
    check(tmp_path, whole=True)
    assert verify_cache(tmp_path).ok


@pytest.mark.parametrize("sooner", [False, True])
@pytest.mark.parametrize("value", [b'{"conditioner":{"a":NaN}}', b"[1]", b"\xff", "text", 5])
def test_a_crafted_identity_in_the_index_is_damage(
    tmp_path: Path, value: object, sooner: bool
) -> None:
    filled(tmp_path)
    [path] = tmp_path.glob("index-*.sqlite")
    file = sqlite3.connect(path)
    for number, size, stamp in file.execute("SELECT number, size, stamp FROM shards").fetchall():
        row = (number, size, stamp, value, None)
        changed = (value, rows.sum_row("shards", row), number)
        file.execute("UPDATE shards SET identity = ?, sum = ? WHERE number = ?", changed)
    file.commit()
    file.close()
    if sooner:
        first_shard(tmp_path).unlink()
        verify_cache(tmp_path, Counted(), repair=True)
        filled(tmp_path)
    check(tmp_path, whole=True)
