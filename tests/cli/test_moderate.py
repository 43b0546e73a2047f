"""`ecliptic moderate`: verdicts, tuning, audits, the queue; nothing is deleted or moved."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.tasks.moderation import checkers

RULES = """
version = "test"
[[concepts]]
name = "weapons"
positive = ["a drawing of a sword"]
threshold = {threshold}
action = "review"
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Rules that flag every image."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES.format(threshold=-1.0))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A table of 40 images; every second one is said to show a weapon."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    lines = ["image,weapons,style"]
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        lines.append(
            f"{number}.png,{'yes' if number % 2 else 'no'},{'flat' if number < 20 else 'round'}"
        )
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_verdicts_have_reasons_and_no_file_is_touched(
    run: Run, model: str, images: Path, rules: Path, tmp_path: Path
) -> None:
    before = files_in(images)
    out, page = tmp_path / "queue.csv", tmp_path / "queue.html"
    found = run("moderate", images, "--rules", rules, "-m", model, "-o", out, "--page", page)
    assert found.exit_code == 3, found.stderr
    assert "rejected" in found.stderr
    assert "broken.png" in found.stderr
    assert "3 images of 3 flagged (1 reject, 2 review)" in found.stdout
    assert "broken.png" not in found.stdout, "its long error would break the table into blocks"
    assert "a drawing of a sword" in found.stdout
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["action"] for row in rows] == ["reject", "review", "review"]
    assert {row["concepts"] for row in rows[1:]} == {"weapons"}
    assert rows[1]["nearest"] == "a drawing of a sword"
    assert float(rows[1]["margin"]) == pytest.approx(float(rows[1]["score"]) + 1, abs=1e-5)
    assert rows[1]["rules"].startswith("test-")
    assert "broken.png" in Path(f"{out}.rejects.jsonl").read_text()
    html = page.read_text()
    assert "Nothing was deleted, moved or changed" in html
    assert html.count("data:image") == 2
    assert files_in(images) == before


def test_the_first_20_flagged_images_are_printed(
    run: Run, model: str, labels: Path, rules: Path, tmp_path: Path
) -> None:
    asked = ["moderate", labels.parent, "--rules", rules, "-m", model]
    found = run(*asked)
    assert found.stdout.count(".png") == 20
    assert "and 20 more; --out FILE writes all\n40 images of 40 flagged (40 review)" in found.stdout
    out = tmp_path / "queue.csv"
    assert f"and 20 more; {out} has all" in run(*asked, "-o", out).stdout


def test_json_has_every_verdict_in_the_order_of_the_images(
    run: Run, model: str, images: Path, rules: Path
) -> None:
    found = run("moderate", images, "--rules", rules, "-m", model, "--json")
    told = json.loads(found.stdout)
    assert [Path(one["image"]).name for one in told["verdicts"]] == ["a.png", "broken.png", "b.png"]
    assert [one["action"] for one in told["verdicts"]] == ["review", "reject", "review"]
    assert told["verdicts"][0]["rules"] == told["rules"]
    assert told["verdicts"][0]["reasons"][0]["concept"] == "weapons"


def test_a_sample_of_the_others_joins_the_queue(
    run: Run, model: str, labels: Path, rules: Path, tmp_path: Path
) -> None:
    rules.write_text(RULES.format(threshold=1.0))
    out = tmp_path / "queue.jsonl"
    asked = ["moderate", labels.parent, "--rules", rules, "-m", model, "-o", out, "--sample", 5]
    found = run(*asked)
    assert found.exit_code == 0, found.stderr
    assert "5 of 40 accepted images are in the queue" in found.stderr
    assert "note: no image reaches 1 for weapons; the highest score is " in found.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(row["why"], row["action"]) for row in rows} == {("sample", "allow")}
    again = run(*asked, "--seed", 1, "--force")
    assert again.exit_code == 0
    assert [json.loads(line)["image"] for line in out.read_text().splitlines()] != [
        row["image"] for row in rows
    ]


