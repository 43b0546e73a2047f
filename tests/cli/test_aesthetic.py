"""`ecliptic aesthetic`: trains a head, scores with it, ranks, filters, and writes what it found."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.checkpoints import write
from ecliptic.engine import Vectors, load, load_vectors
from ecliptic.tasks import AestheticHead
from tests import tiny
from tests.cli.conftest import Run

COUNT = 30


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures from dark to light, and their ratings: light ones are liked."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = noise.integers(0, 60, (40, 40, 3)) + 6 * number
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"p{number:02}.png")
    rows = "".join(f"p{number:02}.png,{number / 3:.2f}\n" for number in range(COUNT))
    (folder / "ratings.csv").write_text("image,rating\n" + rows, encoding="utf-8")
    return folder


@pytest.fixture
def head(model: str, tmp_path: Path) -> Path:
    """A head of the tiny model with random weights."""
    card = load(model).card
    weight = torch.randn(card.embed, generator=torch.Generator().manual_seed(0)).double()
    path = tmp_path / "head.safetensors"
    AestheticHead(weight, 5.0, card.name, card.space, "random").save(path)
    return path


# --- training ----------------------------------------------------------------------------------


def test_a_head_is_trained_saved_and_used(
    run: Run, model: str, pictures: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "light.safetensors"
    words = ["aesthetic", "--train", pictures / "ratings.csv", "--save", saved, "-m", model]
    found = run(*words)
    assert found.exit_code == 0, found.stderr
    for part in ("rated images", "30", "Spearman", "learning curve", "mean error", "of always"):
        assert part in found.stdout
    assert f"head for {load(model).card.name} in {saved}" in flat(found.stderr)
    assert "30 of 30 rows used" in found.stderr
    assert "warning" not in found.stderr
    ranked = run("aesthetic", pictures, "--head", saved, "-m", model, "--json")
    images = json.loads(ranked.stdout)["images"]
    places = [int(Path(one["image"]).stem[1:]) for one in images]
    assert np.corrcoef(places, range(COUNT))[0, 1] < -0.8, "light ones are first"
    again = run(*words)
    assert again.exit_code == 1
    assert "exists; pass --force" in again.stderr
    assert run(*words, "--force").exit_code == 0


def test_training_and_scoring_are_one_command(run: Run, model: str, pictures: Path) -> None:
    found = run(
        "aesthetic",
        pictures,
        "--train",
        pictures / "ratings.csv",
        "-m",
        model,
        "--best",
        3,
        "--json",
    )
    assert found.exit_code == 0, found.stderr
    told = json.loads(found.stdout)
    assert [one["rank"] for one in told["images"]] == [1, 2, 3]
    assert told["scored"] == COUNT
    assert told["training"]["images"] == COUNT
    assert told["training"]["useful"] is True
    low, value, high = (told["training"]["spearman"][k] for k in ("low", "value", "high"))
    assert low < value < high
    assert "the head is not saved; add --save" in found.stderr


def test_choices_and_groups_train_too(run: Run, model: str, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "choices.csv"
    pairs = [(a, (a * 7 + 3) % COUNT) for a in range(COUNT)]
    rows = [(max(p), min(p), f"g{p[0] % 6}") for p in pairs if p[0] != p[1]]
    names = [[str(pictures / f"p{better:02}.png"), str(pictures / f"p{worse:02}.png"), group]
             for better, worse, group in rows]  # fmt: skip
    table.write_text("\n".join(map(",".join, [["better", "worse", "group"], *names])))
    found = run("aesthetic", "--train", table, "-m", model)
    assert found.exit_code == 0, found.stderr
    for part in ("choices", "6, each tested as a whole", "accuracy", "0.5 is chance", "log loss"):
        assert part in found.stdout


def test_bad_rows_are_listed_and_the_rest_is_counted(
    run: Run, model: str, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "bad.png").write_bytes(b"no image")
    good = (pictures / "ratings.csv").read_text()
    table = pictures / "some.csv"
    table.write_text(good + "p01.png,\nbad.png,3\nnone.png,4\n", encoding="utf-8")
    saved = tmp_path / "h.safetensors"
    found = run("aesthetic", "--train", table, "--save", saved, "-m", model)
    (pictures / "bad.png").unlink()
    assert found.exit_code == 3, found.stderr
    assert "30 of 33 rows used" in found.stderr
    for row in ("some.csv, line 32", "some.csv, line 33", "some.csv, line 34"):
        assert row in found.stderr
    listed = Path(f"{saved}.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in listed] == [30, 31, 32]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(f"p{n:02}.png", n) for n in range(12)], "needed at least, got 12; add 8 or more"),
        ([(f"p{n:02}.png", 4) for n in range(25)], "all 25 ratings are 4, so there is nothing"),
        ([("none.png", 4)], "needed at least, got 0"),
    ],
)
def test_ratings_that_teach_nothing_are_refused(
    run: Run, model: str, pictures: Path, rows: list[Any], message: str
) -> None:
    table = pictures / "few.csv"
    table.write_text("image,rating\n" + "".join(f"{a},{b}\n" for a, b in rows))
    found = run("aesthetic", "--train", table, "-m", model)
    assert found.exit_code == 1, found.stderr
    assert message in flat(found.stderr)


def test_columns_that_are_not_used_are_named(run: Run, model: str, pictures: Path) -> None:
    text = (
        (pictures / "ratings.csv")
        .read_text()
        .replace("\n", ",x\n")
        .replace("rating,x", "rating,by")
    )
    (pictures / "by.csv").write_text(text)
    found = run("aesthetic", "--train", pictures / "by.csv", "-m", model)
    assert "note: columns that are not used: by" in found.stderr


def test_ratings_by_chance_give_a_warning(run: Run, model: str, pictures: Path) -> None:
    ratings = np.random.default_rng(3).permutation(COUNT)
    rows = "".join(f"p{n:02}.png,{rating}\n" for n, rating in enumerate(ratings))
    (pictures / "chance.csv").write_text("image,rating\n" + rows)
    found = run("aesthetic", "--train", pictures / "chance.csv", "-m", model)
    assert "not surely better than chance" in found.stderr


# --- scoring -----------------------------------------------------------------------------------


def test_images_are_ranked_with_the_numbers_of_the_api(
    run: Run, model: str, images: Path, head: Path, tmp_path: Path
) -> None:
    found = run("aesthetic", images, "--head", head, "-m", model)
    assert found.exit_code == 3
    assert "broken.png" in found.stderr
    assert "rank  score" in found.stdout
    files = [str(images / "a.png"), str(images / "sub/b.png")]
    scores = AestheticHead.load(head).score(files, load(model)).tolist()
    wanted = [
        {"image": name, "rank": rank, "score": pytest.approx(score, abs=1e-5)}
        for rank, (score, name) in enumerate(sorted(zip(scores, files, strict=True))[::-1], start=1)
    ]
    for name in ("r.csv", "r.jsonl"):
        words = ["aesthetic", images, "--head", head, "-m", model, "-o", tmp_path / name, "--json"]
        told = run(*words)
        assert json.loads(told.stdout)["images"] == wanted
    assert len(json.loads(told.stdout)["rejected"]) == 1
    assert Path(f"{tmp_path}/r.csv.rejects.jsonl").exists()
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [one["image"] for one in wanted]
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == wanted


def test_the_best_are_kept_and_the_others_counted(
    run: Run, model: str, pictures: Path, head: Path, tmp_path: Path
) -> None:
    words = ["aesthetic", pictures, "--head", head, "-m", model]
    told = json.loads(run(*words, "--json").stdout)["images"]
    best = run(*words, "--best", 4)
    assert best.stdout.count(".png") == 4
    assert "4 images of 30 kept, 26 left out" in best.stderr
    least = told[9]["score"]
    high = json.loads(run(*words, "--min", least - 1e-5, "--json").stdout)
    assert len(high["images"]) == 10
    assert high["scored"] == COUNT
    none = run(*words, "--min", 1e9)
    assert (none.exit_code, none.stdout) == (0, "")
    assert "0 images of 30 kept" in none.stderr


def test_the_contact_sheet_shows_the_best_and_the_lowest(
    run: Run, model: str, pictures: Path, head: Path, tmp_path: Path
) -> None:
    page = tmp_path / "best.html"
    words = ["aesthetic", pictures, "--head", head, "-m", model, "--best", 5, "--page", page]
    assert run(*words).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "Best 5 of 30 images" in text
    assert text.count("data:image/") == 5 + 12
    assert text.index("rank 1<") < text.index("Lowest scores") < text.index("rank 30<")
    assert str(pictures) not in text
    assert "exists" in run(*words).stderr


def test_stored_vectors_are_scored_without_the_model(
    run: Run, model: str, images: Path, head: Path, tmp_path: Path
) -> None:
    vectors = tmp_path / "v.npy"
    run("embed", images / "a.png", images / "sub/b.png", "-m", model, "-o", vectors)
    found = run("aesthetic", vectors, "--head", head, "-m", "no such model", "--json")
    assert found.exit_code == 0, found.stderr
    assert "so --model is not used" in found.stderr
    asked = run("aesthetic", images / "a.png", images / "sub/b.png", "--head", head, "-m", model,
                "--json")  # fmt: skip
    ours, theirs = (json.loads(one.stdout)["images"] for one in (found, asked))
    assert [one["score"] for one in ours] == pytest.approx(
        [one["score"] for one in theirs], abs=1e-5
    )
    page = tmp_path / "p.html"
    assert run("aesthetic", vectors, "--head", head, "--page", page).exit_code == 0
    assert page.read_text().count("no picture") == 2


def stored(run: Run, model: str, images: Path, rows: Any, path: Path) -> None:
    """Save these rows as vectors of the model."""
    from ecliptic.engine import save_vectors

    save_vectors(path, rows, load(model).card, [f"row {n}" for n in range(len(rows))])


def test_zero_and_raw_vectors_get_no_score(
    run: Run, model: str, images: Path, head: Path, tmp_path: Path
) -> None:
    width = load(model).card.embed
    rows = torch.nn.functional.normalize(torch.randn(3, width), dim=-1)
    rows[1] = 0
    stored(run, model, images, rows, tmp_path / "zero.npy")
    found = run("aesthetic", tmp_path / "zero.npy", "--head", head)
    assert found.exit_code == 3
    assert "rejected row 1: the vector is all zeros" in flat(found.stderr)
    assert found.stdout.count("row ") == 2
    stored(run, model, images, rows * 9, tmp_path / "raw.npy")
    raw = run("aesthetic", tmp_path / "raw.npy", "--head", head)
    assert raw.exit_code == 1
    assert "has length 9, but the head 'random' is for unit vectors" in flat(raw.stderr)


def test_another_model_is_refused_before_the_work(
    run: Run, model: str, images: Path, head: Path, tmp_path: Path
) -> None:
    write(tiny.checkpoint("vit", seed=4), tmp_path / "other")
    found = run("aesthetic", images, "--head", head, "-m", tmp_path / "other")
    assert found.exit_code == 1
    assert "load that model, or train a head for this one" in flat(found.stderr)
    vectors = tmp_path / "v.npy"
    run("embed", images / "a.png", "-m", tmp_path / "other", "-o", vectors)
    assert isinstance(load_vectors(vectors), Vectors)
    assert "load that model" in flat(run("aesthetic", vectors, "--head", head).stderr)


def test_a_least_score_that_no_image_has_is_told(
    run: Run, model: str, pictures: Path, head: Path, tmp_path: Path
) -> None:
    page, out = tmp_path / "p.html", tmp_path / "all.csv"
    asked = ["aesthetic", pictures, "--head", head, "-m", model]
    found = run(*asked, "--min", 100, "--page", page)
    assert found.exit_code == 0, found.stderr
    assert found.stdout == ""
    assert f"0 images of {COUNT} kept, {COUNT} left out" in found.stderr
    scores = [one["score"] for one in json.loads(run(*asked, "--json").stdout)["images"]]
    told = re.search(r"the scores are from (\S+) to (\S+); lower --min", found.stderr)
    assert told
    assert [float(end) for end in told.groups()] == pytest.approx([scores[-1], scores[0]], abs=5e-3)
    assert "No image was kept: the scores by " in flat(page.read_text())
    assert "and 10 more; --out FILE writes all" in run(*asked).stdout
    assert "and 10 more; " + f"{out} has all" in run(*asked, "--out", out).stdout
    assert "more" not in run(*asked, "--best", 25).stdout


# --- usage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png"], "None comes with ecliptic: nobody has published ratings of drawings"),
        (["a.png", "--head", "h", "--train", "t.csv"], "either --head FILE or --train TABLE"),
        (["a.png", "--head", "h", "--save", "s"], "--save has no effect without --train TABLE"),
        (["--train", "t.csv", "--backbone", "b"], "--backbone has no effect without --head FILE"),
        (["--train", "t.csv", "--save", "s.pt"], "must end in .safetensors"),
        (["--train", "t.csv", "--best", 3], "--best has no effect without images"),
        (["--train", "t.csv", "--page", "p.html"], "--page has no effect without images"),
        (["--train", "t.csv", "--column", "x"], "--column has no effect without images"),
        (["a.png", "--head", "h", "--column", "x"], "--column has no effect without a table"),
        (["a.png", "--head", "h", "--id", "x"], "--id has no effect without a table"),
        (["a.png", "--head", "h", "--page", "p.png"], "--page p.png must end in .html"),
        (["a.png", "--head", "h", "--force"], "--force has no effect without --out, --page or"),
        (["a.png", "--head", "h", "--min", "nan"], "--min must be a finite number"),
        (["--head", "h"], "name images, folders or tables"),
        (["a.png", "--head", "h", "--out", "x.txt"], "must end in .csv or .jsonl"),
    ],
)
def test_wrong_usage_is_explained(
    run: Run, words: list[Any], message: str, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)  # a.png is there
    found = run("aesthetic", *words)
    assert found.exit_code == 2, found.stderr
    assert message in flat(found.stderr.replace("│", " "))


def test_a_head_that_is_not_known_needs_its_model(run: Run, images: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.randn(1, 512), "bias": torch.zeros(1)}, tmp_path / "h.pth")
    found = run("aesthetic", images, "--head", tmp_path / "h.pth")
    assert found.exit_code == 1
    assert "pass --backbone" in flat(found.stderr)
    assert "backbone=" not in found.stderr
