"""`ecliptic classify` fits, saves, uses and judges classifiers."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from ecliptic.engine import load
from ecliptic.scoring import NONE_OF_THESE, Calibration
from ecliptic.tasks import Classifier
from tests import tiny
from tests.cli.conftest import Run
from tests.tasks.classification.conftest import draw_images

LABELS = ("red", "green", "blue")


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A table of 45 pictures whose colour is their label, with the pictures beside it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths, truth = draw_images(folder, LABELS, 45)
    rows = [f"pictures/{Path(p).name},{name}" for p, name in zip(paths, truth, strict=True)]
    table = tmp_path / "labelled.csv"
    table.write_text("\n".join(["image,label", *rows]) + "\n", encoding="utf-8")
    return table


def test_a_classifier_is_fitted_saved_used_and_judged(
    run: Run, model: str, labelled: Path, tmp_path: Path
) -> None:
    saved, page = tmp_path / "c.safetensors", tmp_path / "report.html"
    words = ["-m", model, "--calibrate", labelled, "--method", "probe,temperature"]
    done = run("classify", "-l", "red,green,blue", *words, "--save", saved)
    assert done.exit_code == 0, done.stderr
    assert "temperature on 45 labelled images" in done.stderr
    assert f"classifier in {saved}" in flat(done.stderr)
    judged = run("classify", "-m", model, "--classifier", saved, "--evaluate", labelled,
                 "--page", page, "--json")  # fmt: skip
    assert judged.exit_code == 0, judged.stderr
    report = json.loads(judged.stdout)
    assert (report["images"], report["rejected"]) == (45, [])
    assert report["accuracy"]["value"] > 0.8
    assert page.read_text(encoding="utf-8").count("<img") == 24
    asked = run("classify", labelled.parent / "pictures", "-m", model, "--classifier", saved,
                "--json", "-k", 2)  # fmt: skip
    rows = json.loads(asked.stdout)
    clip = load(model)
    wanted = Classifier.load(saved, clip).predict([row["image"] for row in rows])
    assert [row["answer"] for row in rows] == list(wanted.labels)
    assert [row["probability"] for row in rows] == pytest.approx(
        wanted.confidences.tolist(), abs=1e-4
    )
    assert all(len(row["labels"]) == 2 for row in rows)


def test_answers_are_written_with_sets_and_where_it_abstains(
    run: Run, model: str, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["classify", labelled.parent / "pictures", "-l", "red,green,blue", "-m", model]
    words += ["--calibrate", labelled, "--abstain", "answered=0.8", "--abstain", "sets=0.8"]
    shown = run(*words, "-o", tmp_path / "a.csv")
    assert shown.exit_code == 0, shown.stderr
    *lines, more, summary = shown.stdout.splitlines()
    assert lines[0].split() == ["image", "answer", "set", "other", "labels"]
    assert len(lines) == 21
    assert more == f"and 25 more; {tmp_path / 'a.csv'} has all"
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    assert set(rows[0]) == {"image", "answer", "probability", "abstained", "set"}
    assert {row["abstained"] for row in rows} <= {"0", "1"}
    gone = sum(row["abstained"] == "1" for row in rows)
    assert summary == f"45 images: {45 - gone} answered, {gone} abstained"
    assert shown.stdout.count("abstained (") == sum(row["abstained"] == "1" for row in rows[:20])
    monkeypatch.setenv("COLUMNS", str(max(map(len, lines)) - 1))
    narrow = run(*words).stdout.splitlines()
    assert len(narrow) == 24
    assert max(map(len, narrow[:21])) < max(map(len, lines))
    assert "too narrow for all labels; --json has them" in narrow[21]
    one = run(words[0], labelled.parent / "pictures" / "0.png", *words[2:], "-k", 2)
    first, *others = one.stdout.splitlines()
    assert "(set: " in first
    assert len(others) == 2
    run(*words, "-o", tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["answer"] for line in lines] == [row["answer"] for row in rows]


def test_labels_in_a_tree(run: Run, model: str, labelled: Path, tmp_path: Path) -> None:
    pictures = labelled.parent / "pictures"
    words = ["classify", pictures, "-m", model, "--calibrate", labelled, "--json"]
    tree = run(*words, "-l", "warm > red,cold > green,cold > blue", "--abstain", "tree=0.6")
    assert tree.exit_code == 0, tree.stderr
    for row in json.loads(tree.stdout):
        chances = {one["label"]: one["probability"] for one in row["labels"] + row["groups"]}
        assert chances["cold"] == pytest.approx(chances["green"] + chances["blue"], abs=2e-6)
        assert row["probability"] == chances[row["answer"]]
        assert row["abstained"] == (row["probability"] < 0.6)
    saved = tmp_path / "tree.safetensors"
    kept = run(*words[:-1], "-l", "warm > red,cold > green,cold > blue", "--abstain", "tree=0.6",
               "--save", saved)  # fmt: skip
    again = run("classify", pictures, "-m", model, "--classifier", saved, "-o", tmp_path / "t.csv")
    assert again.stdout.splitlines()[:21] == kept.stdout.splitlines()[:21], "its share is saved"
    with (tmp_path / "t.csv").open(newline="") as file:
        for row, line in zip(csv.DictReader(file), again.stdout.splitlines()[1:21], strict=False):
            said = f"{row['answer']} {float(row['probability']):.1%}"
            assert (f"abstained ({said})" if row["abstained"] == "1" else f"  {said}  ") in line
    shown = run("classify", pictures / "0.png", "-m", model, "--classifier", saved).stdout
    names = [line[10:] for line in shown.splitlines()[1:]]
    assert names.index("  red") == names.index("warm") + 1
    assert sorted(names) == ["  blue", "  green", "  red", "cold", "warm"]
    surer = run("classify", "-m", model, "--classifier", saved, "--abstain", "tree=0.99",
                "--evaluate", labelled, "--json")  # fmt: skip
    judged = json.loads(surer.stdout)["answered"]
    assert judged["answered"]["value"] < 1
    leaves = run(*words, "-l", "warm > red,cold > green,cold > blue")
    assert "add --abstain tree=0.8" in flat(leaves.stderr)
    assert {row["answer"] for row in json.loads(leaves.stdout)} <= {"red", "green", "blue"}
    one = run("classify", pictures, "-m", model, "-l", "warm > red,blue")
    assert "'warm > red' is taken as one label" in flat(one.stderr)


def test_several_labels_of_an_image(run: Run, model: str, labelled: Path) -> None:
    pictures = labelled.parent / "pictures"
    words = ["classify", pictures, "-m", model, "--calibrate", labelled, "--json"]
    refused = run(*words, "-l", "warm > red,blue", "--method", "several")
    assert "are a tree, which is for one label per image" in flat(refused.stderr.replace("│", " "))
    text = labelled.read_text(encoding="utf-8").replace("0.png,red", "0.png,red; blue")
    labelled.write_text(text, encoding="utf-8")
    found = run(*words, "-l", "red,green,blue", "--method", "several")
    assert found.exit_code == 0, found.stderr
    for row in json.loads(found.stdout):
        assert (row["answer"] in row["set"]) != (row["answer"] == NONE_OF_THESE)
        assert (row["probability"] is None) == (row["answer"] == NONE_OF_THESE)
        assert {one["label"] for one in row["labels"]} == set(LABELS), "no invented row"
    assert "log loss: " in found.stderr
    refused = run(
        "classify", pictures, "-l", "red,green,blue", "-m", model, "--calibrate", labelled
    )
    assert refused.exit_code == 1
    assert "'red; blue' is not among the labels" in flat(refused.stderr)


def test_the_page_of_learned_images_warns_and_mini_says_what_it_knows(
    run: Run, model: str, labelled: Path, tmp_path: Path
) -> None:
    words = ["classify", "-l", "red,green,blue", "--calibrate", labelled, "--evaluate", labelled]
    found = run(*words, "-m", model, "--page", tmp_path / "p.html")
    assert found.exit_code == 0, found.stderr
    assert "warning: 45 of 45 images were learned from" in flat(found.stdout)
    assert "images were learned from" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "mini knows drawings" not in found.stderr
    shown = run("classify", labelled.parent / "pictures" / "0.png", "-l", "red,green")
    assert shown.stderr.count("mini knows drawings; for photographs add --model") == 1


def test_flags_of_images_are_named_only_where_none_is_read(
    run: Run, model: str, labelled: Path, tmp_path: Path
) -> None:
    stored, kinds = tmp_path / "v.npy", tmp_path / "kinds.safetensors"
    pictures = labelled.parent / "pictures"
    assert run("embed", pictures, "-m", model, "-o", stored).exit_code == 0
    said = "no image is read, so --pixels changes no vector"
    words = ["classify", stored, "-m", model, "--pixels", "fast"]
    learned = run(*words, "-l", "red,green,blue", "--calibrate", labelled, "--save", kinds)
    assert said not in flat(learned.stderr)
    assert said in flat(run(*words, "--classifier", kinds).stderr)
    assert said in flat(run(*words, "-l", "red,green,blue").stderr)


def test_rows_that_are_bad_are_listed_and_the_others_counted(
    run: Run, model: str, labelled: Path, tmp_path: Path
) -> None:
    bad = ["pictures/missing.png,red", "pictures/0.png,", ",red", "pictures/broken.png,red"]
    (labelled.parent / "pictures" / "broken.png").write_bytes(b"no image")
    with labelled.open("a", encoding="utf-8") as file:
        file.write("\n".join(bad) + "\n")
    words = ["classify", "-l", "red,green,blue", "-m", model, "--evaluate", labelled]
    found = run(*words, "--json")
    assert found.exit_code == 3
    report = json.loads(found.stdout)
    assert report["images"] == 45
    assert len(report["rejected"]) == 4
    said = flat(found.stderr)
    for line, reason in ((47, "missing.png"), (48, "holds nothing"), (49, "nothing usable")):
        assert f"line {line}" in said
        assert reason in said
    with labelled.open("a", encoding="utf-8") as file:
        file.write("pictures/0.png,rde\n")
    found = run(*words)
    assert found.exit_code == 1
    assert "labelled.csv, line 51: 'rde' is not among the labels; did you mean 'red'?" in flat(
        found.stderr
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "platt"], "--method does nothing without --calibrate"),
        (["--save", "c.safetensors"], "--save does nothing without --calibrate"),
        (["--abstain", "accuracy=0.9"], "--abstain accuracy is learned from labelled images"),
        (["--page", "p.html", "--calibrate", "T"], "--page does nothing without --evaluate"),
        (["--evaluate", "T", "--page", "p.txt"], "--page p.txt must end in .html"),
        (["--classifier", "c", "--calibrate", "T"], "give either it or --calibrate"),
        (["--classifier", "c", "-l", "a,b"], "--classifier has its own labels"),
        (["--calibrate", "T", "--method", "plat"], "no 'plat'; did you mean 'platt'?"),
        (["--calibrate", "T", "--method", "platt,isotonic"], "one of platt, isotonic, not both"),
        (["--calibrate", "T", "--abstain", "acuracy=1"], "did you mean 'accuracy'?"),
        (["--calibrate", "T", "--abstain", "sets=2"], "sets must be a number above 0 and below 1"),
        (["--calibrate", "T", "--abstain", "sets"], "needs the form RULE=SHARE, such as"),
        (["--calibrate", "T", "--abstain", "confidence=0.8"], "confidence is about other promises"),
        (["--calibrate", "T", "--abstain", "confidence=0.8", "--abstain", "sets=0.8"], "or leave"),
        (["--calibrate", "T", "--id", "x", "a.png"], "--id names a column of a table among PATH"),
        (["a.png", "--id", "x"], "--id names a column of a table among PATH"),
        (["--calibrate", "-", "--evaluate", "-"], "standard input, -, can be read only once"),
        (["--calibrate", "-", "-"], "standard input, -, can be read only once"),
        (["--calibrate", "bad.png", "a.png"], "--calibrate bad.png must be a table"),
        (["--evaluate", "bad.png"], "--evaluate bad.png must be a table"),
        (["--calibrate", "T", "--method", "platt,platt"], "--method platt is given twice"),
        (["--classifier", "c", "--abstain", "accuracy=0.9", "a.png"], "in place of --classifier c"),
        (["--calibrate", "T", "--method", "several", "--abstain", "tree=0.8"], "for one label per"),
        (["--abstain", "tree=0.5"], "must be more than 0.5"),
        (["--calibrate", "T", "--abstain", "sets=0.9", "--abstain", "sets=0.8"], "given twice"),
        (["--calibrate", "T", "--calibrated"], "leave it out beside a classifier"),
        (["--evaluate", "T", "a.png"], "leave PATH out, or --evaluate"),
        (["--evaluate", "T", "-o", "a.csv"], "--out writes the answers for PATH"),
        (["--evaluate", "T", "-k", "2"], "--top-k is for the answers about PATH"),
        (["--calibrate", "T", "--save", "c.pt"], "must end in .safetensors"),
        (["--classifier", "c"], "name images, folders or tables"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    run: Run, labelled: Path, words: list[Any], message: str
) -> None:
    given = [str(labelled) if word == "T" else word for word in words]
    labels = [] if "--classifier" in words else ["-l", "a,b"]
    found = run("classify", *given, *labels)
    text = flat(found.stderr.replace("│", " "))
    assert found.exit_code in (1, 2)
    assert message in text


def test_too_few_images_and_one_label_are_explained_in_words_of_the_command(
    run: Run, model: str, labelled: Path, tmp_path: Path
) -> None:
    lines = labelled.read_text(encoding="utf-8").splitlines()
    few, one = labelled.with_name("few.csv"), labelled.with_name("one.csv")
    few.write_text("\n".join(lines[:5]) + "\n", encoding="utf-8")
    one.write_text("\n".join([lines[0], *lines[1::3]]) + "\n", encoding="utf-8")
    words = ["classify", "-l", "red,green,blue", "-m", model, "--save", tmp_path / "c.safetensors"]
    found = flat(run(*words, "--calibrate", few, "--method", "platt").stderr)
    assert "--method platt needs at least 20 labelled images, got 4: 16 are missing" in found
    assert "all labelled images are of 'red'" in flat(run(*words, "--calibrate", one).stderr)
    found = flat(run(*words, "--calibrate", labelled, "--method", "per-label").stderr)
    assert "leave --method per-label out, or use --method platt" in found
    found = flat(run(*words, "--calibrate", few, "--method", "probe").stderr)
    assert (
        "--method probe needs 2 images of each label, and 10 in all for the calibration by "
        "--method temperature, got 4: 6 are missing; add images."
    ) in found
    assert not (tmp_path / "c.safetensors").exists()


def test_what_is_learned_is_told_without_saving_it(run: Run, model: str, labelled: Path) -> None:
    words = ["classify", "-l", "red,green,blue", "-m", model, "--calibrate", labelled]
    found = run(*words)
    assert found.exit_code == 0, found.stderr
    assert "calibrated by temperature on 45 labelled images" in found.stderr
    assert "note: the classifier is not saved; add --save kinds.safetensors" in flat(found.stderr)
    assert "not saved" not in run(*words, labelled.parent / "pictures" / "0.png").stderr
    assert json.loads(run(*words, "--json").stdout)["fit"]["images"] == 45


def test_columns_and_rows_that_a_table_lacks_are_told_with_the_fix(
    run: Run, model: str, labelled: Path
) -> None:
    words = ["classify", "-l", "red,green,blue", "-m", model, "--calibrate", labelled]
    text = labelled.read_text(encoding="utf-8")
    for header, told in (
        (
            "file,label",
            "To fix it, give the name of the column of the images, as in --column file.",
        ),
        ("image,class", "To fix it, call the column of the labels 'label'."),
        ("file,class", "as in --column file, and call the column of the labels 'label'."),
    ):
        labelled.write_text(text.replace("image,label", header), encoding="utf-8")
        found = run(*words)
        assert found.exit_code == 1
        assert f"its columns: {header.replace(',', ', ')}" in flat(found.stderr)
        assert told in flat(found.stderr)
    labelled.write_text(text.replace("image,label", "file,label"), encoding="utf-8")
    assert run(*words, "--column", "file").exit_code == 0
    labelled.write_text("image,label\n", encoding="utf-8")
    assert "labelled.csv has no rows; write one for each image." in flat(run(*words).stderr)


def test_none_of_these_is_learned_from_rows_and_said(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    write(replace(tiny.checkpoint("vit"), calibration=Calibration(0.05, 0.3)), tmp_path / "model")
    lines = labelled.read_text(encoding="utf-8").replace(",blue", f",{NONE_OF_THESE}")
    labelled.write_text(lines, encoding="utf-8")
    found = run("classify", labelled.parent / "pictures", "-l", "red,green", "-m",
                tmp_path / "model", "--calibrate", labelled,
                "--method", "probe", "--json")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert f'15 of them "{NONE_OF_THESE}"' in found.stderr
    plain = run("classify", "-l", "red,green", "-m", tmp_path / "model", "--evaluate", labelled)
    assert plain.exit_code == 0, plain.stderr
    assert "known against unknown" in plain.stdout