def test_thresholds_are_tuned_saved_and_used(
    run: Run, model: str, labels: Path, rules: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "tuned.safetensors"
    tuned = ["--tune", labels, "--recall", 0.8, "--confidence", 0.9, "--save", saved]
    found = run("moderate", "--rules", rules, "-m", model, *tuned)
    assert found.exit_code == 0, found.stderr
    assert "recall 0.8 at confidence 0.9" in found.stdout
    assert "not saved" not in found.stderr
    assert "test-" in found.stderr
    some = [labels.parent / "1.png", labels.parent / "3.png"]
    told = json.loads(run("moderate", *some, "--rules", saved, "-m", model, "--json").stdout)
    assert told["rules"] in found.stderr
    reason = told["verdicts"][0]["reasons"][0]
    assert f"{reason['threshold']:.4f}" in found.stdout
    again = run("moderate", "--rules", rules, "-m", model, *tuned)
    assert again.exit_code == 1
    assert "exists; pass --force" in " ".join(again.stderr.split())


def test_too_few_labels_say_how_many_are_missing(
    run: Run, model: str, labels: Path, rules: Path
) -> None:
    found = run("moderate", "--rules", rules, "-m", model, "--tune", labels)
    assert found.exit_code == 1
    message = " ".join(found.stderr.split())
    assert "weapons: a recall of 0.95 at a confidence of 0.9 needs at least 45" in message
    assert "25 are missing" in message
    found = run(
        "moderate", "--rules", rules, "-m", model, "--tune", labels, "--wanted-precision", 0.9
    )
    assert found.exit_code == 1
    assert "no threshold shows a precision of 0.9" in " ".join(found.stderr.split())


def test_an_audit_measures_by_group(run: Run, model: str, labels: Path, rules: Path) -> None:
    asked = ["moderate", "--rules", rules, "-m", model, "--audit", labels, "--group", "style"]
    found = run(*asked, "--prevalence", 0.001)
    assert found.exit_code == 0, found.stderr
    assert "where 0.10% of the images" in found.stdout
    shown = " ".join(run(*asked).stdout.split())
    assert (
        "weapons: precision and load where 50.00% of the images show it, as in the whole" in shown
    )
    told = json.loads(run(*asked, "--json").stdout)["audit"]
    assert [one["group"] for one in told["slices"]] == ["all", "flat", "round"]
    assert told["slices"][0]["recall"][1] == 1, "these rules flag everything"
    assert told["slices"][0]["false_alarm_rate"][1] == 1
    assert told["slices"][1]["positives"] == 10


@pytest.mark.filterwarnings("default::UserWarning")
def test_an_audit_of_the_tuned_images_and_few_references_are_noted(
    run: Run, model: str, labels: Path, rules: Path
) -> None:
    rules.write_text('reference = ["labelled/"]\n' + rules.read_text())
    asked = ["moderate", "--rules", rules, "-m", model, "--tune", labels, "--recall", 0.8]
    again = labels.with_name("again.csv")
    shutil.copy(labels, again)
    with pytest.warns(UserWarning, match="weapons: 40 of 40 images of the audit set its thres"):
        found = run(*asked, "--audit", again)
    assert found.exit_code == 0, found.stderr
    message = " ".join(found.stderr.split())
    assert "note: 40 reference images; with 200 or more" in message
    assert "note: the thresholds are not saved; add --save rules.safetensors" in message


def test_bad_rows_are_listed_with_their_numbers_and_the_rest_counts(
    run: Run, model: str, labels: Path, rules: Path
) -> None:
    bad = "missing.png,yes,flat\n0.png,maybe,flat\n1.png,,flat\n2.png,1,\n,1,flat\n"
    labels.write_text(labels.read_text() + bad)
    found = run(
        "moderate", "--rules", rules, "-m", model, "--audit", labels, "--group", "style", "--json"
    )
    assert found.exit_code == 3
    message = " ".join(found.stderr.split())
    assert "line 42 (missing.png)" in message
    assert "line 43 (0.png): column 'weapons' holds 'maybe'; it must be 1 or 0" in message
    assert "line 44 (1.png): column 'weapons' holds nothing" in message
    assert "line 45 (2.png): column 'style' holds nothing" in message
    assert "line 46: nothing usable in column 'image'" in message
    told = json.loads(found.stdout)["audit"]["slices"][0]
    assert told["positives"] + told["negatives"] == 40


def test_a_missing_column_is_named(run: Run, model: str, labels: Path, rules: Path) -> None:
    asked = ["moderate", "--rules", rules, "-m", model, "--audit", labels]
    found = run(*asked, "--group", "styles")
    assert found.exit_code == 1
    assert "has no column 'styles'" in " ".join(found.stderr.split())
    found = run(*asked, "--column", "path")
    assert "has no column 'path'" in " ".join(found.stderr.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png"], "give either --rules FILE or --safety-checker PATH"),
        (["a.png", "--rules", "r.toml", "--safety-checker", "c"], "give either --rules FILE or"),
        (["--rules", "r.toml"], "name images, folders or tables to moderate"),
        (["a.png", "--rules", "r.toml", "--recall", "0.9"], "--recall does nothing without --tune"),
        (["a.png", "--rules", "r.toml", "--group", "x"], "--group does nothing without --audit"),
        (
            ["--rules", "r", "--tune", "t", "--recall", "0.9", "--wanted-precision", "0.9"],
            "give either --recall or --wanted-precision",
        ),
        (["a.png", "--rules", "r", "--sample", "3"], "--sample does nothing without --out"),
        (["a.png", "--rules", "r", "--seed", "3"], "--seed does nothing without --sample"),
        (["--rules", "r", "--tune", "t", "--page", "p"], "need images to moderate"),
        (["a.png", "--rules", "r.toml", "--page", "p.png"], "--page p.png must end in .html or"),
        (["a.png", "--rules", "r.toml", "--force"], "--force does nothing without --out, --page"),
        (
            ["a.png", "--rules", "r.toml", "--column", "x"],
            "--column has no effect without a table",
        ),
        (["a.npy", "--rules", "r.toml", "--column", "x"], "there is no file a.npy"),
        (["a.png", "--rules", "r.toml", "--id", "x"], "--id has no effect without a table"),
        (["a.png", "--rules", "p.pt"], "p.pt must be a .toml file of concepts, or a .safetensors"),
        (
            ["--rules", "r.toml", "--tune", "t", "--recall", "95"],
            "--recall must be a share above 0",
        ),
        (["--rules", "r.toml", "--tune", "t", "--recall", "nan"], "below 1, such as 0.9, got nan"),
        (["--rules", "r.toml", "--tune", "t", "--confidence", "1"], "--confidence must be a share"),
        (
            [
                *("--rules", "r.toml", "--tune", "t"),
                *("--wanted-precision", ".8", "--confidence", ".4"),
            ],
            "--confidence of a precision must be at least 0.5",
        ),
        (
            ["--rules", "r.toml", "--audit", "t", "--prevalence", "1.5"],
            "--prevalence must be a share from 0 to 1, got 1.5",
        ),
        (["a.png", "--safety-checker", "c", "--tune", "t"], "has fixed thresholds"),
        (["a.png", "--safety-checker", "c", "--save", "x.safetensors"], "are for --rules"),
        (["a.png", "--safety-checker", "c", "-m", "x"], "leave --model out"),
        (["a.npy", "--safety-checker", "c"], "there is no file a.npy"),
        (["--rules", "r.toml", "--tune", "t", "--id", "x"], "--id names a column of a table"),
        (["a.png", "--rules", "r", "--save", "x.toml"], "must end in .safetensors"),
        (["a.png", "--rules", "r.toml", "--out", "x.txt"], "must end in .csv or .jsonl"),
    ],
)
def test_flags_without_effect_are_refused(
    run: Run, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, images: Path
) -> None:
    monkeypatch.chdir(images)  # a.png is there
    found = run("moderate", *words)
    assert found.exit_code in (1, 2)
    assert message in " ".join(found.stderr.split())


