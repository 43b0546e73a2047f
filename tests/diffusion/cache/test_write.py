"""The dataset cache stores each prompt once and bit for bit, under a key of all its settings."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ecliptic.diffusion.cache.keys import cache_identity, condition_key
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.write import LONGEST, CacheReport, Caption, Watch, write_cache
from ecliptic.errors import ConfigError, NumericalError, StorageError, TextError
from tests.diffusion.cache.counted import (
    IDENTITY,
    PROMPTS,
    Changing,
    Counted,
    captions,
    fill,
    first_shard,
    same,
)


def test_what_is_read_is_what_was_computed_bit_for_bit(tmp_path: Path) -> None:
    source = Counted()
    report = fill(tmp_path, source)
    assert (report.written, report.reused, report.rejected) == (9, 0, 0)
    cache = ConditionCache(tmp_path)
    assert len(cache) == 9
    assert len(list(tmp_path.glob("cond-*.safetensors"))) > 1
    for caption, made in zip(captions(), Counted().each(PROMPTS), strict=True):
        same(cache, caption.id, made)
        same(cache, caption.text, made)
    assert {prompt for _, prompt, _ in cache.items()} == set(PROMPTS)
    assert list(cache) == sorted(key for key, _, _ in cache.items())


def test_what_is_read_is_the_readers_own(tmp_path: Path) -> None:
    fill(tmp_path)
    cache = ConditionCache(tmp_path)
    cache.load("0.png").tokens.zero_()  # type: ignore[union-attr]
    same(cache, "0.png", Counted().each(PROMPTS[:1])[0])


def test_a_second_run_computes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    source = Counted()
    report = fill(tmp_path, source)
    assert source.asked == []
    assert (report.written, report.reused, report.duplicates) == (0, 9, 0)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_equal_prompts_are_computed_once_whatever_their_ids(tmp_path: Path) -> None:
    source = Counted()
    many = [Caption(str(number), PROMPTS[number % 3]) for number in range(3000)]
    report = write_cache(source, many, tmp_path)
    assert sorted(source.asked) == sorted(PROMPTS[:3])
    assert (report.written, report.duplicates, report.reused) == (3, 2997, 0)
    cache = ConditionCache(tmp_path)
    assert torch.equal(cache.load("2999").tokens, cache.load("2").tokens)  # type: ignore[arg-type]


def test_a20_an_edited_caption_replaces_what_its_id_stands_for(tmp_path: Path) -> None:
    write_cache(Counted(), [Caption("a.png", "a cat")], tmp_path)
    write_cache(Counted(), [Caption("a.png", "a dog")], tmp_path)
    same(ConditionCache(tmp_path), "a.png", Counted().each(["a dog"])[0])
    for index in tmp_path.glob("index-*"):
        index.unlink()
    same(ConditionCache(tmp_path), "a.png", Counted().each(["a dog"])[0])


CHANGES: dict[str, Any] = {
    "family": "sd3",
    "encoders": [{"weights": "ab", "tokenizer": {"pad": 0}, "layer": -2, "norm": False}],
    "dialect": "a1111",
    "emphasis": "original",
    "layout": "kohya",
    "clip_skip": 1,
    "compat": "kohya",
    "chunks": 2,
    "loras": [["sha", 1.0]],
    "inversions": {"cat": "sha"},
    "dtype": "bf16",
}


@pytest.mark.parametrize("name", IDENTITY)
def test_a15_changing_any_field_of_the_identity_misses(tmp_path: Path, name: str) -> None:
    fill(tmp_path)
    other = Counted({**IDENTITY, name: CHANGES[name]})
    report = fill(tmp_path, other)
    assert report.written == len(PROMPTS)
    cache = ConditionCache(tmp_path)
    assert len(cache) == 2 * len(PROMPTS)
    with pytest.raises(ConfigError, match="2 settings"):
        cache.load("0.png")
    found = cache.load("0.png", cache_identity(other))
    assert torch.equal(found.tokens, other.each(PROMPTS[:1])[0].tokens)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["weights", "tokenizer", "layer", "norm"])
def test_changing_any_field_of_an_encoder_misses(place: str) -> None:
    encoder = dict(IDENTITY["encoders"][0])
    other = {**IDENTITY, "encoders": [{**encoder, place: {"changed": True}}]}
    assert condition_key(cache_identity(Counted(other)), "a") != condition_key(
        cache_identity(Counted()), "a"
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_stored_precision_is_part_of_the_key(tmp_path: Path, dtype: str) -> None:
    fill(tmp_path)
    assert fill(tmp_path, dtype=dtype).written == 9
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    found = ConditionCache(tmp_path).load(PROMPTS[0], cache_identity(Counted(), dtype))
    made = Counted().each(PROMPTS[:1])[0].tokens
    assert made is not None
    assert found.tokens is not None
    assert torch.equal(found.tokens, made.to(wanted))
    assert found.mask is not None
    assert found.mask.dtype == torch.bool


def test_what_cannot_be_used_is_reported_and_the_rest_is_done(tmp_path: Path) -> None:
    refused: list[tuple[str, str]] = []
    watch = Watch(reject=lambda caption, error: refused.append((caption.id, str(error))))
    given = captions(["good", "bad one", "large", "fine", "x" * (LONGEST + 1), "a AND b"])
    report = write_cache(Counted(), given, tmp_path, dtype="fp16", watch=watch)
    assert (report.written, report.rejected) == (2, 4)
    reasons = dict(refused)
    assert "at character 0" in reasons["1.png"]
    assert "infinity" in reasons["2.png"]
    assert "100000" in reasons["4.png"]
    assert "more than one set of tensors" in reasons["5.png"]
    with pytest.raises(TextError, match="write a good one"):
        write_cache(Counted(), given[:2], tmp_path / "b")
    with pytest.raises(
        NumericalError, match="not stored as fp16; bf16 and fp32 hold larger values"
    ):
        write_cache(Counted(), given[2:3], tmp_path / "b", dtype="fp16")


def test_prompts_that_lose_words_are_counted(tmp_path: Path) -> None:
    report = write_cache(Counted(), captions(["one two", "1 2 3 4 5 6 7"]), tmp_path)
    assert report.truncated == 1


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        fill(tmp_path, batch_size=0)
    with pytest.raises(ConfigError, match="stores fp32, bf16, fp16, not 'int8'"):
        fill(tmp_path, dtype="int8")
    with pytest.raises(StorageError, match="no cache folder"):
        ConditionCache(tmp_path / "none")
    with pytest.raises(StorageError, match="nothing for 'a wolf'"):
        ConditionCache(tmp_path).load("a wolf")


def test_captions_are_read_as_they_are_needed(tmp_path: Path) -> None:
    seen = 0

    def stream() -> Iterator[Caption]:
        nonlocal seen
        for number in range(5000):
            seen += 1
            yield Caption(str(number), f"thing {number % 7}")
            if number > 2000:
                raise KeyboardInterrupt

    report = write_cache(Counted(), stream(), tmp_path, watch=Watch(stop_quietly=True))
    assert report.interrupted
    assert seen < 5000
    assert report.written == 7
    assert len(ConditionCache(tmp_path)) == 7


@pytest.mark.parametrize("harm", ["gone", "garbage", "empty", "truncated"])
def test_the_index_is_made_again_from_the_shards(tmp_path: Path, harm: str) -> None:
    fill(tmp_path)
    (index,) = tmp_path.glob("index-*.sqlite")
    if harm == "gone":
        index.unlink()
    else:
        data = {"garbage": b"x" * 5000, "empty": b"", "truncated": index.read_bytes()[:5000]}
        index.write_bytes(data[harm])
    source = Counted()
    assert fill(tmp_path, source).reused == 9
    assert source.asked == []
    same(ConditionCache(tmp_path), "8.png", Counted().each(PROMPTS[8:])[0])


def test_a_folder_that_may_only_be_read_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    for index in tmp_path.glob("index-*"):
        index.unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert len(ConditionCache(tmp_path)) == 9
    assert not list(tmp_path.glob("index-*"))


def test_the_records_of_a_shard_say_what_is_in_it(tmp_path: Path) -> None:
    fill(tmp_path)
    with safe_open(first_shard(tmp_path), "pt") as file:
        version = file.metadata()["version"]
        about, *lines = bytes(file.get_tensor("records").numpy()).splitlines()
    assert version == "2"
    assert json.loads(about)["conditioner"] == IDENTITY
    rows = [json.loads(line) for line in lines]
    prompts = {row[0]: row[1] for row in rows if len(row) == 3}
    ids = dict(row for row in rows if len(row) == 2)
    assert [condition_key(cache_identity(Counted()), prompt) for prompt in prompts.values()] == [
        *prompts
    ]
    assert prompts[ids["0.png"]] == PROMPTS[0]


def test_tensors_of_a_conditioner_that_changed_meanwhile_are_not_stored(tmp_path: Path) -> None:
    first, late = PROMPTS[:4], [f"{number} late" for number in range(4)]
    refused: list[Caption] = []
    watch = Watch(reject=lambda caption, _: refused.append(caption))
    with pytest.raises(StorageError, match="changed while its prompts were encoded"):
        fill_with(tmp_path, Changing(), [*first, *late], watch)
    assert not refused
    cache = ConditionCache(tmp_path)
    identity = cache_identity(Counted())
    assert [cache.get(condition_key(identity, text)) is not None for text in (*first, *late)] == (
        [True] * 4 + [False] * 4
    )
    report = fill_with(tmp_path, Counted(), [*first, *late], watch)  # claims were given up
    assert (report.reused, report.written) == (4, 4)


def fill_with(
    folder: Path, source: Counted, prompts: list[str], watch: Watch | None = None
) -> CacheReport:
    return write_cache(source, captions(prompts), folder, batch_size=4, watch=watch)
