"""`ecliptic score`: tables, folders, vectors and standard input, and what is wrong with them."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

import ecliptic
from ecliptic import scoring
from ecliptic.cli.score_flags import SETS, ScoreFlags
from ecliptic.tasks import METRICS, SET_SCORES, ScoreSheet
from tests.cli.conftest import Run

CAPTIONS = ["a cat", "two dogs", "=1+2", "the sea"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A table of four images and captions, with images beside it."""
    rows = ["image,caption"]
    for seed, caption in enumerate(CAPTIONS):
        noise = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "a" / f"{seed}.png")
        rows.append(f"a/{seed}.png,{caption}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def read_json(run: Run, *words: Any, code: int = 0, **more: Any) -> Any:
    found = run("score", *words, "--json", **more)
    assert found.exit_code == code, found.stderr
    return json.loads(found.stdout)


def test_the_flag_has_every_score_of_the_library() -> None:
    hint = ScoreFlags.__annotations__["metric"]
    names = get_args(get_args(hint)[0])
    assert names == (*METRICS, *SET_SCORES)
    assert tuple(SET_SCORES) == SETS


def test_a_table_is_scored_with_its_mean_and_interval(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    captions = [*CAPTIONS, "a car", "a tree"]
    pairs.write_text(pairs.read_text() + "a/0.png,a car\na/1.png,a tree\n", encoding="utf-8")
    data = read_json(run, pairs, "--model", model, "--metric", "clip-t")
    clip = ecliptic.load(model)
    images = clip.encode_image([str(tmp_path / "a" / f"{i % 4}.png") for i in range(6)])
    cosines = scoring.pair_cosines(images, clip.encode_text(captions))
    assert data["mean"] == pytest.approx(float(cosines.mean()), abs=1e-6)
    assert data["median"] == pytest.approx(float(np.median(cosines.numpy())), abs=1e-6)
    interval = scoring.bootstrap(cosines)
    assert data["interval"] == pytest.approx([interval.low, interval.high], abs=1e-5)
    assert data["best"][0]["caption"] == captions[int(cosines.argmax())]
    shown = run("score", pairs, "--model", model, "--metric", "clip-t", "--examples", 1).stdout
    assert f"{data['mean']:.4f} (" in shown
    assert "95% bootstrap interval" in shown
    assert "6 rows" in shown
    assert "note: 6 rows are few" in shown
    assert "worst" in shown


def test_the_score_of_each_item_is_written_safe_for_spreadsheets(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    asked = ["score", pairs, "--model", model, "--per-item"]
    assert run(*asked, tmp_path / "s.csv").exit_code == 0
    assert run(*asked, tmp_path / "s.jsonl").exit_code == 0
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in lines] == CAPTIONS
    assert rows[2]["caption"] == "'=1+2"
    assert [float(row["score"]) for row in rows] == [line["score"] for line in lines]
    assert list(rows[0]) == ["row", "image", "caption", "score"]
    assert not (tmp_path / "s.csv.rejects.jsonl").exists()
    again = run(*asked, tmp_path / "s.csv")
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_bad_rows_are_listed_and_the_rest_counts(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    text = pairs.read_text() + "a/none.png,x\na/0.png,\na/1.png,\u0020\n"
    pairs.write_text(text, encoding="utf-8")
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    found = run("score", pairs, "--model", model, "--per-item", tmp_path / "s.jsonl", "--json")
    assert found.exit_code == 3
    data = json.loads(found.stdout)
    assert (data["n"], data["rejected"]) == (3, 4)
    for place in (4, 6, 7, 8):
        assert f"pairs.csv, line {place}" in found.stderr
    assert "nothing usable in column 'caption'" in found.stderr
    assert f"4 rejects in {tmp_path / 's.jsonl.rejects.jsonl'}" in found.stderr
    assert "3 rows; 4 rows were rejected" in run("score", pairs, "--model", model).stdout
    rejects = (tmp_path / "s.jsonl.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in rejects] == [2, 4, 5, 6]


def test_standard_input_has_json_lines(run: Run, model: str, pairs: Path, tmp_path: Path) -> None:
    rows = [
        {"image": str(tmp_path / "a" / f"{i}.png"), "caption": caption}
        for i, caption in enumerate(CAPTIONS)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    data = read_json(run, "-", "--model", model, input=lines)
    assert data["mean"] == read_json(run, pairs, "--model", model)["mean"]
    found = run("score", "-", "--model", model, input="image,caption\n")
    assert found.exit_code == 1
    assert "standard input, line 1: not JSON" in found.stderr


def test_stored_vectors_give_the_same_score(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(CAPTIONS) + "\n")
    out = [tmp_path / "images.npy", tmp_path / "texts.npy"]
    asked = ["--model", model, "--out"]
    assert (
        run("embed", *(tmp_path / "a" / f"{i}.png" for i in range(4)), *asked, out[0]).exit_code
        == 0
    )
    assert run("embed", "--texts", texts, *asked, out[1]).exit_code == 0
    data = read_json(run, *out, "--metric", "clip-t")
    peer = read_json(run, pairs, "--model", model, "--metric", "clip-t")
    assert data["mean"] == pytest.approx(peer["mean"], abs=1e-6)
    assert read_json(run, *out, "--metric", "torchmetrics")["n"] == 4
    for words, said in (
        (["--metric", "preference"], "needs more than vectors"),
        (["--columns", "image=a"], "--columns has no effect"),
        (["--prefix", "x"], "--prefix has no effect"),
    ):
        found = run("score", *out, *words)
        assert found.exit_code == 2
        assert said in " ".join(found.stderr.split())
    for words in (out, [out[0], out[0], "--metric", "clip-i"]):
        named = run("score", *words, "--model", model)
        assert "stored vectors need no model, so --model is not used" in named.stderr
    near = read_json(run, out[0], out[0], "--metric", "clip-i")
    assert near["n"] == [4, 4]
    same = read_json(run, tmp_path / "a", tmp_path / "a", "--metric", "clip-i", "--model", model)
    assert same["score"] == pytest.approx(near["score"], abs=1e-5)


def test_two_folders_are_compared_pair_by_pair(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    other = tmp_path / "b"
    other.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed + 9).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(other / f"{seed}.png")
    captions = tmp_path / "captions.csv"
    captions.write_text(pairs.read_text().replace("a/", ""), encoding="utf-8")
    asked = [tmp_path / "a", other, "--captions", captions, "--model", model, "--metric", "clip-t"]
    data = read_json(run, *asked, code=3)
    assert data["n"] == 3
    assert data["wins"] + data["losses"] + data["ties"] == 3
    one = read_json(run, *asked[1:], code=3)
    assert data["second"]["mean"] == pytest.approx(one["mean"], abs=1e-6)
    assert not data["tells"]
    assert data["interval"] is None
    assert "3 pairs are too few to tell a and b apart" in data["verdict"]
    found = run("score", *asked, "--per-item", tmp_path / "s.csv")
    assert "3 pairs are too few to tell a and b apart" in found.stdout
    assert "has no image of the name '3.png'" in found.stderr
    assert "sign-flip test" in found.stdout
    assert "a trails most" in found.stdout
    assert data["leads"][0]["score"] >= data["trails"][0]["score"]
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "first", "second", "caption", "first_score", "second_score"]
    assert any("published with ViT-B-32/openai" in note for note in data["notes"])
    assert "note: published with ViT-B-32/openai" in found.stdout


def test_what_is_said_fits_into_a_terminal(
    run: Run, model: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    captions = tmp_path / "captions.csv"
    captions.write_text(pairs.read_text().replace("a/", ""), encoding="utf-8")
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "b" / "1.png")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)  # long paths are not wrapped
    two = run("score", "a", "b", "--captions", captions.name, "--model", model)
    assert "too few to tell" in two.stdout
    assert max(map(len, two.stdout.splitlines())) <= 80
    one = run("score", pairs, "--metric", "preference", "--model", model).stdout
    assert "published with a checkpoint" in one
    notes = one[one.index("note: ") : one.index("\n\n")]
    assert max(map(len, notes.splitlines())) <= 80


def test_one_pair_has_means_without_an_interval(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\n0.png,a cat\n9.png,a dog\n", encoding="utf-8")
    asked = [tmp_path / "a", tmp_path / "b", "--captions", captions, "--model", model]
    data = read_json(run, *asked, code=3)
    assert data["n"] == 1
    assert data["first"]["mean"] == data["second"]["mean"]
    assert data["interval"] is data["p"] is data["verdict"] is None
    found = run("score", *asked, "--per-item", tmp_path / "s.csv")
    assert found.exit_code == 3
    assert "1 row is too few for an interval; score 10 rows or more." in found.stdout
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 2


def test_scores_before_ctrl_c_are_written(
    run: Run, model: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.tasks.scores.scorer.ROWS", 3)
    advance = ScoreSheet.add

    def add(self: ScoreSheet, batch: Any) -> None:
        advance(self, batch)
        raise KeyboardInterrupt

    monkeypatch.setattr(ScoreSheet, "add", add)
    found = run("score", pairs, "--model", model, "--per-item", tmp_path / "s.jsonl")
    assert found.exit_code == 130
    assert "interrupted after 3 rows" in found.stderr
    assert "3 scores in" in found.stderr
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    assert [json.loads(line)["caption"] for line in lines] == CAPTIONS[:3]


def test_many_rejects_are_counted_and_the_file_has_all(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    pairs.write_text(pairs.read_text() + "none.png,x\n" * 30, encoding="utf-8")
    found = run("score", pairs, "--model", model, "--per-item", tmp_path / "s.csv")
    assert found.exit_code == 3
    assert found.stderr.count("rejected") == 20
    assert f"and 10 more, all are in {tmp_path / 's.csv.rejects.jsonl'}" in found.stderr
    assert len((tmp_path / "s.csv.rejects.jsonl").read_text().splitlines()) == 30
    pairs.write_text("image,caption\n" + "none.png,x\n" * 30, encoding="utf-8")
    found = run("score", pairs, "--model", model, "--per-item", tmp_path / "n.csv")
    assert found.exit_code == 1
    assert "none of the items could be used" in found.stderr
    assert not (tmp_path / "n.csv").exists()
    assert len((tmp_path / "n.csv.rejects.jsonl").read_text().splitlines()) == 30


def test_a_level_is_shown_as_it_is(run: Run, model: str, pairs: Path) -> None:
    pairs.write_text(pairs.read_text() + "a/0.png,a car\n", encoding="utf-8")
    shown = run("score", pairs, "--model", model, "--level", "0.999", "--metric", "clip-t").stdout
    assert "99.9% bootstrap interval" in shown


def test_images_alone_have_a_quality(run: Run, model: str, pairs: Path, tmp_path: Path) -> None:
    del pairs
    data = read_json(run, tmp_path / "a", "--metric", "iqa", "--model", model)
    assert data["n"] == 4
    other = read_json(
        run, tmp_path / "a", "--metric", "iqa", "--words", "calm,wild", "--model", model
    )
    assert other["mean"] != data["mean"]


def test_long_captions_are_cut_and_counted(run: Run, model: str, pairs: Path) -> None:
    pairs.write_text(pairs.read_text() + f"a/0.png,{'cat ' * 90}\n", encoding="utf-8")
    found = run("score", pairs, "--model", model, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["cut"] == 1
    [note] = [note for note in json.loads(found.stdout)["notes"] if "too long" in note]
    assert "line 6 loses 'cat cat" in note
    assert "too long" not in found.stderr
    shown = run("score", pairs, "--model", model).stdout
    assert shown.count("too long") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["P", "--captions", "P"], "--captions belongs to folders"),
        (["P", "--columns", "image"], "must be names with ="),
        (["P", "--columns", "picture=x"], "reads no 'picture'"),
        (["P", "--metric", "cmmd"], "compares two sets of images"),
        (["A"], "need --captions FILE"),
        (["A", "A", "A"], "name one table, one or two folders"),
        (["P", "A"], "name one table, one or two folders"),
        (["A", "--metric", "iqa", "--captions", "P"], "reads no captions"),
        (["A", "--metric", "directional", "--captions", "P"], "needs a table"),
        (["A", "A", "--metric", "preference", "--captions", "P"], "two generators use clip-t"),
        (["P", "--metric", "iqa", "--words", "good"], "two texts with a comma"),
        (["P", "--metric", "iqa", "--words", "a, a"], "two words of iqa are equal"),
        (["P", "--columns", "caption=a,caption=b"], "the column of one thing twice"),
        (["P", "--metric", "preference", "--columns", "group=g"], "groups would have no effect"),
        (["A", "A", "--metric", "cmmd", "--columns", "image=x"], "--columns has no effect on cmmd"),
        (["A", "A", "--captions", "P"], "are one folder"),
        (["P", "--metric", "iqa", "--prefix", "x"], "so it has no prefix"),
        (["P", "--words", "a,b"], "takes no words"),
        (["A", "A", "--metric", "cmmd", "--prefix", "x"], "--prefix has no effect"),
        (["A", "A", "--metric", "cmmd", "--columns", "caption=x"], "reads only the column of"),
        (["A", "A", "--metric", "cmmd", "--per-item", "s.csv"], "--per-item has no effect"),
        (["A", "A", "--metric", "cmmd", "--level", "0.9"], "--level has no effect"),
        (["A", "A", "--metric", "clip-i", "--examples", "1"], "--examples has no effect"),
        (["P", "--per-item", "s.txt"], "must end in .csv or .jsonl"),
        (["P", "--level", "1"], "'--level': a level is a share from 0.5 to 0.999; got 1."),
        (["P", "--level", "95"], "0.999, such as 0.95 for 95 %; got 95."),
        (["P", "--metric", "clip_t"], "'cmmd-published'; did you mean 'clip-t'?"),
        (["P", "--seed", "-1"], "must be 0 or more."),
        (["P", "--seed", "a"], "must be a whole number."),
    ],
)
def test_what_does_not_fit_together_is_wrong_usage(
    run: Run, model: str, pairs: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    paths = {"P": str(pairs), "A": str(tmp_path / "a")}
    found = run("score", *(paths.get(word, word) for word in words), "--model", model)
    assert found.exit_code == 2, found.output
    assert said in " ".join(found.stderr.split())


def test_what_is_missing_is_said_before_the_work(run: Run, model: str, tmp_path: Path) -> None:
    for given, said in (
        (["none.csv"], "there is no file none.csv"),
        (["none"], "there is no file or folder none;"),
        ([tmp_path, "none", "--captions", "c.csv"], "there is no file or folder none;"),
        ([tmp_path, "n" * 5000, "--captions", "c.csv"], "there is no file or folder nnn"),
    ):
        found = run("score", *given, "--model", model)
        assert found.exit_code == 1
        assert said in found.stderr


def test_a_table_without_rows_or_columns_is_named(
    run: Run, model: str, pairs: Path, tmp_path: Path
) -> None:
    empty, other = tmp_path / "empty.csv", tmp_path / "other.csv"
    empty.write_text("image,caption\n", encoding="utf-8")
    other.write_text("file,text\na/0.png,a cat\n", encoding="utf-8")
    for given, said in (
        ([empty], f"{empty} has no rows"),
        ([tmp_path / "a", "--captions", empty], f"{empty} has no rows"),
        ([other], "Name yours with --columns image=NAME,caption=NAME."),
        ([other, "--columns", "image=file"], "Name yours with --columns caption=NAME."),
        ([other, "--metric", "iqa"], "no column 'image'; its columns: file, text. Name yours with"),
        ([other, "--columns", "image=f,caption=text"], "no column 'f'; its columns: file, text."),
        ([tmp_path / "a", "--captions", pairs], "to the folder, so write '0.png'"),
    ):
        found = run("score", *given, "--model", model)
        assert found.exit_code == 1, given
        assert said in found.stderr
    assert "Name yours" not in run("score", other, "--columns", "image=f,caption=text").stderr
    found = run("score", "-", "--model", model, input="")
    assert "standard input has no rows" in found.stderr
