"""`captions`: tables stored in a folder that can be verified and repaired."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion import ConditionCache, Conditioner, cache_identity

Captions = Any


@pytest.fixture
def captions(run: Any, encoders: list[str]) -> Captions:
    """Run `captions` for SDXL."""
    return lambda *words: run("captions", *words, "--for", "sdxl", *encoders)


def test_a_table_is_kept_and_the_next_run_computes_nothing(
    captions: Captions, sdxl: Conditioner, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    result = captions("write", table, "--id", "file", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["written"], report["reused"], report["duplicates"]) == (2, 0, 1)
    cache = ConditionCache(out)
    wanted = sdxl.each(["a cat", "a dog"])
    for name, expected in (("a.png", 0), ("b.png", 1), ("c.png", 0)):
        found = cache.load(name)
        assert torch.equal(found.tokens, wanted[expected].tokens)
        assert torch.equal(found.pooled, wanted[expected].pooled)
    again = json.loads(captions("write", table, "--id", "file", "-o", out, "--json").stdout)
    assert (again["written"], again["reused"]) == (0, 3)
    assert "2 prompts in 1 shard, 0 findings" in captions("verify", out).stderr


def test_options_are_part_of_what_is_kept(
    captions: Captions, sdxl: Conditioner, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    captions("write", table, "-o", out)
    more = ("--clip-skip", "1", "--store", "bf16")
    assert "2 prompts written" in captions("write", table, "-o", out, *more).stderr
    identity = cache_identity(sdxl, "bf16", clip_skip=1)
    found = ConditionCache(out).load("a cat", identity).tokens
    assert found is not None
    assert found.dtype == torch.bfloat16


def test_rows_that_cannot_be_used_are_listed_and_exit_with_3(
    captions: Captions, tmp_path: Path
) -> None:
    path, out = tmp_path / "captions.jsonl", tmp_path / "cache"
    rows = [{"caption": "a cat"}, {"caption": ""}, {"caption": "a AND b"}, {"other": 1}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    result = captions("write", path, "-o", out, "--dialect", "a1111", "--json")
    assert result.exit_code == 3, result.stderr
    report = json.loads(result.stdout)
    assert [reject["index"] for reject in report["rejected"]] == [1, 2, 3]
    lines = Path(f"{out}.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 2, 3]
    assert len(ConditionCache(out)) == 1


def test_a_run_that_goes_on_replaces_its_list_of_rejects(
    captions: Captions, tmp_path: Path
) -> None:
    path, out = tmp_path / "captions.csv", tmp_path / "cache"
    path.write_text('caption\na cat\n""\n', encoding="utf-8")
    for _ in range(2):
        assert captions("write", path, "-o", out).exit_code == 3
    path.write_text("caption\na cat\n", encoding="utf-8")
    assert captions("write", path, "-o", out).exit_code == 0
    assert not (tmp_path / "cache.rejects.jsonl").exists()


def test_a_table_of_nothing_usable_fails(captions: Captions, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('caption,file\n"",a.png\n', encoding="utf-8")
    result = captions("write", path, "-o", tmp_path / "cache")
    assert result.exit_code == 1
    assert "none of the captions could be used: 1 rejected" in result.stderr


def test_lost_words_are_counted_not_shown_one_by_one(captions: Captions, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("caption\n" + "cat " * 90 + "\n" + "dog " * 90 + "\n", encoding="utf-8")
    result = captions("write", path, "-o", tmp_path / "cache")
    assert result.exit_code == 0, result.stderr
    assert "2 prompts lost words; --long chunk keeps all words" in result.stderr
    assert "dog dog" not in result.stderr


def test_verify_finds_what_is_torn_and_repairs_it(
    captions: Captions, run: Any, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    captions("write", table, "-o", out)
    (shard,) = out.glob("cond-*.safetensors")
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:-9])
    result = run("captions", "verify", out, "--json")
    assert result.exit_code == 1
    assert [found["kind"] for found in json.loads(result.stdout)["findings"]] == ["torn"]
    assert "torn" in run("captions", "verify", out).stdout
    assert "cannot be read" in captions("write", table, "-o", out).stderr
    assert run("captions", "repair", out).exit_code == 0
    assert run("captions", "verify", out).exit_code == 0
    assert len(ConditionCache(out)) == 2


def test_verify_finds_what_other_settings_made(
    captions: Captions, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    captions("write", table, "-o", out)
    assert captions("verify", out).exit_code == 0
    result = captions("verify", out, "--clip-skip", "1")
    assert result.exit_code == 1
    assert "stale" in result.stdout


def test_repair_keeps_other_settings_unless_told(
    captions: Captions, run: Any, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    captions("write", table, "-o", out)
    captions("write", table, "-o", out, "--clip-skip", "1")
    result = captions("repair", out, "--clip-skip", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert "2 prompts in 2 shards, other settings: 2, 0 findings" in result.stderr
    assert json.loads(result.stdout)["others"] == 2
    assert len(ConditionCache(out)) == 4
    result = captions("repair", out, "--clip-skip", "1", "--remove-others")
    assert "other settings: 2, removed: 2, 0 findings" in result.stderr
    assert len(ConditionCache(out)) == 2
    assert run("captions", "verify", out).exit_code == 0


def test_verify_misses_a_removed_shard(
    captions: Captions, run: Any, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    captions("write", table, "-o", out)
    (shard,) = out.glob("cond-*.safetensors")
    shard.unlink()
    result = run("captions", "verify", out, "--json")
    assert result.exit_code == 1
    [found] = json.loads(result.stdout)["findings"]
    assert (found["kind"], found["shard"], found["prompts"]) == ("missing", shard.name, 2)
    assert run("captions", "repair", out).exit_code == 0
    assert run("captions", "verify", out).exit_code == 0


def test_lines_of_stdin_are_captions(encoders: list[str], run: Any, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    words = ("captions", "write", "-", "--for", "sdxl", *encoders, "-o", out)
    result = run(*words, input="a cat\n\na dog\n")
    assert result.exit_code == 0, result.stderr
    assert "2 prompts written" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["write", "captions.csv", "--for", "sdxl"], 2, "'--out'"),
        (["write", "captions.csv", "-o", "cache"], 2, "--for sdxl"),
        (
            ["write", "a cat", "--for", "sd1", "-e", "mini", "-o", "cache"],
            2,
            "not a table",
        ),
        (["verify", "nowhere"], 1, "no cache folder nowhere"),
        (
            ["repair", "nowhere", "--dialect", "a1111"],
            2,
            "--dialect needs a model, to tell its entries from others",
        ),
        (["repair", "nowhere", "--remove-others"], 2, "--remove-others needs a model"),
        (["verify", "nowhere", "--lora", "a", "--device", "cpu"], 2, "--lora, --device needs"),
        (["write", "-", "--id", "x", "-o", "c"], 2, "--column and --id are for tables"),
    ],
)
def test_wrong_usage_says_what_is_missing(
    run: Any, words: list[str], code: int, message: str
) -> None:
    result = run("captions", *words)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
