"""`--out` of `classify` and `similarity`: CSV that a spreadsheet only shows, and exact JSONL."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecliptic.cli.rankings import Ranking, RankingKind, escape_formula, write_rankings
from ecliptic.engine import Rejects, load

KIND = RankingKind("image", "label", "probability", digits=6, pattern="{:.1%}")
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_c12_a_formula_becomes_a_text(text: str, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    write_rankings(out, [Ranking(text, ((text, 0.5),))], KIND, Rejects())
    (row,) = rows_of(out)
    assert row == {"image": f"'{text}", "rank": "1", "label": f"'{text}", "probability": "0.5"}


def test_c12_other_texts_and_negative_numbers_stay(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    names = ("a=b", "1-1", "a@b", 'say "x", y', "a\nb", "caf\u00e9")
    write_rankings(out, [Ranking(n, ((n, -0.25),)) for n in names], KIND, Rejects())
    assert [row["image"] for row in rows_of(out)] == list(names)
    assert {row["probability"] for row in rows_of(out)} == {"-0.25"}
    assert [escape_formula(name) for name in names] == list(names)


def test_c12_no_cell_of_a_command_is_a_formula(
    run: Any, model: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    name = "=cmd|' C calc'!A0.png"
    shutil.copy("a.png", name)
    labels = "@SUM(1),+1,-1,=1"
    for command, words in (
        ("classify", ["-l", labels]),
        ("similarity", [part for label in labels.split(",") for part in ("-t", label)]),
    ):
        out = tmp_path / f"{command}.csv"
        result = run(command, name, *words, "-m", model, "-o", out)
        assert result.exit_code == 0, result.stderr
        cells = [cell for row in csv.reader(io.StringIO(out.read_bytes().decode())) for cell in row]
        texts = [cell for cell in cells if not cell.replace("-", "").replace(".", "").isdecimal()]
        assert f"'{name}" in texts
        assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_the_files_hold_the_numbers_of_the_api(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    a, b = str(images / "a.png"), str(images / "sub/b.png")
    clip, labels = load(model), ["cat", "dog", "bird"]
    words = ["classify", a, b, "-l", "cat,dog,bird", "-m", model, "-k", 2]
    assert run(*words, "-o", tmp_path / "c.csv").exit_code == 0
    assert run(*words, "-o", tmp_path / "c.jsonl").exit_code == 0
    expected = clip.classify([a, b], labels)
    rows = rows_of(tmp_path / "c.csv")
    assert [(row["image"], row["rank"]) for row in rows] == [(a, "1"), (a, "2"), (b, "1"), (b, "2")]
    for row in rows:
        value = expected[(a, b).index(row["image"]), labels.index(row["label"])]
        assert float(row["probability"]) == pytest.approx(float(value), abs=1e-6)
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert lines == json.loads(run(*words, "--json").stdout)

    words = ["similarity", a, b, "-t", "cat", "-m", model]
    assert run(*words, "-o", tmp_path / "s.csv").exit_code == 0
    cosines = dict(zip((a, b), clip.similarity(["cat"], [a, b])[0].tolist(), strict=True))
    rows = rows_of(tmp_path / "s.csv")
    assert {row["column"]: pytest.approx(float(row["cosine"]), abs=1e-6) for row in rows} == cosines
    (first,) = json.loads(run(*words, "-k", 1, "--json").stdout)["nearest"]
    assert first["row"] == "cat"
    assert [one["column"] for one in first["columns"]] == [max(cosines, key=lambda x: cosines[x])]


@pytest.mark.parametrize("command", ["classify", "similarity"])
def test_results_are_replaced_only_by_force_and_rejects_are_listed(
    run: Any, model: str, images: Path, tmp_path: Path, command: str
) -> None:
    out = tmp_path / "r.csv"
    words = [command, images, *(["-l", "a,b"] if command == "classify" else ["-t", "a"])]
    words += ["-o", out]
    first = run(*words, "-m", model)
    assert first.exit_code == 3
    assert f"results in {out}" in first.stderr
    (reject,) = Path(f"{out}.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["source"] == str(images / "broken.png")
    refused = run(*words, "-m", "no such model")
    assert refused.exit_code == 1
    assert "exists; pass --force" in refused.stderr
    assert run(*words, "-m", model, "--force").exit_code == 3


def test_an_input_is_never_the_results(run: Any, tmp_path: Path, table: Path) -> None:
    words = ["classify", table, "--column", "file", "-l", "a,b", "-o", table, "--force"]
    result = run(*words)
    assert result.exit_code == 1
    assert "is read by this command" in result.stderr