def test_a_safety_checker_is_run_from_its_folder(
    run: Run, images: Path, model: str, tmp_path: Path
) -> None:
    module = checkers.stable_diffusion()
    checkers.save(module, tmp_path / "checker", levels=2)
    folder = tmp_path / "noise"
    folder.mkdir()
    for number, one in enumerate(checkers.noise()):
        Image.fromarray(one).save(folder / f"{number:02}.png")
    out = tmp_path / "queue.csv"
    asked = ["moderate", folder, images / "broken.png", "--safety-checker", tmp_path / "checker"]
    found = run(*asked, "--json", "-o", out, "--device", "cpu")
    assert found.exit_code == 3, found.stderr
    told = json.loads(found.stdout)
    expected = module(checkers.pixels(checkers.noise()), checkers.noise())[1]
    assert [one["action"] == "label" for one in told["verdicts"][:-1]] == expected
    assert told["verdicts"][-1]["action"] == "reject"
    table = tmp_path / "labels.csv"
    lines = [f"noise/{n:02}.png,{int(flag)}" for n, flag in enumerate(expected)]
    table.write_text("\n".join(["image,unsafe", *lines, "images/broken.png,1", "x.png,-", ""]))
    found = run("moderate", "--safety-checker", tmp_path / "checker", "--audit", table, "--json")
    assert found.exit_code == 3, found.stderr
    assert "line 26 (images/broken.png)" in found.stderr
    assert "line 27 (x.png): column 'unsafe' holds '-'" in " ".join(found.stderr.split())
    (part,) = json.loads(found.stdout)["audit"]["slices"]
    assert (part["found"], part["positives"], part["false_alarms"]) == (sum(expected),) * 2 + (0,)
    shown = run("moderate", "--safety-checker", tmp_path / "checker", "--audit", table)
    assert "unsafe" in shown.stdout
    vectors = tmp_path / "v.npy"
    assert run("embed", images / "a.png", "-m", model, "-o", vectors).exit_code == 0
    refused = run("moderate", vectors, "--safety-checker", tmp_path / "checker")
    assert refused.exit_code == 2
    assert "needs images: it has its own model" in " ".join(refused.stderr.split())
