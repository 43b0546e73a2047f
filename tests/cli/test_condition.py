"""`condition`: tokens shown, tensors written, tables kept in a folder that can be checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ecliptic.checkpoints import write
from ecliptic.diffusion import ConditionCache, cache_identity, conditioner
from tests import tiny

Say = Any


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that name two tiny text encoders."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate("lg"):
        write(tiny.checkpoint("text", seed=seed), folder / name)
    return ["-e", str(folder / "l"), "-e", str(folder / "g")]


@pytest.fixture
def condition(run: Any, encoders: list[str]) -> Say:
    """Run `condition` for SDXL."""
    return lambda *words: run("condition", *words, "--for", "sdxl", *encoders)


def made(encoders: list[str]) -> Any:
    return conditioner("sdxl", encoders[1::2])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "captions.csv"
    path.write_text("file,caption\na.png,a cat\nb.png,a dog\nc.png,a cat\n", encoding="utf-8")
    return path


def test_every_token_of_a_prompt_is_shown(condition: Say, encoders: list[str]) -> None:
    result = condition("a (red:1.3) fox", "--dialect", "a1111", "--explain")
    assert result.exit_code == 0, result.stderr
    ledger = made(encoders)("a (red:1.3) fox", dialect="a1111").ledger
    assert result.stdout.strip() == ledger.to_table().strip()
    assert any("red" in line and "1.3" in line for line in result.stdout.splitlines())
    assert condition("a (red:1.3) fox", "--dialect", "a1111").stdout == result.stdout


def test_the_ledger_as_json_and_as_a_page(
    condition: Say, encoders: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    result = condition("a <b>", "--json", "--html", page)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(
        json.dumps(made(encoders)("a <b>").ledger.to_json())
    )
    text = page.read_text(encoding="utf-8")
    assert "<title>a &lt;b&gt;</title>" in text
    assert "exists" in condition("a", "--html", page).stderr


def test_a_prompts_tensors_are_those_of_the_api(
    condition: Say, encoders: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "fox.safetensors"
    words = ("a red fox", "-n", "blurry", "--clip-skip", "1", "-o", out)
    result = condition(*words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    wanted = made(encoders)("a red fox", negative="blurry", clip_skip=1).to_diffusers()
    with safe_open(out, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["ecliptic"])
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert (about["family"], about["prompt"], about["negative"]) == ("sdxl", "a red fox", "blurry")
    again = condition(*words)
    assert again.exit_code == 1
    assert "pass --force" in again.stderr
    assert condition(*words, "--force").exit_code == 0


def test_a_table_is_kept_and_the_next_run_computes_nothing(
    condition: Say, encoders: list[str], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    result = condition(table, "--id", "file", "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["written"], report["reused"], report["duplicates"]) == (2, 0, 1)
    cache = ConditionCache(out)
    wanted = made(encoders).each(["a cat", "a dog"])
    for name, expected in (("a.png", 0), ("b.png", 1), ("c.png", 0)):
        found = cache.load(name)
        assert torch.equal(found.tokens, wanted[expected].tokens)
        assert torch.equal(found.pooled, wanted[expected].pooled)
    again = json.loads(condition(table, "--id", "file", "-o", out, "--json").stdout)
    assert (again["written"], again["reused"]) == (0, 3)
    assert "2 prompts in 1 shards, 0 findings" in condition(out, "--verify").stderr


def test_options_are_part_of_what_is_kept(
    condition: Say, encoders: list[str], table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    condition(table, "-o", out)
    more = ("--clip-skip", "1", "--store", "bf16")
    assert "2 prompts written" in condition(table, "-o", out, *more).stderr
    identity = cache_identity(made(encoders), "bf16", clip_skip=1)
    found = ConditionCache(out).load("a cat", identity).tokens
    assert found is not None
    assert found.dtype == torch.bfloat16


def test_rows_that_cannot_be_used_are_listed_and_exit_with_3(
    condition: Say, tmp_path: Path
) -> None:
    path, out = tmp_path / "captions.jsonl", tmp_path / "cache"
    rows = [{"caption": "a cat"}, {"caption": ""}, {"caption": "a AND b"}, {"other": 1}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    result = condition(path, "-o", out, "--dialect", "a1111", "--json")
    assert result.exit_code == 3, result.stderr
    report = json.loads(result.stdout)
    assert [reject["index"] for reject in report["rejected"]] == [1, 2, 3]
    lines = Path(f"{out}.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["index"] for line in lines] == [1, 2, 3]
    assert len(ConditionCache(out)) == 1


def test_a_table_of_nothing_usable_fails(condition: Say, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('caption,file\n"",a.png\n', encoding="utf-8")
    result = condition(path, "-o", tmp_path / "cache")
    assert result.exit_code == 1
    assert "none of the 1 captions could be used" in result.stderr


def test_lost_words_are_counted_not_shown_one_by_one(condition: Say, tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text("caption\n" + "cat " * 90 + "\n" + "dog " * 90 + "\n", encoding="utf-8")
    result = condition(path, "-o", tmp_path / "cache")
    assert result.exit_code == 0, result.stderr
    assert "2 prompts lost words" in result.stderr
    assert "dog dog" not in result.stderr


def test_verify_finds_what_is_torn_and_repairs_it(
    condition: Say, run: Any, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cache"
    condition(table, "-o", out)
    (shard,) = out.glob("cond-*.safetensors")
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:-9])
    result = run("condition", out, "--verify", "--json")
    assert result.exit_code == 1
    assert [found["kind"] for found in json.loads(result.stdout)["findings"]] == ["torn"]
    assert "torn" in run("condition", out, "--verify").stdout
    assert "cannot be read" in condition(table, "-o", out).stderr
    assert run("condition", out, "--verify", "--repair").exit_code == 0
    assert run("condition", out, "--verify").exit_code == 0
    assert len(ConditionCache(out)) == 2


def test_verify_finds_what_other_settings_made(condition: Say, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    condition(table, "-o", out)
    assert condition(out, "--verify").exit_code == 0
    result = condition(out, "--verify", "--clip-skip", "1")
    assert result.exit_code == 1
    assert "stale" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a cat"], 2, "--for sdxl"),
        (["captions.csv", "--for", "sdxl"], 2, "a table needs --out"),
        (["a cat", "--repair"], 2, "--repair goes with --verify"),
        (["nowhere", "--verify"], 1, "no cache folder nowhere"),
        (["a cat", "--for", "sdxl", "-o", "a.npz"], 2, "ends in .safetensors"),
        (["a cat", "--for", "sdxxl", "-e", "x"], 1, "sdxl"),
        (["a cat", "--for", "sdxl", "-e", "mini", "--lora", "a.safetensors=much"], 2, "FILE=0.8"),
    ],
)
def test_wrong_usage_says_what_is_missing(
    run: Any, words: list[str], code: int, message: str
) -> None:
    result = run("condition", *words)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
